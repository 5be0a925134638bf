"""Attention and matrix products of stock Keras, in terms of this package's attention."""

from keras import layers

from keras_hybrid.layers import DotProductAttention
from keras_hybrid.quantization.standard_layers.steps import argument, step_of, weights_of
from keras_hybrid.quantization.twins.plain import MatrixProduct
from keras_hybrid.surgery.editable_model import Step, Value

# Up to so many tokens, heads are told apart by zeros: `DotProductAttention` does so for sequences.
FEW_TOKENS = 16


def multi_head(step: Step) -> list[Step] | None:
    """Dense layers around `DotProductAttention`."""
    query = argument(step, 0, "query")
    value = argument(step, 1, "value")
    key = argument(step, 2, "key", value)
    key = value if key is None else key
    masks = ("query_mask", "value_mask", "key_mask", "attention_mask")
    masked = any(step.kwargs.get(name) is not None for name in masks)
    if masked or len(step.args) > 3 or step.kwargs.get("use_causal_mask"):
        return None
    if step.kwargs.get("return_attention_scores") or len(step.outputs) > 1:
        return None
    if any(len(x.shape) != 3 or None in x.shape[1:] for x in (query, key, value)):
        return None
    weights = weights_of(step)
    heads, key_dim = step.setting("num_heads"), step.setting("key_dim")
    steps, projected = [], []
    for name, x in (("query", query), ("key", key), ("value", value)):
        kernel = weights[f"{name}/kernel"]
        new = {"kernel": kernel.reshape(len(kernel), -1)}
        if f"{name}/bias" in weights:
            new["bias"] = weights[f"{name}/bias"].reshape(-1)
        dense = layers.Dense(
            new["kernel"].shape[1], use_bias="bias" in new, name=f"{step.name}_{name}"
        )
        steps.append(step_of(dense, x, new))
        if x.shape[1] > FEW_TOKENS:
            shape = (x.shape[1], 1, new["kernel"].shape[1])
            as_map = layers.Reshape(shape, name=f"{step.name}_{name}_map")
            steps.append(step_of(as_map, steps[-1].output))
        projected.append(steps[-1].output)
    attention = DotProductAttention(heads, scale=key_dim**-0.5, name=f"{step.name}_attention")
    steps.append(step_of(attention, projected))
    attended = steps[-1].output
    if len(attended.shape) == 4:
        flat = layers.Reshape(
            (attended.shape[1], attended.shape[3]), name=f"{step.name}_attention_sequence"
        )
        steps.append(step_of(flat, attended))
    kernel = weights["attention_output/kernel"]
    new = {"kernel": kernel.reshape(-1, kernel.shape[-1])}
    if "attention_output/bias" in weights:
        new["bias"] = weights["attention_output/bias"]
    dense = layers.Dense(kernel.shape[-1], use_bias="bias" in new, name=step.name)
    return [*steps, step_of(dense, steps[-1].output, new)]


def dot_product(step: Step) -> list[Step] | None:
    """`keras.layers.Attention` without weights, of one head."""
    values = step.args[0] if step.args else None
    if (
        not isinstance(values, list | tuple)
        or step.setting("use_scale")
        or step.setting("score_mode") != "dot"
        or len(step.outputs) > 1
        or len(step.args) > 1
        or any(step.kwargs.get(x) for x in ("mask", "use_causal_mask", "return_attention_scores"))
        or any(len(x.shape) != 3 or None in x.shape[1:] for x in values)
    ):
        return None
    query, value, *key = values
    layer = DotProductAttention(1, scale=1.0, name=step.name)
    return [step_of(layer, [query, *(key or [value]), value])]


def dot(step: Step) -> list[Step] | None:
    """`keras.layers.Dot` of sequences, or of vectors, as a matrix product."""
    first, second = step.inputs if len(step.inputs) == 2 else step.inputs * 2
    axes = step.setting("axes")
    axes = [axes, axes] if isinstance(axes, int) else list(axes)
    ranks = (len(first.shape), len(second.shape))
    if step.setting("normalize") or ranks not in ((2, 2), (3, 3)) or None in first.shape[1:]:
        return None
    axes = [axis % rank for axis, rank in zip(axes, ranks, strict=True)]
    if ranks == (2, 2):
        size = first.shape[1]
        row = step_of(layers.Reshape((1, size), name=f"{step.name}_row"), first)
        column = step_of(layers.Reshape((size, 1), name=f"{step.name}_column"), second)
        product = step_of(MatrixProduct(name=f"{step.name}_product"), [row.output, column.output])
        return [row, column, product, step_of(layers.Reshape((1,), name=step.name), product.output)]
    layer = MatrixProduct(
        transpose_first=axes[0] == 1, transpose_second=axes[1] == 2, name=step.name
    )
    return [step_of(layer, [first, second])]


def matmul(step: Step) -> list[Step] | None:
    """`keras.ops.matmul` of two tensors with a batch, or with a constant matrix on the right."""
    first, second = argument(step, 0, "x1"), argument(step, 1, "x2")
    if not isinstance(first, Value):
        return None
    if isinstance(second, Value):
        if len(first.shape) != len(second.shape) or len(first.shape) < 3:
            return None
        return [step_of(MatrixProduct(name=step.name), [first, second])]
    if len(second.shape) != 2:
        return None
    dense = layers.Dense(second.shape[-1], use_bias=False, name=step.name)
    return [step_of(dense, first, {"kernel": _numpy(second)})]


def _numpy(x):
    import keras

    return keras.ops.convert_to_numpy(x).astype("float32")
