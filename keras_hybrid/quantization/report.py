"""Which layer hurts: quantised and float values of one model side by side, worst first."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_hybrid.keras_private import last_output
from keras_hybrid.layers import DotProductAttention
from keras_hybrid.quantization.quantize import is_quantized, profile_of
from keras_hybrid.quantization.ranges.fake_quantize import FakeQuantize, fake_quantizers
from keras_hybrid.quantization.ranges.representative_data import representative_batches, structured
from keras_hybrid.quantization.rules import NO_KERNEL, OutputRange, find_rule
from keras_hybrid.quantization.twins.float_guard import (
    FloatConv2D,
    FloatDotProductAttention,
    FloatGuard,
)
from keras_hybrid.quantization.twins.kernels import QuantizedKernel
from keras_hybrid.quantization.twins.roundings_around import activation_after
from keras_hybrid.surgery.editable_model import EditableModel


@dataclass(frozen=True)
class LayerError:
    """What int8 does to one layer.

    Attributes:
        name: of the layer in the quantised model, without the rounding's suffix: what
            `keep_float` takes.
        signal_to_noise: of the layer's output against the same model's without any rounding, in
            decibels; all roundings before it count. Where an activation alone comes next, of what
            it makes of the output: what it is flat for does not matter.
        own: the same for its own rounding alone.
        low: least value of its range.
        high: greatest.
    """

    name: str
    signal_to_noise: float
    own: float
    low: float
    high: float


def layer_errors(model: keras.Model, images: Any, batch_size: int = 32) -> list[LayerError]:
    """Compares each rounded value with what it would be in float.

    Args:
        model: of `quantize`, calibrated or trained.
        images: as for `calibrate`; some dozens are enough.
        batch_size: for an array.

    Returns: a `LayerError` a rounding of the model's graph, worst first.

    Raises:
        ValueError: for a model that is not quantised, or no images.
    """
    _check(model)
    rounded = [layer for layer in model.layers if isinstance(layer, FakeQuantize)]
    observed = fake_quantizers(model)
    sums = {layer.name: np.zeros(3) for layer in rounded}
    view = keras.Model(
        model.input,
        {layer.name: last_output(layer) for layer in rounded},
        name="errors",
    )
    kernels = [layer for layer in model.layers if isinstance(layer, QuantizedKernel)]
    rounding: list[Any] = [*observed, *kernels]
    seen = 0
    for arrays in representative_batches(images, model, batch_size):
        seen += len(arrays[0])
        batch = structured(arrays, model)
        actual = {name: np.asarray(value) for name, value in view(batch, training=False).items()}
        for layer in rounding:
            layer.exact = True
        try:
            exact = {name: np.asarray(value) for name, value in view(batch).items()}
        finally:
            for layer in rounding:
                layer.exact = False
        for layer in rounded:
            wanted, value = exact[layer.name], actual[layer.name]
            alone = np.asarray(layer(wanted))
            activation = activation_after(layer)
            if activation is not None:
                wanted, value, alone = map(activation, (wanted, value, alone))
            sums[layer.name] += (
                np.sum(wanted.astype("float64") ** 2),
                np.sum((value.astype("float64") - wanted) ** 2),
                np.sum((alone.astype("float64") - wanted) ** 2),
            )
    if not seen:
        raise ValueError("The report needs images. Received: none")
    errors = []
    for layer in rounded:
        signal, noise, own = sums[layer.name]
        low, high = layer.range or (float("nan"), float("nan"))
        errors.append(
            LayerError(
                layer.name.rsplit("_rounded", 1)[0],
                _decibels(signal, noise),
                _decibels(signal, own),
                low,
                high,
            )
        )
    return sorted(errors, key=lambda error: error.signal_to_noise)


def float_layers(model: keras.Model) -> dict[str, str]:
    """Layers of a quantised model that compute in float, by name, and why.

    Raises:
        ValueError: for a model that is not quantised.
    """
    _check(model)
    reasons, in_float = {}, set()
    for step in EditableModel(model).steps:
        if getattr(step.operation, "float_softmax", False):
            reasons[step.name] = f"its softmax: {NO_KERNEL}"
        if step.is_a(FloatGuard):
            in_float.update(step.outputs)
        if step.is_a(FloatDotProductAttention):
            step.layer_class = DotProductAttention
        if step.is_a(FloatConv2D):
            step.layer_class = keras.layers.Conv2D
        rule = find_rule(step, {})
        if rule is None:
            continue  # a quantised twin, a rounding or a guard
        if rule.twin is None and not in_float.intersection(step.inputs):
            continue
        in_float.update(step.outputs)
        if rule.output is not OutputRange.AS_INPUT:
            reasons[step.name] = rule.why_float or "between layers in float, or kept so by name"
    return reasons


def check_profile(model: keras.Model, precision: str):
    """Raises a ValueError where a file of another precision than the model's profile is asked for.

    Args:
        model: of `quantize`.
        precision: of the file.
    """
    profile = profile_of(model)
    if profile is not None and profile != precision:
        raise ValueError(
            f"The model was quantised for {profile!r}: convert it with precision={profile!r}, or "
            f"quantise the float model with `quantize(model, {precision!r})`. "
            f"Received: precision={precision!r}"
        )


def check_all_int8(model: keras.Model, offenders: Sequence[str]):
    """Raises a ValueError where a file of profile "int8" computes in float unasked.

    Args:
        model: of `quantize`, that the file was made of.
        offenders: `Inspection.integer_offenders` of the file.
    """
    asked = any(isinstance(x, FloatGuard | FloatDotProductAttention) for x in model.layers)
    if not offenders or asked:
        return
    layers = float_layers(model)
    raise ValueError(
        'A file of precision "int8" must have no operator in float, which integer accelerators '
        "refuse. "
        + (
            f"These layers are in float: {', '.join(f'{k} ({v})' for k, v in layers.items())}. "
            if layers
            else "The converter left operators in float that follow no layer's wish. "
        )
        + "Where float will do, name the layers with `keep_float=` of `quantize`; else write them "
        "with layers of `keras_hybrid.quantization.rules`, or export with precision='int8_cpu'. "
        f"Received: {'; '.join(offenders[:8])}"
        + (f" and {len(offenders) - 8} more" if len(offenders) > 8 else "")
    )


def warn_outside_ranges(model: keras.Model, images, batch_size: int = 32) -> float:
    """Warns where images lie outside of the range that calibration saw.

    Args:
        model: of `quantize`, calibrated.
        images: as for `calibrate`.
        batch_size: for an array.

    Returns: the share of values outside.

    Raises:
        ValueError: for a model that is not quantised or not calibrated.
    """
    _check(model)
    first = fake_quantizers(model)[0]
    if first.seen_range is None:
        raise ValueError(
            f"The model is to be calibrated first. Received: model {model.name!r}, not calibrated"
        )
    low, high = first.seen_range
    least, greatest, outside, total = np.inf, -np.inf, 0, 0
    for batch, *_ in representative_batches(images, model, batch_size):
        least, greatest = min(least, batch.min()), max(greatest, batch.max())
        outside += int(np.sum((batch < low) | (batch > high)))
        total += batch.size
    share = outside / total if total else 0.0
    if outside:
        warnings.warn(
            f"{share:.2%} of the images' values lie outside of the range seen in calibration and "
            f"are clipped: they reach from {least:.4g} to {greatest:.4g}, calibration saw "
            f"{low:.4g} to {high:.4g}. Calibrate with images preprocessed like these.",
            stacklevel=2,
        )
    return share


def _check(model):
    if not is_quantized(model):
        raise ValueError(
            f"A model of `quantize` is expected. Received: model {model.name!r}, not quantised"
        )


def _decibels(signal, noise):
    if noise == 0:
        return float("inf")
    return float(10 * np.log10(signal / noise)) if signal > 0 else float("-inf")
