"""Which part of each global batch a process reads, when several train together."""

import math
from dataclasses import dataclass

import tensorflow as tf


@dataclass(frozen=True)
class Share:
    """A process's place among those that train together.

    Each reads a contiguous part of every global batch, so that the parts in the order of the
    processes are the batch that one process alone would read.

    Attributes:
        index: of the process.
        processes: in all.
        devices: of all processes together.
    """

    index: int = 0
    processes: int = 1
    devices: int = 1

    def size(self, batch_size: int) -> int:
        """Examples that the process reads of a global batch."""
        return batch_size // self.processes

    def holds(self, index, batch_size: int):
        """Whether an example is the process's, by its place among the examples of all batches."""
        return index % batch_size // self.size(batch_size) == self.index

    def part(self, batch):
        """The process's part of a batch of tensors, whose size may be known only later."""
        if self.processes == 1:
            return batch

        def cut(values):
            size = tf.shape(values)[0] // self.processes
            return values[self.index * size : (self.index + 1) * size]

        return tf.nest.map_structure(cut, batch)

    def whole(self, batch_size: int) -> int:
        """The nearest batch size that all devices can share evenly."""
        return max(1, round(batch_size / self.devices)) * self.devices

    def check(self, batch_size: int):
        """Checks that all devices get the same number of images.

        Raises:
            ValueError: where they do not.
        """
        if batch_size % self.devices:
            raise ValueError(
                "The images of a training step, `batch_size` / `accumulation_steps`, must be a "
                f"multiple of the devices. Received: {batch_size} images a step, "
                f"{self.devices} devices"
            )

    def pad(self, examples: tf.data.Dataset, count: int, batch_size: int) -> tf.data.Dataset:
        """The process's examples of an evaluation, filled up so that all batches are whole.

        The examples' weights are such that Keras' means over whole batches are the means over the
        real examples.

        Args:
            examples: of the process: pairs (image, label).
            count: of real examples, of all processes.
            batch_size: of a global batch.

        Returns: triples (image, label, weight), whole batches of them; the weight is 0 for filling.
        """
        batches = math.ceil(count / batch_size)
        weight = batches * batch_size / count
        weighted = examples.map(lambda image, label: (image, label, tf.constant(weight)))
        empty = tf.nest.map_structure(
            lambda spec: tf.zeros(spec.shape, spec.dtype), weighted.element_spec
        )
        filling = tf.data.Dataset.from_tensors(empty).repeat()
        return weighted.concatenate(filling).take(batches * self.size(batch_size))


ALONE = Share()
