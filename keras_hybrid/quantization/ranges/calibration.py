"""Ranges from representative images: post-training quantisation, and the start of training."""

import warnings
from typing import Any, TextIO

import keras
import numpy as np

from keras_hybrid.commentary import STANDARD_ERROR
from keras_hybrid.quantization.ranges.before_activation import ValuesBeforeActivation
from keras_hybrid.quantization.ranges.detections import seen_detections
from keras_hybrid.quantization.ranges.fake_quantize import (
    NOTHING,
    FakeQuantize,
    fake_quantizers,
)
from keras_hybrid.quantization.ranges.lean_run import images_at_a_time, run_leanly
from keras_hybrid.quantization.ranges.pixel_grid import SeenLevels
from keras_hybrid.quantization.ranges.representative_data import representative_batches, structured
from keras_hybrid.quantization.ranges.summed_squares import SummedSquares
from keras_hybrid.quantization.twins.kernels import QuantizedKernel
from keras_hybrid.quantization.twins.roundings_around import activation_after
from keras_hybrid.weights.family import Preprocessing
from keras_hybrid.weights.preprocessing import preprocess_input, preprocessing_of

METHODS = ("min_max", "moving_average", "percentile")
INITIAL_RANGE = (-6.0, 6.0)  # TFMOT's
KERNEL_RANGES = ("max", "mse")
BATCH_SIZE, AT_MOST = 32, 64  # images of a batch: where ranges depend on it; where they do not
CLIPPINGS = tuple(np.linspace(0.6, 1.0, 21))  # of a channel's greatest value


