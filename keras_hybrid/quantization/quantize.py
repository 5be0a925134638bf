"""A functional Keras model in, the same with int8's roundings out: `quantize`."""

import functools
from typing import Any

import keras

from keras_hybrid.keras_private import functional
from keras_hybrid.quantization.kept_float import kept_float
from keras_hybrid.quantization.passes.activations import (
    edit_activations,
    edit_identities,
    edit_joined_activations,
    edit_pooled_activations,
)
from keras_hybrid.quantization.passes.arithmetic import edit_long_sums, edit_reshaped_twice
from keras_hybrid.quantization.passes.clipping import edit_clipping, edit_slopes
from keras_hybrid.quantization.passes.equal_steps import edit_equal_steps
from keras_hybrid.quantization.passes.float_guards import edit_float_guards
from keras_hybrid.quantization.passes.interpolations import edit_interpolations
from keras_hybrid.quantization.passes.lonely_norms import edit_lonely_norms
from keras_hybrid.quantization.passes.neutral_constants import edit_neutral_constants
from keras_hybrid.quantization.passes.roundings import (
    edit_centered_inputs,
    edit_output_names,
    edit_requantized,
    edit_roundings,
)
from keras_hybrid.quantization.passes.shared_ranges import (
    edit_joined_inputs,
    edit_moved_values,
    edit_shared_ranges,
    range_groups,
)
from keras_hybrid.quantization.passes.twins import edit_twins
from keras_hybrid.quantization.placement import Placement
from keras_hybrid.quantization.ranges.fake_quantize import fake_quantizers
from keras_hybrid.quantization.rules import PROFILES
from keras_hybrid.quantization.standard_layers.rewrite import edit_standard_layers
from keras_hybrid.quantization.twins.frozen_norm import BATCH_NORMS
from keras_hybrid.quantization.twins.kernels import QuantizedKernel
from keras_hybrid.quantization.twins.one_call import TwinOfOneCall, release_twins_of_all_calls
from keras_hybrid.surgery.garbage import garbage_left
from keras_hybrid.surgery.passes.image_scaling import edit_products_and_sums
from keras_hybrid.surgery.pipelines import FILES, check_target, edited


