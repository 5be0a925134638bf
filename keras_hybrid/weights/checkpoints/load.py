"""Loads a published checkpoint into a model: strict both ways, all or nothing."""

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import keras
import numpy as np
from absl import logging

from keras_hybrid.layer_names import is_in_head, is_layer_name
from keras_hybrid.weights.checkpoints.checkpoint_files import (
    as_float32,
    find_state_dict,
    is_keras_file,
    read_keras,
    read_keras_origin,
    read_published,
)
from keras_hybrid.weights.checkpoints.heads import merge_layer_heads, merge_published_heads
from keras_hybrid.weights.checkpoints.key_maps import KeyMap, Module
from keras_hybrid.weights.checkpoints.layouts import Parameter, parameters
from keras_hybrid.weights.checkpoints.wrappers import unwrap
from keras_hybrid.weights.families import families, family_named, family_of
from keras_hybrid.weights.family import all_layers
from keras_hybrid.weights.origin import forget, remember

# Shaped by the number of classes; of SSDLite, published in one tensor with the offsets.
DENSE_CLASSIFIERS = (
    *("logits", "auxiliary", "head_classes_output"),
    *("head_box_logits", "head_box_offsets", "head_mask_logits"),
    *(f"head_level{level}_{kind}" for level in range(6) for kind in ("boxes", "classes")),
)
# PyTorch counts the batches a norm has seen; inference and Keras have no use for it.
IGNORED_SUFFIX = ".num_batches_tracked"
LISTED = 8  # so many names an error message shows before it abbreviates


class ChannelOrderWarning(UserWarning):
    """Weights were loaded that, as a rule, take images of another channel order."""


@dataclass(frozen=True)
class _Slot:
    """One variable of a model, and where its value is.

    Attributes:
        layer: name of the variable's layer.
        key: of its value in the source.
        variable: the Keras variable.
        shape: of that value.
        to_keras: that value -> the variable's.
    """

    layer: str
    key: str
    variable: keras.Variable
    shape: tuple[int, ...]
    to_keras: Callable[[np.ndarray], np.ndarray]


def load_checkpoint(
    model: keras.Model,
    source: Mapping[str, object] | str | os.PathLike,
    *,
    allow_fresh_head: bool = False,
    prefer_ema: bool = True,
) -> keras.Model:
    """Loads a published state dict, or a file, into a model of the same architecture.

    The naming (authors', timm's, Hugging Face's) is recognized from the keys. Nothing is assigned
    unless everything fits. An iFormer checkpoint with a distillation head loads into a model
    without one with both heads merged into one, as the authors do for inference.

    Args:
        model: a model of this package, with the checkpoint's options (classes, distillation, ...).
        source: published names -> arrays or PyTorch tensors, in PyTorch's layout; or the path of a
            `.safetensors`, `.pth`, `.pt`, `.bin` (PyTorch pickles, read safely), `.weights.h5`,
            `.h5` or `.keras` file; `weights/checkpoints/checkpoint_files.py` says what may be in
            them. Prefixes that training programs give the names are taken off; what is beside the
            network, such as a loss' weights, is left out with a warning.
        allow_fresh_head: whether head layers may stay as they are where the checkpoint has no
            head or one for another number of classes, and whether a head may be left out that the
            model does not have. A warning says which layers stayed.
        prefer_ema: of a file with both, the moving average's weights or the last step's.

    Returns: `model`.

    Raises:
        ValueError: for a file that cannot be read, a naming that is not recognized, another
            family or variant, keys that are missing or unused, wrong shapes, and values that are
            not finite. It names them.
        ImportError: for a PyTorch pickle without PyTorch.
    """
    path = os.fspath(source) if isinstance(source, str | os.PathLike) else None
    origin = "" if path is None else f" of the file {path}"
    outside: list[str] = []
    key_map = None
    if path is not None and is_keras_file(path):
        description = f"The Keras checkpoint{origin}"
        layers = read_keras(path)
        family = family_of(model)
        slots, arrays, head_keys = _keras_slots(model, family, layers)
    else:
        state_dict = _state_dict(source, prefer_ema)
        key_map, state_dict, outside = recognize(state_dict, origin, prefer_ema)
        family = family_named(key_map.family)
        description = f"The checkpoint{origin} ({key_map.family}, {key_map.naming} names)"
        slots, arrays, head_keys = _published_slots(model, key_map, state_dict)
    values, fresh, foreign = _match(
        model, family, slots, arrays, head_keys, description, allow_fresh_head
    )
    bad = [slot.variable.path for slot, value in values if not np.isfinite(value).all()]
    if bad:
        raise ValueError(
            f"{description} holds values that are not finite. Received: {_abbreviated(bad)}"
        )
    for slot, value in values:
        slot.variable.assign(value)
    if left_out := [*outside, *foreign]:
        warnings.warn(
            f"{description} holds what is no part of `{model.name}`, and it is left out: "
            f"{_abbreviated(left_out)}.",
            stacklevel=2,
        )
    _update_origin(model, path)
    if key_map and key_map.channel_order not in (None, family.preprocessing.channel_order):
        warnings.warn(
            f"{description}: networks of these names take {key_map.channel_order} images as a "
            f"rule, but `preprocess_input` gives `{model.name}` the family's "
            f"{family.preprocessing.channel_order}. Name a preset in the model's place, such as "
            "'MobileViTS/imagenet_apple', or turn the first convolution with "
            "`weights.checkpoints.save.swap_input_channels`.",
            ChannelOrderWarning,
            stacklevel=2,
        )
    if fresh:
        warnings.warn(
            f"{description} has no head that fits `{model.name}`: the layers "
            f"{_abbreviated(fresh)} keep their initial values and need training.",
            stacklevel=2,
        )
    return model