class _Statistics:
    """What one `FakeQuantize` saw."""

    def __init__(self, method, percentile, decay, layer):
        self.method, self.percentile, self.decay = method, percentile, decay
        self.low = self.high = None  # of all values
        self.average = None
        self.samples = []
        self.levels = SeenLevels()
        axes, activation = layer.summed_axes, activation_after(layer)
        self.squares = None if axes is None else SummedSquares(axes)
        self.activated = None
        if method == "min_max" and activation is not None and not layer.symmetric:
            self.activated = ValuesBeforeActivation(activation)

    def add(self, values, low, high):
        """Takes in values, whose least and greatest are known."""
        self.low = low if self.low is None else min(self.low, low)
        self.high = high if self.high is None else max(self.high, high)
        self.levels.add(values)
        if self.squares is not None:
            self.squares.add(values)
        if self.activated is not None:
            self.activated.add(values)
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
            if self.activated is not None:
                return self.activated.lowest(self.low, self.high), self.high
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
    batch_size: int | None = None,
    steps: int | None = None,
    preprocessing: Preprocessing | str | None = None,
    seed: int = 0,
    stream: TextIO | None = STANDARD_ERROR,
) -> keras.Model:
    """Sets the ranges of a quantised model's activations from representative images.

    The images run through the model in float; what each rounding would see is recorded. Values of
    256 levels or fewer, as 8-bit pixels are however they were scaled, get the grid that they are
    on, so that they are not rounded at all; or where 0 is no level, one that no level is half way
    on, so that engines round them alike. Squares of which a norm needs the sum alone are clipped
    where that is nearer most sums, and values of which SiLU or GELU makes next to nothing where
    what they make of the others is nearer so. A detector's outputs get the ranges of what may be a
    detection: boxes of anchors that see no object, and logits far below any score that counts, are
    clipped.

    Args:
        model: of `quantize`; its ranges are changed.
        images: an array (n, H, W, 3) of what the model takes; an iterable of batches (a list, a
            dataset, a generator or a function that returns one), each an array, a dictionary by
            input names or with the key "image", or a tuple that starts with one of these; or image
            files: a folder, or a list of paths, decoded, cropped and resized as for evaluation. Of
            a folder of folders, all of them are sampled alike.
        method: "min_max" of all values; "moving_average" of the batches' minima and maxima, with
            `decay`; "percentile", the mean over the batches of the values that `percentile` percent
            lie within on either side.
        percentile: for that method.
        decay: for the moving average.
        weights: range of each channel of a kernel: "max" of its values, or "mse" for the one with
            the least squared error, which clips a little. Training goes on from "max".
        batch_size: for an array, and for files; None for 32, or, where batches are all one (min_max
            without `steps`), for as many images as run at a time in some hundred megabytes, up to
            64.
        steps: end after so many batches, which data without end need; None for all batches, and
            of a folder for 512 images.
        preprocessing: what image files become, as for `preprocess_input`; None for the model's own.
        seed: of the choice among a folder's files.
        stream: where progress goes; None for nowhere.

    Returns: the model. A warning says with numbers where there was only one image, where all values
    are alike, where a network of this package is shown what its preprocessing cannot give, and
    where values are too small for a grid.

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
    for layer in layers:
        if layer.summed_axes is not None:
            layer.limits = None  # of a calibration before

    def observe(layer, values):
        values = np.asarray(values)
        low, high = float(values.min()), float(values.max())
        if not np.isfinite(high - low):
            raise ValueError(
                "The representative images give values that are not finite. "
                f"Received: {np.sum(~np.isfinite(values))} of {values.size} at {layer.path!r}"
            )
        if id(layer) not in statistics:
            statistics[id(layer)] = _Statistics(method, percentile, decay, layer)
        statistics[id(layer)].add(values, low, high)

    # A batch is what "moving_average" and "percentile" are of; to "min_max" it is all one.
    at_a_time = images_at_a_time(model) if method == "min_max" else None
    if batch_size is None:
        batch_size = min(at_a_time, AT_MOST) if at_a_time and steps is None else BATCH_SIZE
    detections = seen_detections(model) if method == "min_max" else None
    count, extremes = 0, []
    with observing(layers, observe):
        for arrays in representative_batches(images, model, batch_size, steps, preprocessing, seed):
            _check_shapes(arrays, model)
            if not all(np.isfinite(array).all() for array in arrays):
                raise ValueError(
                    "Representative images must be finite. "
                    f"Received: NaN or infinity in the batch after {count} images"
                )
            if not len(arrays[0]):
                continue
            for start in range(0, len(arrays[0]), at_a_time or len(arrays[0])):
                part = [array[start:][:at_a_time] for array in arrays]
                run_leanly(model, structured(part, model), detections.watch if detections else None)
                if detections is not None:
                    detections.add()
            count += len(arrays[0])
            extremes += [(array.min(), array.max()) for array in arrays]
            if stream is not None:
                print(f"\rcalibration: {count} images", end="", file=stream, flush=True)
    if stream is not None:
        print(file=stream)
    if not count:
        raise ValueError("Calibration needs representative images. Received: none")
    _warn_of_images(model, count, np.asarray(extremes))
    vanishing = []
    for layer in layers:
        found = statistics.get(id(layer))
        if found is None:
            continue
        layer.seen.assign((found.low, found.high))
        if layer.has_range and layer.fixed_range is None:
            on_levels = None if layer.symmetric or layer.limits else found.levels.range()
            low, high = on_levels or found.range()
            if found.squares is not None:
                highest = found.squares.highest(high)
                if highest < high:  # training keeps to it
                    layer.limits, high = (0.0, highest), highest
            layer.set_range(low, high)
            if low < high and max(high, 0.0) - min(low, 0.0) < NOTHING:
                vanishing.append(layer.name)
    if detections is not None:
        detections.set_ranges()
    _warn_of_vanishing(vanishing)
    for layer in model.layers:
        if isinstance(layer, QuantizedKernel):
            layer.reset_range()
            if weights == "mse":
                layer.clip_range(CLIPPINGS)
    return model


def _check_shapes(arrays, model):
    for batch, own in zip(arrays, model.inputs, strict=True):
        wanted = tuple(own.shape[1:])
        if len(batch.shape) != len(wanted) + 1 or any(
            size not in (None, found) for size, found in zip(wanted, batch.shape[1:], strict=True)
        ):
            hint = ""
            if batch.ndim == len(wanted):
                hint = "One image is no batch: give `images[None]`, or `dataset.batch(32)`. "
            raise ValueError(
                f"Representative images must have the model's input shape {(None, *wanted)}. "
                f"{hint}Received: a batch of shape {batch.shape}"
            )


def _warn_of_images(model, count, extremes):
    """Warns where images are too few, too plain, or not what the model's preprocessing gives."""
    low, high = float(extremes[:, 0].min()), float(extremes[:, 1].max())
    if count == 1:
        warnings.warn(
            "Calibrated with 1 image: ranges will be too small for others. Some hundred images of "
            "the kind that the network will see are enough.",
            stacklevel=3,
        )
    if low == high:
        warnings.warn(
            f"Calibrated with images whose values are all {low:.4g}: what the network does with "
            "others was not seen. Use images of the kind that the network will see.",
            stacklevel=3,
        )
    try:
        known = preprocessing_of(model)
    except ValueError:
        return  # none of this package's
    pixels = np.zeros((2, 1, 1, 3), "float32")
    pixels[1] = 255
    least, greatest = (float(f(preprocess_input(pixels, known))) for f in (np.min, np.max))
    slack = 0.02 * (greatest - least)
    if low < least - slack or high > greatest + slack:
        hint = (
            ": these seem to be raw pixels, to go through `keras_hybrid.preprocess_input` first"
            if low >= 0 and high > 16
            else ". Preprocess them as the network's training images were"
        )
    elif low >= 0 > least + slack and high <= 1:
        hint = (
            ": none is dark. These seem to be pixels / 255: let pixels of 0 to 255 go through "
            "`keras_hybrid.preprocess_input`"
        )
    else:
        return
    warnings.warn(
        f"The input's values reach from {low:.4g} to {high:.4g}; pixels of 0 to 255 after the "
        f"model's preprocessing reach from {least:.4g} to {greatest:.4g}{hint}.",
        stacklevel=3,
    )


def _warn_of_vanishing(names):
    """Warns of values too small for a grid."""
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        warnings.warn(
            f"Values are below {NOTHING:g} for all images, and are 0 in int8, at "
            f"{', '.join(names[:3])}{more}. Signals fade so where weights were never trained; "
            "where they were, these values are what rounding leaves of 0.",
            stacklevel=3,
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
