"""Maps cut into windows that are images of their own, or padded to whole ones; and back."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_hybrid")
class CutWindows(keras.layers.Layer):
    """Cuts a map into square windows, which become entries of the batch.

    Zeros are added on the right and below where whole windows need them; row by row, the windows
    of an image follow each other.

    Args:
        window_size: height and width of a window, in pixels.

    Input: (batch, H, W, C). Output: (batch * windows, window_size, window_size, C).

    Reference: iFormer (https://arxiv.org/abs/2501.15369), Section 4.2, as the authors' code for
    detection and segmentation does it.
    """

    def __init__(self, window_size: int, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(window_size, int) or window_size < 1:
            raise ValueError(
                f"`window_size` must be a positive integer. Received: window_size={window_size!r}"
            )
        self.window_size = window_size

    def call(self, inputs):
        size, channels = self.window_size, inputs.shape[-1]
        height, width = ops.shape(inputs)[1:3]
        below, right = -height % size, -width % size
        x = inputs
        if not _is_whole(size, inputs.shape):
            x = ops.pad(x, ((0, 0), (0, below), (0, right), (0, 0)))
        columns = (width + right) // size
        # Of rank 4 all along: phones' GPUs know no more.
        x = ops.reshape(x, (-1, size, columns, size * channels))  # (batch * rows, ...)
        x = ops.transpose(x, (0, 2, 1, 3))  # (batch * rows, columns, size, size * C)
        return ops.reshape(x, (-1, size, size, channels))

    def num_windows(self, input_shape: tuple) -> int:
        """How many windows an image of a map of known size is cut into."""
        _, height, width, _ = input_shape
        return -(-height // self.window_size) * -(-width // self.window_size)

    def compute_output_shape(self, input_shape):
        batch, channels = input_shape[0], input_shape[-1]
        batch = None if None in input_shape else batch * self.num_windows(input_shape)
        return (batch, self.window_size, self.window_size, channels)

    def get_config(self):
        return {**super().get_config(), "window_size": self.window_size}


@keras.saving.register_keras_serializable("keras_hybrid")
class GlueWindows(keras.layers.Layer):
    """Puts the windows of `CutWindows` together and cuts the padding off.

    Args:
        window_size: as given to `CutWindows`.

    Inputs: windows (batch * windows, window_size, window_size, C) and a reference map
    (batch, H, W, ...), such as the one that was cut. Output: (batch, H, W, C).
    """

    def __init__(self, window_size: int, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(window_size, int) or window_size < 1:
            raise ValueError(
                f"`window_size` must be a positive integer. Received: window_size={window_size!r}"
            )
        self.window_size = window_size

    def call(self, inputs):
        windows, reference = inputs
        size, channels = self.window_size, windows.shape[-1]
        height, width = ops.shape(reference)[1:3]
        rows, columns = (height + size - 1) // size, (width + size - 1) // size
        x = ops.reshape(windows, (-1, columns, size, size * channels))  # (batch * rows, ...)
        x = ops.transpose(x, (0, 2, 1, 3))  # (batch * rows, size, columns, size * C)
        x = ops.reshape(x, (-1, rows * size, columns * size, channels))
        if not _is_whole(size, reference.shape):
            x = x[:, :height, :width]
        return x

    def compute_output_shape(self, input_shape):
        windows, reference = input_shape
        return (*reference[:3], windows[-1])

    def get_config(self):
        return {**super().get_config(), "window_size": self.window_size}


def _is_whole(window_size, map_shape):
    """Whether height and width are known to be whole windows, so that nothing is padded."""
    height, width = map_shape[1:3]
    return None not in (height, width) and height % window_size == width % window_size == 0


@keras.saving.register_keras_serializable("keras_hybrid")
class PadToMultiple(keras.layers.Layer):
    """Pads zeros on the right and below, to the next multiple of `multiple`.

    Args:
        multiple: what height and width must divide by, in pixels.

    Input: (batch, H, W, C). Output: (batch, H', W', C).
    """

    def __init__(self, multiple: int, **kwargs):
        super().__init__(**kwargs)
        if multiple < 1:
            raise ValueError(f"`multiple` must be a positive integer. Received: {multiple}")
        self.multiple = multiple

    def call(self, inputs):
        height, width = ops.shape(inputs)[1:3]
        below = -height % self.multiple
        right = -width % self.multiple
        return ops.pad(inputs, ((0, 0), (0, below), (0, right), (0, 0)))

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        height, width = (
            None if size is None else size + -size % self.multiple for size in (height, width)
        )
        return (batch, height, width, channels)

    def get_config(self):
        return {**super().get_config(), "multiple": self.multiple}


@keras.saving.register_keras_serializable("keras_hybrid")
class CropToReference(keras.layers.Layer):
    """Cuts a feature map on the right and below to the height and width of a reference.

    Inputs: (batch, H', W', C) and a reference (batch, H, W, ...). Output: (batch, H, W, C).
    """

    def call(self, inputs):
        features, reference = inputs
        height, width = ops.shape(reference)[1:3]
        return features[:, :height, :width]

    def compute_output_shape(self, input_shape):
        features, reference = input_shape
        return (features[0], reference[1], reference[2], features[3])
