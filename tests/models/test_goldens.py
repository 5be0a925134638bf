"""Parity with what the published networks compute, stage by stage."""

import re

import keras
import numpy as np
import pytest
from published import GOLDEN_MODELS, golden, golden_images, golden_model

from keras_hybrid.keras_private import calls

LOGIT_BAR = 5e-5  # of the golden logits' standard deviation
TAP_BAR = 2e-4  # of a tap's standard deviation; values are single floats, not averages


def last_map(model, prefix):
    """The last rank-4 tensor whose layer's name starts with `prefix`."""
    return [
        call.outputs[0]
        for call in calls(model)
        if call.operation.name.startswith(prefix) and len(call.outputs[0].shape) == 4
    ][-1]


def block_prefixes(model):
    """'stage1_block0_', ... in the network's order."""
    names = [re.match(r"stage\d+_block\d+_", layer.name) for layer in model.layers]
    return sorted({match[0] for match in names if match})


def tap_tensors(model, family, taps):
    """Tap name -> our tensors, in the golden's order."""
    layer = model.get_layer
    if family == "mobile_former":
        tensors = {"stem": [layer("stem_relu").output]}
        for index, prefix in enumerate(block_prefixes(model)):
            tensors[f"features.{index}"] = [last_map(model, prefix)]
            if f"{prefix}former_ffn_norm" in {item.name for item in model.layers}:
                tensors[f"features.{index}"].append(layer(f"{prefix}former_ffn_norm").output)
            else:
                tensors[f"features.{index}"].append(layer("tokens").output)
        query = layer("final_mobile_to_former_query").output
        tensors["local_global"] = [
            layer("final_mobile_to_former_norm").output,
            _scores(query, tensors[f"features.{index}"][0], num_heads=2),
        ]
    elif family == "mobilevit":
        tensors = {"stem": [layer("stem_silu").output], "final_conv": [layer("head_silu").output]}
        tensors |= {f"stages.{i}": [last_map(model, f"stage{i + 1}_")] for i in range(5)}
    else:
        tensors = {
            "stem": [layer("stem_project_norm").output],
            "downsample_layers.0": [layer("stem_project_norm").output],
        }
        for i in range(4):
            tensors[f"stages.{i}"] = [last_map(model, f"stage{i + 1}_block")]
            if i:
                tensors[f"downsample_layers.{i}"] = [layer(f"stage{i + 1}_downsample_norm").output]
    return {name: tensors[name] for name in taps}


def _scores(query, features, num_heads):
    """Scores of Mobile->Former before softmax: (batch, heads, M, H, W)."""
    _, height, width, channels = features.shape
    per_head = channels // num_heads
    query = keras.ops.reshape(query, (-1, query.shape[1], num_heads, per_head))
    features = keras.ops.reshape(features, (-1, height, width, num_heads, per_head))
    return keras.ops.einsum("bmnc,bhwnc->bnmhw", query, features) * per_head**-0.5


def as_published(array):
    """Our layout -> the golden's: maps NCHW, tokens (tokens, batch, dim), scores as they are."""
    if array.ndim == 4:
        return np.transpose(array, (0, 3, 1, 2))
    return np.transpose(array, (1, 0, 2)) if array.ndim == 3 else array


@pytest.mark.large
@pytest.mark.parametrize("name", GOLDEN_MODELS)
def test_taps_and_logits_equal_the_golden(name):
    fields = golden(name)
    model = golden_model(name)
    taps = fields.get("taps") or {}
    family = re.match(r"mobile_former|mobilevit|iformer", name.lower())[0]
    tensors = tap_tensors(model, family, taps)
    outputs = {"logits": [model.output], **tensors}
    outputs = keras.Model(model.input, outputs)(golden_images(name), training=False)
    outputs = keras.tree.map_structure(keras.ops.convert_to_numpy, outputs)
    (logits,) = outputs.pop("logits")
    for tap, arrays in outputs.items():
        for number, (array, expected) in enumerate(zip(arrays, taps[tap], strict=True)):
            array = as_published(array).astype("float64")
            bar = TAP_BAR * expected["std"]
            where = f"{name}: {tap}[{number}]"
            assert list(array.shape) == expected["shape"], where
            assert abs(array.mean() - expected["mean"]) <= bar, f"{where} mean"
            assert abs(array.std(ddof=1) - expected["std"]) <= bar, f"{where} std"
            error = np.abs(array.ravel()[:4] - expected["first"]).max()
            assert error <= bar, f"{where} first values"
    expected = np.array(fields["logits"])
    error = np.abs(logits - expected).max() / expected.std()
    assert error <= LOGIT_BAR, f"{name}: logits are {error:.1e} of their deviation off"


@pytest.mark.large
@pytest.mark.parametrize("name", GOLDEN_MODELS)
def test_parameters_are_the_golden_s(name):
    builder_model = golden_model(name)
    trainable = sum(int(np.prod(weight.shape)) for weight in builder_model.trainable_weights)
    assert trainable == golden(name)["parameters"]
