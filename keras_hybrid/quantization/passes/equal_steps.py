"""Steps that compute the same of the same: the converter makes them one, with one rounding."""

from collections import defaultdict

import keras
import numpy as np

from keras_hybrid.quantization.placement import Placement
from keras_hybrid.quantization.rules import OutputRange, activation_name, fusable
from keras_hybrid.quantization.twins.kernels import QuantizedKernel
from keras_hybrid.surgery.editable_model import EditableModel, Step, Value
from keras_hybrid.surgery.steps import config_of, weights_of

PLAIN = (bool, int, float, str, bytes, type(None), np.generic)


def edit_equal_steps(model: EditableModel):
    """Has one step compute what several compute of the same values alike, as cells of NASNet do.

    Those without weights, which training cannot part. The converter does so; two roundings here
    would be one in the file, or leave it in float where they are on different grids.

    Args:
        model: before roundings are put in.
    """
    kept = {}
    for step in list(model.steps):
        kind = clipping_of(step) or _kind(step)
        if kind is None or _weights(step):
            continue
        first = kept.setdefault((*step.inputs, kind), step)
        if first is not step:
            first.origin = (*first.origin, *step.origin)
            for old, new in zip(step.outputs, first.outputs, strict=True):
                model.redirect(old, new)
            model.remove(step)


def equal_values(placement: Placement, model: EditableModel) -> list[list[Value]]:
    """What layers with equal weights make of the same value, which is to be rounded on one grid.

    So are norms before training. Kernels are told apart when they are converted
    (`edit_equal_kernels`).

    Args:
        placement: of the model's steps.
        model: before roundings are put in.
    """
    groups = defaultdict(list)
    for step, rule in placement.int8_rules():
        is_kernel = rule.twin is not None and issubclass(rule.twin, QuantizedKernel)
        if rule.output is OutputRange.LEARNED and not is_kernel and (weights := _weights(step)):
            kind = _kind(step)
            if kind is not None:
                groups[(*step.inputs, kind, _frozen(weights))].append(step.output)
    return [group for group in groups.values() if len(group) > 1]


def edit_equal_kernels(model: EditableModel) -> bool:
    """Moves the steps of a kernel to the next number where it equals one of the same input.

    As are those of layers that begin at zero. The converter would compute both at once, and where
    what comes after them is rounded on different grids, leave them in float.

    Args:
        model: of `quantize`, to be converted.

    Returns: whether there were such kernels.
    """
    of_input = defaultdict(list)
    for step in model.steps:
        if step.is_a(QuantizedKernel) and step.inputs:
            of_input[step.inputs[0]].append(step)
    found = False
    for steps in of_input.values():
        seen = defaultdict(int)
        for step in steps if len(steps) > 1 else ():
            kernel, low, high = map(step.weight, ("kernel", "kernel_min", "kernel_max"))
            if low is None or high is None or np.ndim(high) != 1 or kernel.size % high.size:
                continue
            # In steps: the converter compares what it has rounded, and zeros have a sign.
            codes = np.rint(
                kernel.reshape(-1, high.size) / np.where(high > low, high - low, 1) * 254
            )
            key = step.layer_class, kernel.shape, (codes + 0.0).tobytes(), high.tobytes()
            for _ in range(seen[key]):
                low, high = np.nextafter(low, 2 * low), np.nextafter(high, 2 * high)
            if seen[key]:
                step.edit().weights.update(kernel_min=low, kernel_max=high)
                found = True
            seen[key] += 1
    return found


def clipping_of(step):
    """What an activation that kernels compute clips to; None for other steps."""
    if not step.inputs or not fusable(step):
        return None
    if step.layer_class is keras.layers.ReLU:
        return "relu" if step.setting("max_value") is None else "relu6"
    if step.layer_class is keras.layers.Activation:
        return activation_name(step.setting("activation"))
    return step.layer_class.__name__.lower()


def _kind(step: Step):
    """What says of a step of Keras or of this package what it computes; None for others."""
    of_keras = step.layer_class.__module__.split(".")[0] in ("keras", "keras_hybrid")
    if not step.inputs or not of_keras or step.layer_class is keras.layers.Lambda:
        return None
    config = step.config
    if config is None and isinstance(step.operation, keras.layers.Layer):
        config = config_of(step.operation)
    elif config is None:
        config = {x: y for x, y in vars(step.operation).items() if not x.startswith("_")}
    config = {name: value for name, value in config.items() if name not in ("name", "trainable")}
    kind = _frozen((config, step.args, step.kwargs))
    return None if kind is None else (step.layer_class, kind)


def _weights(step):
    """A step's weights by name, and what else it remembers."""
    if step.config is not None:
        return step.weights
    if not isinstance(step.operation, keras.layers.Layer):
        return {}
    weights = weights_of(step.operation)
    return weights or dict(enumerate(step.operation.variables))


def _frozen(value):
    """A value to compare by, of nested plain values and arrays; None for one of others."""
    if isinstance(value, PLAIN):
        return type(value).__name__, value
    if isinstance(value, Value):
        return "value"
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype.str, value.tobytes()
    if isinstance(value, dict):
        value = sorted(value.items(), key=lambda item: str(item[0]))
    if isinstance(value, tuple | list):
        parts = tuple(_frozen(x) for x in value)
        return None if None in parts else parts
    return None
