"""A model of this package written back under the published names, for the authors' code."""

import os
from pathlib import Path

import keras
import numpy as np
from safetensors.numpy import save

from keras_hybrid.files import whole_file
from keras_hybrid.weights.checkpoints.checkpoint_files import KERAS_SUFFIXES
from keras_hybrid.weights.checkpoints.key_maps import KeyMap, joined
from keras_hybrid.weights.checkpoints.load import DENSE_CLASSIFIERS, published_parameters
from keras_hybrid.weights.families import family_of
from keras_hybrid.weights.origin import first_convolution, origin_of, remember

PICKLE_SUFFIXES = (".pth", ".pt", ".bin")
_BATCH_COUNT = "num_batches_tracked"


def key_map_of(model: keras.Model, naming: str | None = None) -> KeyMap:
    """The key map of a model's family with a naming; with None the family's first.

    Raises:
        ValueError: for a naming that the family's published checkpoints do not have.
    """
    family = family_of(model)
    is_dense = any(layer.name in DENSE_CLASSIFIERS for layer in model.layers)
    namings = {x.naming: x for x in family.key_maps if is_dense or not x.dense}
    if naming is None:
        return next(iter(namings.values()))
    if naming not in namings:
        raise ValueError(
            f"{family.name} has the namings {tuple(namings)}. Received: naming={naming!r}"
        )
    return namings[naming]


def published_state_dict(model: keras.Model, naming: str) -> dict[str, np.ndarray]:
    """The weights of a model under published names and in PyTorch's layout.

    `load_checkpoint` of the result gives the model back, bit for bit.

    Args:
        model: a model of this package.
        naming: "authors" (Mobile-Former, iFormer), "timm" (MobileViT, iFormer) or "hugging_face"
            (MobileViT).

    Returns: published names -> float32 arrays, with the batch counters (0) that PyTorch's strict
        loading asks for.

    Raises:
        ValueError: for a naming that the family does not have, or layers that no published network
            has.
    """
    layers = {layer.name: layer for layer in model.layers}
    parts: dict[str, dict[int, np.ndarray]] = {}
    turns: dict[str, int] = {}
    for layer, key, module, parameter in published_parameters(model, key_map_of(model, naming)):
        value = keras.ops.convert_to_numpy(parameter.variable)
        published = parameter.to_published(value.astype("float32", copy=False))
        array = np.ascontiguousarray(module.channels_first(published))
        parts.setdefault(key, {})[module.part] = array
        turns[key] = module.turns
        if isinstance(layers[layer], keras.layers.BatchNormalization):
            counter = {0: np.zeros((), "int64")}
            parts.setdefault(f"{module.name}.{_BATCH_COUNT}", counter)
    return {
        key: joined([arrays[part] for part in sorted(arrays)], turns.get(key, 1))
        for key, arrays in parts.items()
    }


def write_checkpoint(
    model: keras.Model,
    path: str | os.PathLike,
    naming: str | None = None,
    nesting: str | None = None,
):
    """Writes a model's weights; the suffix says how. The file appears whole or not at all.

    Args:
        model: a model of this package.
        path: `.weights.h5` or `.keras` for Keras; `.safetensors`, or `.pth`, `.pt` or `.bin`
            (PyTorch pickles), with published names.
        naming: as for `published_state_dict`; None for the family's first.
        nesting: key of a pickle under which the state dict goes, such as "model"; None for where
            the home's own code looks.

    Raises:
        ValueError: for another suffix, a folder that is missing, or a naming that the family does
            not have.
        ImportError: for a pickle without PyTorch.
    """
    path = Path(path)
    suffixes = (*KERAS_SUFFIXES, ".safetensors", *PICKLE_SUFFIXES)
    suffix = next((suffix for suffix in suffixes if path.name.endswith(suffix)), None)
    if suffix is None:
        raise ValueError(f"A checkpoint's name ends in one of {suffixes}. Received: path={path}")
    if not path.parent.is_dir():
        raise ValueError(f"There is no folder {path.parent}. Received: path={path}")
    if suffix in KERAS_SUFFIXES:
        if naming or nesting:
            raise ValueError(
                "Keras files have no published names. "
                f"Received: path={path}, naming={naming!r}, nesting={nesting!r}"
            )
    else:
        key_map = key_map_of(model, naming)
        state_dict = published_state_dict(model, key_map.naming)
        nesting = nesting or key_map.nesting
    with whole_file(path) as temporary:
        if suffix == ".weights.h5":
            model.save_weights(temporary)
        elif suffix == ".keras":
            model.save(temporary)
        elif suffix == ".safetensors":
            temporary.write_bytes(save(state_dict, metadata={"format": "pt"}))
        else:
            _write_pickle(state_dict, temporary, nesting)


def _write_pickle(state_dict, path, nesting):
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            "A PyTorch pickle needs PyTorch: `pip install 'keras-hybrid[torch]'`, or write a "
            "`.safetensors` file, which does not."
        ) from error
    tensors = {key: torch.from_numpy(array.copy()) for key, array in state_dict.items()}
    torch.save({nesting: tensors} if nesting else tensors, path)


def swap_input_channels(model: keras.Model) -> None:
    """Turns the first convolution from RGB to BGR input, or from BGR to RGB.

    With it, a network of Apple's MobileViT files, which take BGR, gives the same outputs for RGB.

    Args:
        model: a model of this package.

    Raises:
        ValueError: when the model's first convolution does not take 3 channels.
    """
    stem = first_convolution(model)
    if stem.kernel.shape[2] != 3:
        raise ValueError(
            "The first convolution must take 3 channels. "
            f"Received: {stem.name} with {stem.kernel.shape[2]}"
        )
    stem.kernel.assign(keras.ops.flip(stem.kernel, 2))
    if origin := origin_of(model):
        remember(model, origin.preset, "RGB" if origin.channel_order == "BGR" else "BGR")
