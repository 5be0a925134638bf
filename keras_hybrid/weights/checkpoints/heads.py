"""The heads of published checkpoints: which layers they are, and two heads merged into one."""

from collections.abc import Mapping

import numpy as np

from keras_hybrid.weights.checkpoints.checkpoint_files import as_float32

# Layers with weights that a network without its head does not have.
HEAD_LAYERS = {
    "mobile_former": (
        "final_mobile_to_former_query",
        "final_mobile_to_former_gate",
        "final_mobile_to_former_projection",
        "final_mobile_to_former_norm",
        "head_conv",
        "head_conv_norm",
        "head_fc1",
        "head_fc1_norm",
        "head_fc2",
    ),
    "mobilevit": ("head_conv", "head_norm", "head_fc"),
    "iformer": ("head_norm", "head_fc", "head_distillation_norm", "head_distillation_fc"),
}
# Those whose shape follows from the number of classes.
CLASSIFIERS = ("head_fc2", "head_fc", "head_distillation_fc")
BATCH_NORM_EPSILON = 1e-5  # of every published network

_NORM = ("gamma", "beta", "mean", "variance")


def merge_heads(
    head: Mapping[str, np.ndarray], distillation: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """One iFormer head whose logits are the mean of two heads' logits.

    The authors merge each head's batch norm into its dense layer and average the dense layers.
    Differs from the authors: the statistics of the first head's batch norm stay in a batch norm
    of scale 1 and shift 0, for the model keeps that layer; both norms have seen the same features,
    so that fine-tuning starts from the right statistics. The logits are the same.

    Args:
        head: "gamma", "beta", "mean", "variance" (C,), "kernel" (C, classes), "bias" (classes,).
        distillation: the same of the other head.

    Returns: the same of the merged head, float32.
    """
    first, second = (
        {name: array.astype("float64") for name, array in values.items()}
        for values in (head, distillation)
    )
    deviation = np.sqrt(first["variance"] + BATCH_NORM_EPSILON)

    def on_normalised_features(values):
        """Kernel and bias that take (x - mean) / deviation of the first head's statistics."""
        scale = values["gamma"] / np.sqrt(values["variance"] + BATCH_NORM_EPSILON)
        shift = values["beta"] + scale * (first["mean"] - values["mean"])
        kernel = values["kernel"] * (scale * deviation)[:, None]
        return kernel, values["bias"] + shift @ values["kernel"]

    (kernel1, bias1), (kernel2, bias2) = map(on_normalised_features, (first, second))
    merged = {
        "gamma": np.ones_like(deviation),
        "beta": np.zeros_like(deviation),
        "mean": first["mean"],
        "variance": first["variance"],
        "kernel": (kernel1 + kernel2) / 2,
        "bias": (bias1 + bias2) / 2,
    }
    return {name: array.astype("float32") for name, array in merged.items()}


def merge_published_heads(
    state_dict: Mapping[str, object], head: str, distillation: str
) -> dict[str, object]:
    """A published iFormer state dict with its two heads merged into the first.

    Args:
        state_dict: published names -> arrays.
        head: module of the first head, such as "classifier.classifier".
        distillation: module of the other.

    Returns: a state dict without the second head; as it was where a part of a head is missing
        or the heads' shapes differ.
    """
    suffixes = {
        "gamma": "bn.weight",
        "beta": "bn.bias",
        "mean": "bn.running_mean",
        "variance": "bn.running_var",
        "kernel": "l.weight",
        "bias": "l.bias",
    }
    heads = []
    for module in (head, distillation):
        keys = {name: f"{module}.{suffix}" for name, suffix in suffixes.items()}
        if not all(key in state_dict for key in keys.values()):
            return dict(state_dict)
        arrays = {name: as_float32(state_dict[key], key) for name, key in keys.items()}
        heads.append(arrays | {"kernel": arrays["kernel"].T})
    if not _same_shapes(*heads):
        return dict(state_dict)
    merged = merge_heads(*heads)
    merged["kernel"] = merged["kernel"].T
    kept = {
        key: value for key, value in state_dict.items() if not key.startswith(f"{distillation}.")
    }
    return kept | {f"{head}.{suffixes[name]}": array for name, array in merged.items()}


def merge_layer_heads(layers: Mapping[str, list[np.ndarray]]) -> dict[str, list[np.ndarray]]:
    """The same for variables by layer name, as `files.read_keras` gives them."""
    names = ("head_norm", "head_fc"), ("head_distillation_norm", "head_distillation_fc")
    if not all(name in layers for pair in names for name in pair):
        return dict(layers)
    order = (*_NORM, "kernel", "bias")
    heads = [
        dict(zip(order, (*layers[norm], *layers[dense]), strict=True)) for norm, dense in names
    ]
    if not _same_shapes(*heads):
        return dict(layers)
    merged_head = merge_heads(*heads)
    merged = [merged_head[name] for name in order]
    kept = {name: arrays for name, arrays in layers.items() if name not in names[1]}
    return kept | {"head_norm": merged[:4], "head_fc": merged[4:]}


def _same_shapes(head, distillation):
    return all(array.shape == distillation[name].shape for name, array in head.items())
