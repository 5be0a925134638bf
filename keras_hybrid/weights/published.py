"""A model of this package written back under the published names, for the authors' code."""

import os
import tempfile
from pathlib import Path

import keras
import numpy as np

from keras_hybrid.weights.checkpoint import KEY_MAPS, published_parameters
from keras_hybrid.weights.families import family_of
from keras_hybrid.weights.key_maps import KeyMap

# Under which key each home's code looks for the state dict; None for the file's top.
NESTING = {
    ("mobile_former", "authors"): "state_dict",
    ("iformer", "authors"): "model",
}
_BATCH_COUNT = "num_batches_tracked"


def key_map_of(model: keras.Model, naming: str) -> KeyMap:
    """The key map of a model's family with a naming: "authors", "timm" or "hugging_face".

    Raises:
        ValueError: for a naming that the family's published checkpoints do not have.
    """
    family = family_of(model)
    namings = {key_map.naming: key_map for key_map in KEY_MAPS if key_map.family == family}
    if naming not in namings:
        raise ValueError(f"{family} has the namings {tuple(namings)}. Received: naming={naming!r}")
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
    parts = {}
    for layer, key, module, parameter in published_parameters(model, key_map_of(model, naming)):
        value = keras.ops.convert_to_numpy(parameter.variable)
        array = np.ascontiguousarray(parameter.to_published(value.astype("float32", copy=False)))
        parts.setdefault(key, {})[module.part] = array
        if isinstance(layers[layer], keras.layers.BatchNormalization):
            counter = {0: np.zeros((), "int64")}
            parts.setdefault(f"{module.name}.{_BATCH_COUNT}", counter)
    return {
        key: np.concatenate([arrays[part] for part in sorted(arrays)])
        if len(arrays) > 1
        else arrays[0]
        for key, arrays in parts.items()
    }


def write_published(
    model: keras.Model, path: str | os.PathLike, naming: str, nesting: str | None = None
):
    """Writes a model under published names to a `.safetensors`, `.pth`, `.pt` or `.bin` file.

    The file appears whole or not at all.

    Args:
        model: a model of this package.
        path: of the file.
        naming: as for `published_state_dict`.
        nesting: key of a pickle under which the state dict goes, such as "model"; None for where
            the home's own code looks.

    Raises:
        ValueError: for another suffix, or what `published_state_dict` refuses.
        ImportError: for a pickle without PyTorch.
    """
    path = Path(path)
    if path.suffix not in (".safetensors", ".pth", ".pt", ".bin"):
        raise ValueError(
            "A published checkpoint's name ends in .safetensors, .pth, .pt or .bin. "
            f"Received: path={path}"
        )
    state_dict = published_state_dict(model, naming)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        if path.suffix == ".safetensors":
            from safetensors.numpy import save_file

            save_file(state_dict, temporary, metadata={"format": "pt"})
        else:
            _write_pickle(state_dict, temporary, nesting or NESTING.get((family_of(model), naming)))
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


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
