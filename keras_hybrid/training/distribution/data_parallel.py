"""Training on JAX with `keras.distribution`: the devices of one process, or of many on many hosts.

Weights are on every device, batches are split among them, and the compiled step is that of the
global batch: statistics of batch norms and gradients are those of one device.
"""

import contextlib

import jax
import keras
import numpy as np
from jax.experimental import multihost_utils

from keras_hybrid.training.data.process_share import Share
from keras_hybrid.training.distribution.cluster import Cluster, ProcessLostError, is_loss, join
from keras_hybrid.training.distribution.distribution import (
    Distribution,
    check_backend,
    check_count,
    check_found,
)


class DataParallel(Distribution):
    """`keras.distribution.DataParallel` over all processes of a cluster.

    Args:
        devices: how many of each process; None for all. Without a GPU or TPU, JAX' CPU is split
            into that many, which is of use for tests only.
        cluster: where the process stands among others; None for alone.

    Raises:
        ValueError: on another backend, or for more devices than there are.
    """

    def __init__(self, devices: int | None = None, cluster: Cluster | None = None):
        check_backend("data_parallel", "jax")
        check_count(devices)
        if devices is not None:
            # Refused where JAX has begun to compute; then the devices are what they are.
            with contextlib.suppress(RuntimeError):
                jax.config.update("jax_num_cpu_devices", devices)
        if cluster is not None:
            join(cluster)
        check_found(devices, jax.local_device_count())
        count = devices or jax.local_device_count()
        by_process = {}
        for device in jax.devices():
            by_process.setdefault(device.process_index, []).append(device)
        chosen = [device for _, local in sorted(by_process.items()) for device in local[:count]]
        self._distribution = keras.distribution.DataParallel(
            devices=[f"{device.platform}:{device.id}" for device in chosen],
            auto_shard_dataset=False,  # the pipeline reads the process' share only
        )
        self.share = Share(jax.process_index(), jax.process_count(), len(chosen))

    def check(self, recipe):
        super().check(recipe)
        if recipe.batch_norm_per_device:
            raise ValueError(
                "On JAX the compiled step is that of the whole batch, batch norms included; "
                "`distribute=mirrored` on TensorFlow has them for each device. Received: "
                "batch_norm_per_device=True"
            )

    @contextlib.contextmanager
    def scope(self):
        try:
            with self._distribution.scope():
                yield
        except Exception as error:
            if self.share.processes == 1 or not is_loss(error):
                raise
            raise ProcessLostError(
                "Another process of this run has ended, or cannot be reached any more; this is "
                f"process {self.share.index} of {self.share.processes}. Start all of them again "
                "with the same commands: the run goes on after its last finished epoch. "
                f"JAX says: {error}"
            ) from error

    def told_to_stop(self, step):
        return multihost_utils.reached_preemption_sync_point(step)

    @contextlib.contextmanager
    def apart(self):
        keras.distribution.set_distribution(None)
        try:
            yield
        finally:
            keras.distribution.set_distribution(self._distribution)

    def broadcast(self, content):
        if self.share.processes == 1:
            return content
        size = -1 if content is None else len(content)
        size = int(multihost_utils.broadcast_one_to_all(np.int32(size)))
        if size < 0:
            return None
        array = np.zeros(size, "uint8")
        if self.is_main:
            array[:] = np.frombuffer(content, "uint8")
        return multihost_utils.broadcast_one_to_all(array).tobytes()

    def agree(self, name, value):
        first = self.broadcast(value.encode()).decode()
        if first != value:
            raise ValueError(
                f"All processes must be started with the same {name}. Received: in process "
                f"{self.share.index} {value}, in process 0 {first}"
            )
