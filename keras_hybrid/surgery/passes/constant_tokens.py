"""Dense layers on tokens that do not depend on the image, computed once and for all."""

import keras

from keras_hybrid.layers import GlobalTokens
from keras_hybrid.surgery.editable_model import EditableModel, Value, new_step


def edit_constant_tokens(model: EditableModel):
    """Replaces dense layers on global tokens by the tokens that they give."""
    for step in model.steps:
        if step.is_a(GlobalTokens) and isinstance(model.inputs, Value):
            step.take(model.inputs)  # the batch size is all it needs: let others have the features
    for step in list(model.steps):
        if not step.is_a(keras.layers.Dense) or not model.editable(step):
            continue
        tokens = model.producer(step.inputs[0])
        if not tokens.is_a(GlobalTokens):
            continue
        table = tokens.weight("tokens") @ step.edit().weights["kernel"]
        if step.config["use_bias"]:
            table = table + step.weights["bias"]
        activation = keras.activations.get(step.config["activation"])
        table = keras.ops.convert_to_numpy(activation(keras.ops.convert_to_tensor(table)))
        layer = GlobalTokens(*table.shape, name=step.name)
        model.replace(
            step, new_step(layer, tokens.args, step.output.shape, weights={"tokens": table})
        )
