"""Training on batches of several sizes: TensorFlow compiles a step for each of them."""

import keras


class StepsBySize:
    """A base beside `keras.Model`: steps know the size of their images, where the input says none.

    Keras on TensorFlow traces a step once, with sizes that are open where batches differ: anchors
    and the pieces that large products are cut into must be known. JAX compiles a step for each size
    by itself, and PyTorch compiles none.

    Attributes:
        images_size: height and width of the images; None where any will do.
    """

    images_size: tuple[int | None, int | None]

    def make_train_function(self, force=False):
        if not _is_for_any_size(self):
            return super().make_train_function(force)
        if self.train_function is None or force:
            self.train_function = _by_size(self, self.train_step)
        return self.train_function

    def make_test_function(self, force=False):
        if not _is_for_any_size(self):
            return super().make_test_function(force)
        if self.test_function is None or force:
            self.test_function = _by_size(self, self.test_step)
        return self.test_function


def _is_for_any_size(model):
    return keras.backend.backend() == "tensorflow" and None in model.images_size


def _by_size(model, step):
    """A function of an iterator over batches, as `fit` and `evaluate` call it."""
    import tensorflow as tf

    strategy = model.distribute_strategy

    @tf.autograph.experimental.do_not_convert
    def take(data):
        logs = strategy.run(step, args=(data,))
        mean = tf.distribute.ReduceOp.MEAN
        return {name: strategy.reduce(mean, value, axis=None) for name, value in logs.items()}

    functions = {}

    def compiled(data):
        """`take` for images of this size: of any number, where one device has them all."""
        if model.run_eagerly:
            return take
        size, signature = "several devices", None
        if strategy.num_replicas_in_sync == 1:
            size = tuple(data[0].shape[1:3])
            signature = [
                tf.nest.map_structure(
                    lambda x: tf.TensorSpec((None, *x.shape[1:]), x.dtype), tuple(data)
                )
            ]
        if size not in functions:
            functions[size] = tf.function(
                take, input_signature=signature, jit_compile=model.jit_compile
            )
        return functions[size]

    def function(iterator):
        data = next(iterator)
        logs = compiled(data)(data)
        for _ in range(model.steps_per_execution - 1):
            if (data := next(iterator, None)) is None:
                break
            logs = compiled(data)(data)
        return logs

    return function


def known_size(images) -> tuple[int, int]:
    """Height and width of a batch of images.

    Raises:
        ValueError: where they are not known.
    """
    height, width = images.shape[1:3]
    if height is None or width is None:
        raise ValueError(
            "The size of the images must be known: batch images of one size. "
            f"Received: images of shape {tuple(images.shape)}"
        )
    return height, width
