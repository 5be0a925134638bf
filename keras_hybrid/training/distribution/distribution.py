"""What a run asks of the devices that it is trained on, answered for one device.

Several devices of one machine are in `mirrored`, JAX' way beyond one machine in `data_parallel`.
Both give the losses of one device with the same global batch.
"""

import contextlib

import keras

from keras_hybrid.training.data.process_share import ALONE, Share
from keras_hybrid.training.recipe.common import CommonRecipe


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

    def check(self, recipe: CommonRecipe):
        """Checks that a recipe can be trained so.

        Raises:
            ValueError: where it cannot.
        """
        self.share.check(recipe.step_batch_size)

    def describe(self) -> str:
        """Backend, devices and processes, in words."""
        devices, processes = self.share.devices, self.share.processes
        return (
            f"{keras.backend.backend()}, {devices} device{'s' * (devices > 1)}, "
            f"{processes} process{'es' * (processes > 1)}"
        )

    def told_to_stop(self, step: int) -> bool:
        """Whether some process was told to end, after a step on which all of them agree.

        Args:
            step: of this process, counted from its start; all call this after each.
        """
        return False

    @contextlib.contextmanager
    def scope(self):
        """Where the model is built and trained."""
        yield

    @contextlib.contextmanager
    def apart(self):
        """Where a network is built and asked that this process computes with alone."""
        yield

    def join_layers(self, network: keras.Model, recipe: CommonRecipe):
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
