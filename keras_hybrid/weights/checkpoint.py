"""Loads a published checkpoint into a model: strict both ways, all or nothing."""

from collections.abc import Mapping

import keras
import numpy as np

from keras_hybrid.weights import iformer, mobile_former, mobilevit
from keras_hybrid.weights.key_maps import KeyMap, Module
from keras_hybrid.weights.layouts import Parameter, parameters

KEY_MAPS = (
    mobile_former.AUTHORS,
    mobilevit.TIMM,
    mobilevit.HUGGING_FACE,
    iformer.AUTHORS,
    iformer.TIMM,
)
# PyTorch counts the batches a norm has seen; inference and Keras have no use for it.
IGNORED_SUFFIX = ".num_batches_tracked"
LISTED = 8  # so many names an error message shows before it abbreviates


def load_checkpoint(model: keras.Model, source: Mapping[str, object]) -> keras.Model:
    """Loads a published state dict into a model of the same architecture.

    The naming (authors', timm's, Hugging Face's) is recognised from the keys. Nothing is assigned
    unless everything fits.

    Args:
        model: a model of this package, with the checkpoint's options (classes, distillation, ...).
        source: published names -> arrays, in PyTorch's layout; anything `numpy.asarray` takes.

    Returns: `model`.

    Raises:
        ValueError: for a naming that is not recognised, another family or variant, keys that are
            missing or unused, wrong shapes, and values that are not finite. It names them.
    """
    if not isinstance(source, Mapping):
        raise ValueError(
            "`source` must map published names to arrays. "
            f"Received: source of class {type(source).__name__}"
        )
    key_map = recognise(source)
    plan = published_parameters(model, key_map)
    expected = {key for key, _, _ in plan}
    given = {key for key in source if not key.endswith(IGNORED_SUFFIX)}
    problems = []
    if missing := [key for key in dict.fromkeys(key for key, _, _ in plan) if key not in given]:
        problems.append(f"missing from the checkpoint: {_abbreviated(missing)}")
    if unused := [key for key in source if key in given - expected]:
        problems.append(f"not used by the model: {_abbreviated(unused)}")
    values, misfits = _read(plan, source)
    if misfits:
        problems.append(f"of another shape: {_abbreviated(misfits)}")
    if problems:
        raise ValueError(
            f"The checkpoint ({key_map.family}, {key_map.naming} names) does not fit the model "
            f"`{model.name}`. Received: keys {'; keys '.join(problems)}"
        )
    bad = [parameter.variable.path for parameter, value in values if not np.isfinite(value).all()]
    if bad:
        raise ValueError(
            f"The checkpoint holds values that are not finite. Received: {_abbreviated(bad)}"
        )
    for parameter, value in values:
        parameter.variable.assign(value)
    return model


def recognise(keys) -> KeyMap:
    """The naming that a checkpoint's keys follow.

    Raises:
        ValueError: when they follow none that is known.
    """
    for key_map in KEY_MAPS:
        if key_map.recognises(keys):
            return key_map
    known = ", ".join(f"{key_map.family} ({key_map.naming})" for key_map in KEY_MAPS)
    raise ValueError(
        f"The keys are none of the published namings: {known}. "
        f"Received: keys {_abbreviated(list(keys))}"
    )


def published_parameters(
    model: keras.Model, key_map: KeyMap
) -> list[tuple[str, Module, Parameter]]:
    """Every parameter of a model with its published key.

    Raises:
        ValueError: when the model is of another family than the key map.
    """
    modules = key_map.locate([layer.name for layer in model.layers])
    plan = []
    strangers = []
    for layer in model.layers:
        layer_parameters = parameters(layer)
        if not layer_parameters:
            continue
        if layer.name not in modules:
            strangers.append(layer.name)
            continue
        module = modules[layer.name]
        plan += [(f"{module.name}.{p.suffix}", module, p) for p in layer_parameters]
    if strangers:
        raise ValueError(
            f"A {key_map.family} checkpoint with {key_map.naming} names has no place for layers "
            f"of the model `{model.name}`. Received: layers {_abbreviated(strangers)}"
        )
    return plan


def _read(plan, source):
    """The Keras arrays of a plan, and descriptions of those whose published shape is wrong."""
    values, misfits = [], []
    for key, module, parameter in plan:
        if key not in source:
            continue
        array = np.asarray(source[key])
        first, *rest = parameter.shape or (1,)
        expected = (first * module.parts, *rest) if parameter.shape else ()
        if array.shape != expected:
            misfits.append(f"{key} is {array.shape}, the model needs {expected}")
            continue
        if module.parts > 1:
            array = np.split(array, module.parts)[module.part]
        values.append((parameter, parameter.to_keras(array.astype("float32", copy=False))))
    return values, list(dict.fromkeys(misfits))


def _abbreviated(names):
    shown = ", ".join(map(str, names[:LISTED]))
    more = len(names) - LISTED
    return f"{shown} and {more} more" if more > 0 else shown
