"""Channels to pixels: what a convolution gives for several pixels at once, put where they are."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_hybrid")
class DepthToSpace(keras.layers.Layer):
    """Spreads channels over a block of pixels.

    Args:
        block_size: height and width of the block.

    Input: (batch, H, W, block_size^2 * C), the block's pixels row by row. Output:
    (batch, H * block_size, W * block_size, C).
    """

    def __init__(self, block_size: int = 2, **kwargs):
        super().__init__(**kwargs)
        if block_size < 1:
            raise ValueError(
                f"`block_size` must be a positive integer. Received: block_size={block_size}"
            )
        self.block_size = block_size

    def call(self, inputs):
        size = self.block_size
        if size == 1:
            return inputs
        if hasattr(ops, "depth_to_space"):  # one operator on a phone
            return ops.depth_to_space(inputs, size, data_format="channels_last")
        channels = inputs.shape[-1] // size**2
        height, width = ops.shape(inputs)[1:3]
        x = ops.reshape(inputs, (-1, height, width, size, size, channels))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))  # (batch, H, size, W, size, C)
        return ops.reshape(x, (-1, height * size, width * size, channels))

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        size = self.block_size
        sizes = (None if axis is None else axis * size for axis in (height, width))
        return (batch, *sizes, channels // size**2)

    def get_config(self):
        return {**super().get_config(), "block_size": self.block_size}