def _state_dict(source, prefer_ema):
    """Published names -> arrays, from a file or from what `torch.load` gave of one."""
    if isinstance(source, str | os.PathLike):
        return read_published(source, prefer_ema)
    if not isinstance(source, Mapping):
        raise ValueError(
            "`source` must map published names to arrays, or be a path. "
            f"Received: source of class {type(source).__name__}"
        )
    if any(isinstance(value, Mapping) for value in source.values()):
        return find_state_dict(source, "(a mapping)", prefer_ema)
    return source


def _update_origin(model, path):
    """Keeps with the model which published weights it has now.

    A `.keras` file says so. A `.weights.h5` cannot, so that what the model was built with stands.
    """
    if path is not None and is_keras_file(path) and not path.endswith(".keras"):
        return
    forget(model)
    if path is not None and (known := read_keras_origin(path)):
        remember(model, *known)


def _published_slots(model, key_map, source):
    """Slots, the source to fill them from, and which of its keys are a head's."""
    family = family_named(key_map.family)
    layer_names = [layer.name for layer in all_layers(model)]
    modules = key_map.locate([*layer_names, *family.head_layers])
    if heads := _heads_to_merge(family, layer_names):
        heads = [tuple(modules[layer].name for layer in head) for head in heads]
        source = merge_published_heads(source, heads)
    heads = [layer for layer in family.head_layers if layer in modules]
    prefixes = tuple(f"{modules[layer].name}." for layer in heads)
    head_keys = {key for key in source if key.startswith(prefixes)}
    plan = published_parameters(model, key_map, heads_apart=True)
    rows: dict[str, int] = {}  # of published tensors whose parts take turns
    for _, key, _, parameter in plan:
        rows[key] = rows.get(key, 0) + (parameter.shape or (1,))[0]
    slots = []
    for layer, key, module, parameter in plan:
        first, *rest = parameter.shape or (1,)
        first = rows[key] if module.turns > 1 else first * module.parts
        shape = (first, *rest) if parameter.shape else ()
        slots.append(_Slot(layer, key, parameter.variable, shape, _to_keras(module, parameter)))
    return slots, source, head_keys


def _heads_to_merge(family, layer_names):
    """The layers of both heads where the network has the first alone; else None."""
    if family.two_heads is None:
        return None
    first, second = family.two_heads.layers()
    wanted = first[1] in layer_names and second[1] not in layer_names
    return (first, second) if wanted else None


def _to_keras(module, parameter):
    if module.parts == 1:
        return lambda array: parameter.to_keras(module.channels_last(np.asarray(array)))
    return lambda array: parameter.to_keras(module.cut(array, parameter.shape[0]))


def _keras_slots(model, family, layers):
    """The same for variables by layer name, from a file that Keras wrote."""
    model_layers = _layers_with_weights(model)
    if heads := _heads_to_merge(family, model_layers):
        layers = merge_layer_heads(layers, heads)
    source = {
        f"{name}/{index}": array
        for name, arrays in layers.items()
        for index, array in enumerate(arrays)
    }
    head_keys = {key for key in source if _in_head(key.rpartition("/")[0], family)}
    slots = []
    for name, layer in model_layers.items():
        slots += [
            _Slot(name, f"{name}/{index}", variable, tuple(variable.shape), np.asarray)
            for index, variable in enumerate(layer.weights)
        ]
    return slots, source, head_keys


