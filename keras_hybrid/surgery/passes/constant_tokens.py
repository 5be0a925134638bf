"""What does not depend on the image: dense layers on tokens, computed once and for all; queries."""

import keras
import numpy as np

from keras_hybrid.layers import DotProductAttention, GlobalTokens, LearnedQueryAttention
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


def edit_constant_queries(model: EditableModel):
    """Has attention from tokens that do not depend on the image hold its queries as weights."""
    for step in list(model.steps):
        if not step.is_a(DotProductAttention) or not model.editable(step):
            continue
        query, key, value = step.inputs
        tokens = model.producer(query)
        apart = step.setting("separate_positions") or step.setting("window_size")
        if not tokens.is_a(GlobalTokens) or apart:
            continue
        heads = step.setting("num_heads")
        table = tokens.weight("tokens")  # (M, C)
        num_queries, channels = table.shape
        scale = step.setting("scale") or (channels // heads) ** -0.5
        own = np.repeat(np.eye(heads), channels // heads, axis=1)  # (heads, C)
        queries = (scale * own[:, None] * table).reshape(-1, channels).T  # (C, heads * M)
        layer = LearnedQueryAttention(num_queries, heads, name=step.name)
        weights = {"queries": queries.astype("float32")}
        model.replace(step, new_step(layer, [[key, value]], step.output.shape, weights))
