"""Training on several devices of one machine with `tf.distribute`."""

import contextlib

import keras

from keras_hybrid.training.data.process_share import Share
from keras_hybrid.training.distribution.distribution import (
    Distribution,
    check_backend,
    check_count,
    check_found,
)


class Mirrored(Distribution):
    """`tf.distribute.MirroredStrategy`: several devices of one machine, on TensorFlow.

    Batch norms see the whole batch (`synchronized`), and random layers draw apart on each device.

    Args:
        devices: how many; None for all GPUs. Without a GPU, the CPU is split into that many
            logical devices, which is of use for tests only.

    Raises:
        ValueError: on another backend, or for more devices than there are.
    """

    changes_layers = True

    def __init__(self, devices: int | None = None):
        check_backend("mirrored", "tensorflow")
        check_count(devices)
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        if gpus:
            names = [f"GPU:{index}" for index in range(devices or len(gpus))]
            check_found(devices, len(gpus))
        else:
            names = [f"CPU:{index}" for index in range(devices or 1)]
            self._split_cpu(tf, len(names))
        self._strategy = tf.distribute.MirroredStrategy(names)
        self.share = Share(devices=len(names))

    @staticmethod
    def _split_cpu(tf, count):
        (cpu,) = tf.config.list_physical_devices("CPU")
        parts = [tf.config.LogicalDeviceConfiguration()] * count
        # Refused where TensorFlow has begun to compute; then the devices are what they are.
        with contextlib.suppress(RuntimeError):
            tf.config.set_logical_device_configuration(cpu, parts)
        check_found(count, len(tf.config.list_logical_devices("CPU")))

    @contextlib.contextmanager
    def scope(self):
        with self._strategy.scope():
            yield

    def check(self, recipe):
        super().check(recipe)
        if recipe.accumulation_steps > 1:  # Keras sums gradients in a branch, TensorFlow refuses
            raise ValueError(
                "Gradients do not accumulate on mirrored devices; `distribute=data_parallel` on "
                f"JAX does so. Received: accumulation_steps={recipe.accumulation_steps}"
            )

    def join_layers(self, network, recipe):
        if recipe.batch_norm_per_device:
            return
        for layer in network.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = True

    def part_draws(self, network):
        for variable in network.variables:
            if not variable.path.endswith("seed_generator_state"):
                continue
            # The state is (seed, count of draws); the first device's is what is saved.
            for index, replica in enumerate(variable.value.values):
                replica.assign_add([index, 0])
