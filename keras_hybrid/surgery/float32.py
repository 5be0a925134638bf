"""Half precision is for training: what is rewritten, exported and quantised is in float32."""

import keras
import numpy as np

HALF = ("float16", "bfloat16")
HALF_POLICIES = (*HALF, "mixed_float16", "mixed_bfloat16")


def as_float32(array) -> np.ndarray:
    """An array, in float32 where it is in half precision."""
    array = np.asarray(array)
    return array.astype("float32") if array.dtype.name in HALF else array


def float32_dtype(dtype: str) -> str:
    """The name of a type, float32 for half precision."""
    return "float32" if dtype in HALF else dtype


def is_half(layer: keras.layers.Layer) -> bool:
    """Whether a layer computes in half precision."""
    return isinstance(layer, keras.layers.Layer) and layer.compute_dtype in HALF


def float32_config(config):
    """A layer's configuration with float32 in place of half precision, in layers inside it, too."""
    if isinstance(config, list | tuple):
        return type(config)(float32_config(item) for item in config)
    if not isinstance(config, dict):
        return config
    if config.get("class_name") == "DTypePolicy" and config["config"]["name"] in HALF_POLICIES:
        return {**config, "config": {**config["config"], "name": "float32"}}
    found = {}
    for key, value in config.items():
        half = key in ("dtype", "default_policy") and value in HALF_POLICIES
        found[key] = "float32" if half else float32_config(value)
    return found
