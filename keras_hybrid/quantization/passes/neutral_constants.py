"""Constants that change nothing: offsets of 0 and factors of 1, as fresh weights are.

The converter leaves such sums and products out. What was rounded before and after them is then
rounded twice in a row, on two grids: it drops one of them, and the file is not what Keras computes,
or cannot be converted. Without them, each value has one rounding.
"""

import keras
import numpy as np

from keras_hybrid.layers import GlobalTokens, LeanLayerNormalization
from keras_hybrid.surgery.editable_model import EditableModel

# A factor this near 1 is 1 on the grid of 256 values from 0 to the greatest.
HALF_STEP = 1 / 510


def edit_neutral_constants(model: EditableModel):
    """Removes them from layer and group norms, and from sums and products with constant tokens."""
    for step in list(model.steps):
        if not model.editable(step):
            continue
        if step.is_a(LeanLayerNormalization, keras.layers.GroupNormalization):
            if step.setting("scale") and _is_one(step.weight("gamma")):
                step.edit().config["scale"] = False
                del step.weights["gamma"]
            if step.setting("center") and not np.any(step.weight("beta")):
                step.edit().config["center"] = False
                del step.weights["beta"]
        elif step.is_a(keras.layers.Add, keras.layers.Multiply) and len(step.inputs) == 2:
            neutral = _is_zero if step.is_a(keras.layers.Add) else _is_one
            for constant, other in (step.inputs, step.inputs[::-1]):
                tokens = model.producer(constant)
                if (
                    tokens.is_a(GlobalTokens)
                    and neutral(tokens.weight("tokens"))
                    and other.shape == step.output.shape
                ):
                    model.redirect(step.output, other)
                    model.remove(step)
                    break
    model.remove_unused()


def _is_one(values):
    return bool(np.all(np.abs(values - 1) <= np.max(np.abs(values)) * HALF_STEP))


def _is_zero(values):
    return not np.any(values)
