"""Training on one device, or on several of one machine with `tf.distribute`.

JAX' way beyond one machine is in `data_parallel`. Both give the losses of one device with the same
global batch.
"""

import contextlib

import keras

from keras_hybrid.training.data.process_share import ALONE, Share
from keras_hybrid.training.recipe.recipe import Recipe

DISTRIBUTIONS = ("none", "mirrored", "data_parallel")


class Distribution:
    """One device: what a run asks of a distribution, and what it gets where there is nothing to do.

    Attributes:
        share: what the process reads of each batch.
        changes_layers: whether `join_layers` changes what a saved model would hold.
    """

    share: Share = ALONE
    changes_layers: bool = False

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes and prints."""
        return self.share.index == 0

    def check(self, recipe: Recipe):
        """Checks that a recipe can be trained so.

        Raises:
            ValueError: where it cannot.
        """
        self.share.check(recipe.step_batch_size)

    @contextlib.contextmanager
    def scope(self):
        """Where the model is built and trained."""
        yield

    def join_layers(self, network: keras.Model):
        """Makes a new network's layers work as one across devices."""

    def part_draws(self, network: keras.Model):
        """Makes random layers draw apart on each device; after the state has been loaded."""

    def broadcast(self, content: bytes | None) -> bytes | None:
        """The first process' content, in all processes."""
        return content

    def decide(self, value: bool) -> bool:
        """The first process' truth value, in all processes."""
        return self.broadcast(b"" if value else None) is not None

    def agree(self, name: str, value: str):
        """Checks that all processes were started for the same run.

        Raises:
            ValueError: in those where the value is not the first process'.
        """


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

    def join_layers(self, network):
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


def check_backend(name: str, backend: str):
    """Checks that Keras runs on the backend that a distribution needs.

    Raises:
        ValueError: where it does not.
    """
    if keras.backend.backend() != backend:
        raise ValueError(
            f"`distribute={name}` needs KERAS_BACKEND={backend}. "
            f"Received: the backend {keras.backend.backend()!r}"
        )


def check_count(devices: int | None):
    """Checks a number of devices that was asked for.

    Raises:
        ValueError: for less than one.
    """
    if devices is not None and devices < 1:
        raise ValueError(f"`devices` must be 1 or more. Received: devices={devices}")


def check_found(devices: int | None, found: int):
    """Checks that there are as many devices as were asked for.

    Raises:
        ValueError: where there are not.
    """
    if devices is not None and devices > found:
        raise ValueError(f"This process has {found} devices. Received: devices={devices}")


def open_distribution(name: str, devices: int | None = None, cluster=None) -> Distribution:
    """The distribution of a name.

    Call it before anything is computed.

    Args:
        name: one of `DISTRIBUTIONS`.
        devices: of this process; None for all GPUs or TPUs.
        cluster: a `cluster.Cluster`, for "data_parallel".

    Raises:
        ValueError: for an unknown name, another backend than it needs, too few devices, or
            arguments that it has no use for.
    """
    if name not in DISTRIBUTIONS:
        raise ValueError(f"`distribute` must be one of {DISTRIBUTIONS}. Received: {name!r}")
    if name != "data_parallel" and cluster is not None and cluster.is_given:
        raise ValueError(
            "Several processes train with `distribute=data_parallel`. "
            f"Received: distribute={name}, {cluster}"
        )
    if name == "none":
        if devices not in (None, 1):
            raise ValueError(
                "Several devices need `distribute=mirrored` or `distribute=data_parallel`. "
                f"Received: distribute=none, devices={devices}"
            )
        return Distribution()
    if name == "mirrored":
        return Mirrored(devices)
    from keras_hybrid.training.distribution.data_parallel import DataParallel  # needs JAX

    return DataParallel(devices, cluster)
