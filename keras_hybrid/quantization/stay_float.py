"""A mark on what is to stay float: between two roundings, the converter makes all it can int8."""

import keras
import numpy as np

# The product with it marks the place; a file without the product is as exact as one with it.
MARK = float(np.float32(1 + 2**-20))


@keras.saving.register_keras_serializable("keras_hybrid")
class StayFloat(keras.layers.Layer):
    """Keeps the converter from computing what follows in int8; nothing else.

    `export_tflite` removes the product from the file.

    Input and output: any shape.
    """

    def call(self, inputs):
        return inputs * MARK

    def compute_output_shape(self, input_shape):
        return input_shape