def _match(model, family, slots, source, head_keys, description, allow_fresh_head):
    """What fits: (slot, value) for every variable to load, the names of head layers to leave as
    they are, and the keys that belong to no part of a network of the family.

    Raises:
        ValueError: when the two do not fit.
    """
    layers_of: dict[str, set[str]] = {}  # several, where a tensor is published for all of them
    for slot in slots:
        layers_of.setdefault(slot.key, set()).add(slot.layer)
    given = {key for key in source if not key.endswith(IGNORED_SUFFIX)}
    missing = [key for key in layers_of if key not in given]
    unused = [key for key in source if key in given and key not in layers_of]
    own = {_module(key) for key in (*layers_of, *head_keys)}
    foreign = [key for key in unused if _module(key) not in own and not _is_ours(key)]
    unused = [key for key in unused if key not in foreign]
    misfits = {
        slot.key: f"{slot.key} is {tuple(source[slot.key].shape)}, the model needs {slot.shape}"
        for slot in slots
        if slot.key in given and tuple(source[slot.key].shape) != slot.shape
    }
    heads = {slot.layer for slot in slots if _in_head(slot.layer, family)}
    in_head = {slot.key for slot in slots if slot.layer in heads} | head_keys
    classifiers = {*family.classifiers, *DENSE_CLASSIFIERS}
    fresh = []
    if allow_fresh_head:
        fresh = [
            layer
            for layer in dict.fromkeys(slot.layer for slot in slots if slot.key in in_head)
            if all(slot.key in missing for slot in slots if slot.layer == layer)
            or (layer in classifiers and any(layer in layers_of[key] for key in misfits))
        ]
        slots = [slot for slot in slots if slot.layer not in fresh]
        missing = [key for key in missing if not layers_of[key].issubset(fresh)]
        misfits = {key: text for key, text in misfits.items() if not layers_of[key].issubset(fresh)}
        if left_out := [key for key in unused if key in head_keys]:
            unused = [key for key in unused if key not in head_keys]
            logging.info("%s: its head (%d arrays) is left out.", description, len(left_out))
    problems = []
    if missing:
        problems.append(f"missing from the checkpoint: {_abbreviated(missing)}")
    if unused:
        problems.append(f"not used by the model: {_abbreviated(unused)}")
    if misfits:
        problems.append(f"of another shape: {_abbreviated(list(misfits.values()))}")
    if problems:
        hint = ""
        if not allow_fresh_head and in_head.issuperset([*missing, *unused, *misfits]):
            hint = " Only the head differs: `allow_fresh_head=True` loads the rest."
        raise ValueError(
            f"{description} does not fit the model `{model.name}`.{hint} "
            f"Received: keys {'; keys '.join(problems)}"
        )
    values = [(slot, slot.to_keras(as_float32(source[slot.key], slot.key))) for slot in slots]
    return values, fresh, foreign


def _in_head(layer, family):
    """Whether a layer is none of the backbone's."""
    return layer in family.head_layers or is_in_head(layer)


def _module(key):
    """The outermost module of a key: a loss or another head has one of its own."""
    return key.partition(".")[0]


def _is_ours(key):
    """Whether the key is a layer's of this package, in a file that Keras wrote."""
    layer, slash, index = key.rpartition("/")
    return bool(slash) and index.isdecimal() and is_layer_name(layer)


def _layers_with_weights(model):
    """The layers by name, those of models inside the model, too."""
    found: dict[str, keras.layers.Layer] = {}
    for layer in all_layers(model):
        if layer.weights and found.setdefault(layer.name, layer) is not layer:
            raise ValueError(
                "The model holds several layers of one name, as of two networks of one kind: load "
                f"each of them by itself. Received: model={model.name} with {layer.name!r} twice"
            )
    return found


def known_key_maps() -> list[KeyMap]:
    """The key maps of all families."""
    return [key_map for family in families() for key_map in family.key_maps]


def recognize(
    state_dict: Mapping[str, object], origin: str = "", prefer_ema: bool = True
) -> tuple[KeyMap, Mapping[str, object], list[str]]:
    """The naming that a checkpoint's keys follow, whatever they begin with.

    Args:
        state_dict: names -> arrays.
        origin: " of the file ...", for the message.
        prefer_ema: as for `load_checkpoint`.

    Returns: the naming, the network's part of the state dict without the prefix of its names, and
        the names of what is outside of it.

    Raises:
        ValueError: when they follow none that is known.
    """
    key_maps = known_key_maps()
    if found := unwrap(state_dict, key_maps, prefer_ema):
        return found
    known = ", ".join(f"{key_map.family} ({key_map.naming})" for key_map in key_maps)
    raise ValueError(
        f"The keys{origin} are none of the published namings: {known}. "
        f"Received: keys {_abbreviated(list(state_dict))}"
    )


def published_parameters(
    model: keras.Model, key_map: KeyMap, heads_apart: bool = False
) -> list[tuple[str, str, Module, Parameter]]:
    """Every parameter of a model: its layer's name, its published key, the module, the parameter.

    Args:
        model: of the key map's family.
        key_map: the naming.
        heads_apart: whether layers of a neck or head that the naming does not know get a key of
            their own name, which no checkpoint has.

    Raises:
        ValueError: when the model is of another family than the key map.
    """
    layers = list(_layers_with_weights(model).values())
    modules = key_map.locate([layer.name for layer in all_layers(model)])
    plan = []
    strangers = []
    for layer in layers:
        layer_parameters = parameters(layer)
        if not layer_parameters:
            continue
        module = modules.get(layer.name)
        if module is None and heads_apart and is_in_head(layer.name):
            module = Module(layer.name)
        if module is None:
            strangers.append(layer.name)
            continue
        plan += [(layer.name, f"{module.name}.{p.suffix}", module, p) for p in layer_parameters]
    if strangers:
        raise ValueError(
            f"A {key_map.family} checkpoint with {key_map.naming} names has no place for layers "
            f"of the model `{model.name}`. Received: layers {_abbreviated(strangers)}"
        )
    return plan


def _abbreviated(names):
    shown = ", ".join(map(str, names[:LISTED]))
    more = len(names) - LISTED
    return f"{shown} and {more} more" if more > 0 else shown
