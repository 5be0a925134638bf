"""Trains the small network on several devices or processes; prints each step's loss.

On TensorFlow nothing is dropped at random: mirrored devices draw otherwise than one device.

    python distributed_program.py FOLDER DISTRIBUTION DEVICES [COORDINATOR PROCESSES ID [KILL]]

Where KILL is "2.1", the process kills itself after step 1 of epoch 2; where it is "2.1 TERM", it
is told to end there, as a scheduler does, and the processes end with status 3.
"""

import dataclasses
import functools
import json
import os
import signal
import sys

import keras
import small_training

from keras_hybrid.training.distribution.cluster import (
    ProcessLostError,
    cluster_from_flags,
    end_process,
)
from keras_hybrid.training.distribution.opening import open_distribution
from keras_hybrid.training.run import run
from keras_hybrid.training.run.interruption import TrainingStoppedError

folder, name, devices, *rest = sys.argv[1:]
place, kill = rest[:3], rest[3] if len(rest) > 3 else ""


class Losses(keras.callbacks.Callback):
    """Losses step by step, out of the running mean that Keras gives."""

    def __init__(self):
        super().__init__()
        self.losses = []

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch, self.sum = epoch, 0.0

    def on_train_batch_end(self, batch, logs=None):
        total = float(logs["loss"]) * (batch + 1)
        self.losses.append(total - self.sum)
        self.sum = total
        if kill.split()[:1] == [f"{self.epoch}.{batch}"]:
            os.kill(os.getpid(), signal.SIGTERM if kill.endswith("TERM") else signal.SIGKILL)


cluster = None
if place:
    coordinator, processes, process_id = place[0], int(place[1]), int(place[2])
    cluster = cluster_from_flags(
        coordinator, processes, process_id, start_timeout=120, heartbeat_timeout=10
    )
recipe = small_training.DISTRIBUTED_RECIPE
if keras.backend.backend() == "jax":  # 20 steps again; mirrored devices refuse to accumulate
    recipe = dataclasses.replace(recipe, accumulation_steps=2, epochs=5)
run.new_network = functools.partial(
    small_training.make_tiny_network, random=keras.backend.backend() == "jax"
)
losses = Losses()
try:
    distribution = open_distribution(name, int(devices), cluster)
    finished = run.train(
        recipe,
        small_training.make_source(),
        folder,
        callbacks=(losses,),
        distribution=distribution,
    )
except TrainingStoppedError as stopped:
    print(json.dumps({"losses": losses.losses, "stopped": str(stopped)}))
    sys.exit(3)
except (ValueError, ProcessLostError) as error:
    end_process(f"refused: {error}")
print(json.dumps({"losses": losses.losses, "writes": finished is not None}))
