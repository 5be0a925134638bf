"""Zero padding to whole windows, and the cut back to the size before."""

import keras
from keras import ops


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
