"""Ranges from representative images: post-training quantisation, and the start of training."""

import sys
from typing import Any, TextIO

import keras
import numpy as np

from keras_hybrid.quantization.ranges.fake_quantize import FakeQuantize, fake_quantizers
from keras_hybrid.quantization.twins.kernels import QuantizedKernel

METHODS = ("min_max", "moving_average", "percentile")
INITIAL_RANGE = (-6.0, 6.0)  # TFMOT's
KERNEL_RANGES = ("max", "mse")
CLIPPINGS = tuple(np.linspace(0.6, 1.0, 21))  # of a channel's greatest value


class _Statistics:
    """What one `FakeQuantize` saw."""

    def __init__(self, method, percentile, decay):
        self.method, self.percentile, self.decay = method, percentile, decay
        self.low = self.high = None  # of all values
        self.average = None
        self.samples = []

    def add(self, values):
        low, high = float(values.min()), float(values.max())
        self.low = low if self.low is None else min(self.low, low)
        self.high = high if self.high is None else max(self.high, high)
        batch = np.array([low, high])
        if self.average is None:
            self.average = batch
        else:
            self.average = self.decay * self.average + (1 - self.decay) * batch
        if self.method == "percentile":
            tail = 100 - self.percentile
            self.samples.append(np.percentile(values, [tail, self.percentile]))

    def range(self):
        if self.method == "min_max":
            return self.low, self.high
        if self.method == "moving_average":
            return tuple(self.average)
        return tuple(np.mean(self.samples, axis=0))


def calibrate(
    model: keras.Model,
    images: Any,
    *,
    method: str = "min_max",
    percentile: float = 99.99,
    decay: float = 0.9,
    weights: str = "max",
    batch_size: int = 32,
    stream: TextIO = sys.stderr,
) -> keras.Model:
    """Sets the ranges of a quantised model's activations from representative images.

    The images run through the model in float; what each rounding would see is recorded.

    Args:
        model: of `quantize`; its ranges are changed.
        images: an array (n, H, W, 3) of what the model takes, or an iterable of batches, each
            an array or a tuple that starts with one.
        method: "min_max"; "moving_average" of the batches' minima and maxima, with `decay`;
            "percentile", the mean over the batches of the values that `percentile` percent lie
            within on either side.
        percentile: for that method.
        decay: for the moving average.
        weights: range of each channel of a kernel: "max" of its values, or "mse" for the one with
            the least squared error, which clips a little. Training goes on from "max".
        batch_size: for an array.
        stream: where progress goes; None for nowhere.

    Returns: the model.

    Raises:
        ValueError: for a model that is not quantised, an unknown method, no images or such of
            another shape, or values that are not finite, with the first layer that has them.
    """
    layers = fake_quantizers(model)
    if not layers:
        raise ValueError(
            f"A model of `quantize` is expected. Received: model {model.name!r}, not quantised"
        )
    if method not in METHODS:
        raise ValueError(f"`method` must be one of {METHODS}. Received: method={method!r}")
    if weights not in KERNEL_RANGES:
        raise ValueError(f"`weights` must be one of {KERNEL_RANGES}. Received: weights={weights!r}")
    if not 50 < percentile <= 100:
        raise ValueError(f"`percentile` must be in (50, 100]. Received: percentile={percentile!r}")
    statistics = {}

    def observe(layer, values):
        values = np.asarray(values)
        if not np.isfinite(values).all():
            raise ValueError(
                "The representative images give values that are not finite. "
                f"Received: {np.sum(~np.isfinite(values))} of {values.size} at {layer.path!r}"
            )
        if id(layer) not in statistics:
            statistics[id(layer)] = _Statistics(method, percentile, decay)
        statistics[id(layer)].add(values)

    count = 0
    with observing(layers, observe):
        for batch in batches(images, batch_size):
            _check_shape(batch, model)
            if not np.isfinite(batch).all():
                raise ValueError(
                    "Representative images must be finite. "
                    f"Received: NaN or infinity in the batch after {count} images"
                )
            model(batch, training=False)
            count += len(batch)
            if stream is not None:
                print(f"\rcalibration: {count} images", end="", file=stream, flush=True)
    if stream is not None:
        print(file=stream)
    if not count:
        raise ValueError("Calibration needs representative images. Received: none")
    for layer in layers:
        found = statistics.get(id(layer))
        if found is None:
            continue
        layer.seen.assign((found.low, found.high))
        if layer.has_range and layer.fixed_range is None:
            layer.set_range(*found.range())
    for layer in model.layers:
        if isinstance(layer, QuantizedKernel):
            layer.reset_range()
            if weights == "mse":
                layer.clip_range(CLIPPINGS)
    return model


def _check_shape(batch, model):
    wanted = model.input_shape[1:]
    if len(batch.shape) != len(wanted) + 1 or any(
        size not in (None, found) for size, found in zip(wanted, batch.shape[1:], strict=True)
    ):
        raise ValueError(
            f"Representative images must have the model's input shape {(None, *wanted)}. "
            f"Received: a batch of shape {batch.shape}"
        )


def check_calibrated(model: keras.Model):
    """Raises a ValueError where no calibration or training has given a model its ranges."""
    learned = [x for x in fake_quantizers(model) if x.has_range and x.fixed_range is None]
    if learned and all(x.seen_range is None and x.range == INITIAL_RANGE for x in learned):
        raise ValueError(
            "The model's ranges were never calibrated or trained: run representative images "
            f"through `keras_hybrid.calibrate`. Received: model {model.name!r}"
        )


class observing:
    """While it lasts, the layers pass tensors on as they are and show them to a function."""

    def __init__(self, layers: list[FakeQuantize], observer):
        self.layers, self.observer = layers, observer

    def __enter__(self):
        for layer in self.layers:
            layer.observer = self.observer

    def __exit__(self, *_):
        for layer in self.layers:
            layer.observer = None


def batches(images, batch_size):
    """Float32 batches of an array, or of an iterable of batches with or without labels.

    Raises:
        ValueError: for anything else.
    """
    if not hasattr(images, "shape") and not hasattr(images, "__iter__"):
        raise ValueError(
            "Representative images are to be an array (n, H, W, 3), or batches of such. "
            f"Received: images={images!r}"
        )
    if hasattr(images, "shape"):
        images = [images[start : start + batch_size] for start in range(0, len(images), batch_size)]
    for batch in images:
        if isinstance(batch, tuple | list):
            batch = batch[0]
        yield np.asarray(batch, "float32")