@garbage_left()
def quantize(
    model: keras.Model,
    profile: str = "int8",
    *,
    target: str | None = None,
    keep_float: tuple[str, ...] = (),
    batch_norm: str = "folded",
    weight_quantizer: Any = None,
    activation_quantizer: Any = None,
    rules: dict | None = None,
) -> keras.Model:
    """Rewrites a model so that it computes with int8's roundings, to be calibrated and trained.

    The result is an ordinary functional Keras model: `calibrate` it for post-training
    quantisation, `compile` and `fit` it for quantisation-aware training, then `export_tflite` it.

    The model is fused first, as for conversion: kernels are rounded as they ship, with batch norm
    in them. No statistics are taken in training: the grids would differ from step to step.

    Args:
        model: a functional model of this package's or standard layers; it is left as it is.
        profile: "int8" for int8 throughout, as accelerators want; "int8_cpu" for float where a
            phone's CPU is faster in float (the table in `keras_hybrid/quantization/rules.py`).
        target: the engine that the file is for: layers are spelled as costs it least
            (`keras_hybrid/surgery/pipelines.py`). None for the profile's own: "npu" for "int8",
            which "cpu" suits XNNPACK better, and "cpu" for "int8_cpu".
        keep_float: names of layers to leave in float. A name also stands for the layers that were
            made of it, and for a block, by their common beginning.
        batch_norm: "folded" for kernels and biases that train with batch norm in them; "frozen" for
            batch norm's scale and offset beside the kernel, in the quantised layers that it
            followed in float (`get_layer("stem").batch_norm`). Both train; its statistics stay, and
            the file is that of "folded". Where a convolution became the sum of several, and in
            layers left in float, batch norm is folded all the same.
        weight_quantizer: a TFMOT `Quantizer` of kernels; None for `LastValueQuantizer`, per
            channel, symmetric, narrow range.
        activation_quantizer: a TFMOT `Quantizer` of activations; None for
            `MovingAverageQuantizer`.
        rules: more rows for the table: by layer class, or for operations of `keras.ops` by name
            ("erf") or function (`keras.ops.erf`).

    Returns: a new model with the same inputs and outputs.

    Raises:
        ValueError: for another backend than TensorFlow, a model that is not functional or
            already quantised, an unknown profile, target or `batch_norm`, a name in `keep_float`
            that no layer has, layers without quantised twin: all of them named, with what to do.

    Reference: Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
    Inference (https://arxiv.org/abs/1712.05877).
    """
    _check(model, profile, batch_norm)
    target = check_target(profile, target)
    rules = rules or {}
    rewrite = functools.partial(edit_standard_layers, rules=rules)
    editable = edited(model, (rewrite, *FILES[profile][target]))
    edit_activations(editable)
    edit_identities(editable)
    edit_equal_steps(editable)
    edit_joined_activations(editable)
    edit_pooled_activations(editable)
    edit_long_sums(editable)
    edit_reshaped_twice(editable)
    edit_lonely_norms(editable)
    edit_neutral_constants(editable)
    edit_products_and_sums(editable)
    edit_equal_steps(editable)
    floats = kept_float(model, editable, keep_float)
    placement = Placement(editable, profile, floats, rules, target)
    limits = edit_slopes(editable, lambda step: placement.int8[step])
    limits.update(edit_clipping(editable, placement))
    edit_joined_inputs(editable, placement, limits)
    origins = placement.origins()
    groups = range_groups(editable, placement, origins)
    edit_roundings(editable, placement, activation_quantizer, origins, limits)
    edit_interpolations(editable, placement, origins)
    edit_moved_values(editable, placement, origins)
    edit_shared_ranges(editable, groups)
    edit_centered_inputs(editable, placement, activation_quantizer)
    edit_requantized(editable)
    edit_float_guards(editable, placement)
    num_calls = edit_twins(
        placement, weight_quantizer, activation_quantizer, batch_norm == "frozen"
    )
    edit_output_names(editable)
    quantized = editable.to_model()
    release_twins_of_all_calls(
        (layer for layer in quantized.layers if isinstance(layer, TwinOfOneCall)), num_calls
    )
    for layer in quantized.layers:
        if isinstance(layer, QuantizedKernel):
            layer.reset_range()
    return quantized


def is_quantized(model: keras.Model) -> bool:
    """Whether `quantize` made the model."""
    return bool(fake_quantizers(model))


def profile_of(model: keras.Model) -> str | None:
    """The profile that a model was quantised for; None for a float model, and for older files."""
    return next((x.profile for x in fake_quantizers(model) if x.profile is not None), None)


def target_of(model: keras.Model) -> str:
    """The engine that a quantised model is for: "cpu" for those of before there was a choice."""
    return next((x.target for x in fake_quantizers(model) if x.target is not None), "cpu")


def _check(model, profile, batch_norm):
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "Quantisation needs the TensorFlow backend: save the model, set "
            "KERAS_BACKEND=tensorflow and load it there. "
            f"Received: backend {keras.backend.backend()!r}"
        )
    if profile not in PROFILES:
        raise ValueError(f"`profile` must be one of {PROFILES}. Received: profile={profile!r}")
    if batch_norm not in BATCH_NORMS:
        raise ValueError(
            f"`batch_norm` must be one of {BATCH_NORMS}. Received: batch_norm={batch_norm!r}"
        )
    if functional(model) is None:
        raise ValueError(
            "A functional model is expected: a subclassed one has no graph to rewrite. "
            f"Received: model={model!r}"
        )
    if is_quantized(model):
        raise ValueError(
            "The model is quantised already: train or export it as it is. "
            f"Received: model {model.name!r}"
        )
