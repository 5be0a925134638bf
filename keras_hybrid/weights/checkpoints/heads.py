"""Two heads of a published checkpoint merged into one, as inference averages them."""

from collections.abc import Mapping, Sequence

import numpy as np

from keras_hybrid.weights.checkpoints.checkpoint_files import as_float32

PUBLISHED_EPSILON = 1e-5  # of the batch norm in every published head

# PyTorch's names; Keras keeps the variables of a layer in this order, too.
_SUFFIXES = {
    "gamma": "weight",
    "beta": "bias",
    "mean": "running_mean",
    "variance": "running_var",
    "kernel": "weight",
    "bias": "bias",
}
_NORM = ("gamma", "beta", "mean", "variance")
_DENSE = ("kernel", "bias")


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
    deviation = np.sqrt(first["variance"] + PUBLISHED_EPSILON)

    def on_normalized_features(values):
        """Kernel and bias that take (x - mean) / deviation of the first head's statistics."""
        scale = values["gamma"] / np.sqrt(values["variance"] + PUBLISHED_EPSILON)
        shift = values["beta"] + scale * (first["mean"] - values["mean"])
        kernel = values["kernel"] * (scale * deviation)[:, None]
        return kernel, values["bias"] + shift @ values["kernel"]

    (kernel1, bias1), (kernel2, bias2) = map(on_normalized_features, (first, second))
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
    state_dict: Mapping[str, object], heads: Sequence[tuple[str, str]]
) -> dict[str, object]:
    """A published state dict with its two heads merged into the first.

    Args:
        state_dict: published names -> arrays.
        heads: the modules of the batch norm and the dense layer of the first head, and of the
            second, such as ("classifier.classifier.bn", "classifier.classifier.l").

    Returns: a state dict without the second head; as it was where a part of a head is missing
        or the heads' shapes differ.
    """
    found = []
    all_keys = []
    for norm, dense in heads:
        modules = dict.fromkeys(_NORM, norm) | dict.fromkeys(_DENSE, dense)
        keys = {name: f"{modules[name]}.{suffix}" for name, suffix in _SUFFIXES.items()}
        if not all(key in state_dict for key in keys.values()):
            return dict(state_dict)
        arrays = {name: as_float32(state_dict[key], key) for name, key in keys.items()}
        found.append(arrays | {"kernel": arrays["kernel"].T})
        all_keys.append(keys)
    if not _same_shapes(*found):
        return dict(state_dict)
    merged = merge_heads(*found)
    merged["kernel"] = merged["kernel"].T
    second = tuple(f"{module}." for module in heads[1])
    kept = {key: value for key, value in state_dict.items() if not key.startswith(second)}
    return kept | {all_keys[0][name]: array for name, array in merged.items()}


def merge_layer_heads(
    layers: Mapping[str, list[np.ndarray]], heads: Sequence[tuple[str, str]]
) -> dict[str, list[np.ndarray]]:
    """The same for variables by layer name, as `checkpoint_files.read_keras` gives them.

    Args:
        layers: layer names -> their variables.
        heads: the layers of the first head, batch norm and dense layer, and of the second.
    """
    if not all(name in layers for pair in heads for name in pair):
        return dict(layers)
    order = (*_NORM, *_DENSE)
    found = [
        dict(zip(order, (*layers[norm], *layers[dense]), strict=True)) for norm, dense in heads
    ]
    if not _same_shapes(*found):
        return dict(layers)
    merged_head = merge_heads(*found)
    merged = [merged_head[name] for name in order]
    (norm, dense), second = heads
    kept = {name: arrays for name, arrays in layers.items() if name not in second}
    return kept | {norm: merged[:4], dense: merged[4:]}


def _same_shapes(head, distillation):
    return all(array.shape == distillation[name].shape for name, array in head.items())
