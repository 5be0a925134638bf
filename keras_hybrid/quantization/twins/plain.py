"""Layers in place of operations: their configuration says what the rewrite has to know."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_hybrid")
class Clip(keras.layers.Layer):
    """Values within two bounds, either of which may be missing.

    Args:
        low: least value; None for none.
        high: greatest value; None for none.

    Input and output: any shape.
    """

    def __init__(self, low: float | None = None, high: float | None = None, **kwargs):
        super().__init__(**kwargs)
        self.low = None if low is None else float(low)
        self.high = None if high is None else float(high)

    def call(self, inputs):
        x = inputs
        if self.low is not None:
            x = ops.maximum(x, self.low)
        return x if self.high is None else ops.minimum(x, self.high)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "low": self.low, "high": self.high}


@keras.saving.register_keras_serializable("keras_hybrid")
class ExponentialLinear(keras.layers.Layer):
    """ELU; unlike `keras.layers.ELU`, its configuration holds `alpha`.

    Args:
        alpha: factor on exp(x) - 1, for negative x.

    Input and output: any shape.
    """

    def __init__(self, alpha: float = 1.0, **kwargs):
        super().__init__(**kwargs)
        self.alpha = float(alpha)

    def call(self, inputs):
        return ops.elu(inputs, self.alpha)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "alpha": self.alpha}


@keras.saving.register_keras_serializable("keras_hybrid")
class MatrixProduct(keras.layers.Layer):
    """The matrix product along the last two axes.

    Args:
        transpose_first: whether the first input's last two axes change places before.
        transpose_second: likewise the second's.

    Inputs: (batch, ..., N, K) and (batch, ..., K, M), or so transposed. Output: (batch, ..., N, M).
    """

    def __init__(self, transpose_first: bool = False, transpose_second: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.transpose_first = transpose_first
        self.transpose_second = transpose_second

    def call(self, inputs):
        return ops.matmul(*self.sides(inputs))

    def sides(self, inputs):
        """What is multiplied: (batch, ..., N, K) and (batch, ..., K, M)."""
        first, second = inputs
        if self.transpose_first:
            first = ops.swapaxes(first, -1, -2)
        if self.transpose_second:
            second = ops.swapaxes(second, -1, -2)
        return first, second

    def compute_output_shape(self, input_shape):
        first, second = input_shape
        rows = first[-1] if self.transpose_first else first[-2]
        columns = second[-2] if self.transpose_second else second[-1]
        return (*first[:-2], rows, columns)

    def get_config(self):
        return {
            **super().get_config(),
            "transpose_first": self.transpose_first,
            "transpose_second": self.transpose_second,
        }


@keras.saving.register_keras_serializable("keras_hybrid")
class Reverse(keras.layers.Layer):
    """The order of an axis turned round, by a slice: int8 has no operator that reverses.

    Args:
        axes: to be turned round, the batch's not among them.

    Input and output: any shape.
    """

    def __init__(self, axes: tuple[int, ...], **kwargs):
        super().__init__(**kwargs)
        self.axes = tuple(axes)

    def call(self, inputs):
        rank = len(inputs.shape)
        turned = {axis % rank for axis in self.axes}
        return inputs[tuple(slice(None, None, -1 if n in turned else 1) for n in range(rank))]

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "axes": self.axes}


@keras.saving.register_keras_serializable("keras_hybrid")
class Resize(keras.layers.Layer):
    """A map of another size, between pixels' centers, without antialiasing.

    Args:
        size: height and width in pixels.
        interpolation: "nearest" or "bilinear".

    Input: (batch, H, W, C). Output: (batch, *size, C).
    """

    def __init__(self, size: tuple[int, int], interpolation: str = "bilinear", **kwargs):
        super().__init__(**kwargs)
        self.size = tuple(size)
        self.interpolation = interpolation

    def call(self, inputs):
        return ops.image.resize(inputs, self.size, self.interpolation, data_format="channels_last")

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *self.size, input_shape[3])

    def get_config(self):
        return {**super().get_config(), "size": self.size, "interpolation": self.interpolation}


@keras.saving.register_keras_serializable("keras_hybrid")
class Slice(keras.layers.Layer):
    """A part of an axis.

    Args:
        axis: other than the batch's.
        start: first index of the part.
        stop: the index after its last.

    Input: any shape. Output: the same but for the axis, of length stop - start.
    """

    def __init__(self, axis: int, start: int, stop: int, **kwargs):
        super().__init__(**kwargs)
        self.axis, self.start, self.stop = axis, start, stop

    def call(self, inputs):
        return inputs[(slice(None),) * self.axis + (slice(self.start, self.stop),)]

    def compute_output_shape(self, input_shape):
        shape = list(input_shape)
        shape[self.axis] = self.stop - self.start
        return tuple(shape)

    def get_config(self):
        own = {"axis": self.axis, "start": self.start, "stop": self.stop}
        return {**super().get_config(), **own}
