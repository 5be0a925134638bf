"""Reads checkpoint files: strangers' files, so nothing in them is ever executed."""

import argparse
import io
import json
import os
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import h5py
import ml_dtypes
import numpy as np

PUBLISHED_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".pth.tar", ".ckpt")
KERAS_SUFFIXES = (".weights.h5", ".keras")
SUFFIXES = (*PUBLISHED_SUFFIXES, *KERAS_SUFFIXES)
# Where training programs put the state dict, the exponential moving average's first.
EMA_KEYS = ("state_dict_ema", "model_ema", "ema", "ema_state_dict", "model_ema_state_dict")
STATE_DICT_KEYS = ("model", "module", "state_dict", "model_state_dict", "net", "network", "weights")
WHOLE_PREFIXES = ("module.", "_orig_mod.")  # DataParallel's and torch.compile's
BACKBONE_PREFIX = "backbone."
MAXIMUM_NESTING = 4
# No training program keeps these beside weights: a file that names one is refused.
HARMFUL = frozenset(
    f"builtins.{name}"
    for name in ("eval", "exec", "compile", "open", "__import__", "setattr", "delattr", "input")
)
PICKLE_STARTS = (b"PK", b"\x80")  # PyTorch's zip archives, and the pickles before them


def is_keras_file(path: str | os.PathLike) -> bool:
    """Whether a file's name says that Keras wrote it."""
    return str(path).endswith((*KERAS_SUFFIXES, ".h5"))


def read_published(path: str | os.PathLike, prefer_ema: bool = True) -> Mapping[str, object]:
    """The state dict of a `.safetensors` file or a PyTorch pickle (`.pth`, `.pt`, `.bin`).

    A pickle is read by `torch.load(weights_only=True)` and nothing else: it can hold tensors,
    NumPy's numbers and arrays, plain containers and the command line of a training program
    (`argparse.Namespace`, a class without behaviour), but cannot run code. Where a file in
    PyTorch's zip format names anything else, as MMEngine's do (`HistoryBuffer`, `getattr`), an
    inert object stands in its place: nothing is imported or called. State dicts are found where
    training programs put them, such as under `state_dict` or `model_state_dict`; prefixes `module.`
    are taken off, and `backbone.` where all names begin so.

    Args:
        path: of the file.
        prefer_ema: of a file with both, the moving average's weights or the last step's.

    Returns: published names -> arrays or tensors.

    Raises:
        ValueError: for a missing, truncated, corrupt or hostile file, a web page in its place, an
            unknown suffix, or a file without a state dict. It names the file.
        ImportError: for a pickle where PyTorch is not installed.
    """
    path = check_file(path)
    if path.name.endswith(".safetensors"):
        return _unprefixed(_read_safetensors(path))
    if not path.name.endswith(PUBLISHED_SUFFIXES):
        raise ValueError(
            f"A checkpoint's name must end in one of {SUFFIXES}. Received: file {path}"
        )
    return _unprefixed(find_state_dict(_read_pickle(path), path, prefer_ema))


def read_keras(path: str | os.PathLike) -> dict[str, list[np.ndarray]]:
    """The variables of each layer in a `.weights.h5`, `.keras` or `.h5` file, by its name.

    Only the arrays are read; of a `.keras` file neither code nor configuration.

    Args:
        path: of the file.

    Returns: layer name -> its variables, in the order in which the layer saves them.

    Raises:
        ValueError: for a missing, truncated or corrupt file, or one without layers' names.
    """
    path = check_file(path)
    try:
        if path.name.endswith(".keras"):
            with zipfile.ZipFile(path) as archive:
                _refuse_keras2(json.loads(archive.read("metadata.json"))["keras_version"], path)
                source: io.BytesIO | Path = io.BytesIO(archive.read("model.weights.h5"))
        else:
            source = path
        with h5py.File(source, "r") as file:
            _refuse_keras2(file.attrs.get("keras_version"), path)
            if "model_weights" in file:
                found = list(_whole_model_variables(file, path))
            else:
                found = list(_layer_variables(file.get("layers", {}), path))
    except (OSError, KeyError, zipfile.BadZipFile, RuntimeError) as error:
        raise ValueError(_corrupt(path, error)) from error
    variables = dict(found)
    if len(variables) < len(found):
        names = [name for name, _ in found]
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(
            "The file holds several layers of one name, as of two networks of one kind: save the "
            f"one that is wanted alone. Received: file {path} with {twice[:8]} twice"
        )
    if not variables:
        raise ValueError(
            "The file has no layers with weights and names, as `model.save_weights` of Keras 3 "
            f"writes them. Received: file {path}"
        )
    return variables


def read_keras_origin(path: str | os.PathLike) -> tuple[str, str] | None:
    """What a `.keras` file says of the published weights that its network began with.

    The configuration is read as text; nothing in it is built.

    Args:
        path: of the file.

    Returns: the preset's name and the order of the image's channels, as `layers.PublishedWeights`
        keeps them; None for a file that says nothing, as every `.weights.h5`.
    """
    if not str(path).endswith(".keras"):
        return None
    with zipfile.ZipFile(path) as archive:
        content = json.loads(archive.read("config.json"))
    found = [
        (node["config"]["preset"], node["config"]["channel_order"])
        for node in _nodes(content)
        if node.get("class_name") == "PublishedWeights"
    ]
    return found[0] if found else None


def _refuse_keras2(version, path):
    """Names what tf_keras wrote; `version` is the Keras that a file says it is of."""
    version = None if version is None else _word(version)
    if version is not None and version.partition(".")[0] in ("0", "1", "2"):
        raise ValueError(
            f"The file was written by Keras {version} (`tf.keras` of then, `tf_keras` of today), "
            "whose models have no layers of this package. Load it with `tf_keras.models."
            "load_model`, or write its weights under their published names. "
            f"Received: file {path}"
        )


def _nodes(content) -> Iterator[dict]:
    """Every dictionary inside a JSON document."""
    if isinstance(content, dict):
        yield content
        content = list(content.values())
    if isinstance(content, list):
        for value in content:
            yield from _nodes(value)


def check_file(path: str | os.PathLike) -> Path:
    """The path, after the checks that need no format.

    Raises:
        ValueError: where there is no file, or it is empty, a web page or a Git LFS pointer.
    """
    path = Path(path)
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "no file"
        raise ValueError(f"There is {kind} of that name. Received: file {path}")
    with path.open("rb") as file:
        start = file.read(2048)
    if not start:
        raise ValueError(f"The file is empty: delete it and fetch it again. Received: file {path}")
    if (title := html_title(start)) is not None:
        raise ValueError(
            f"The file is a web page ({title!r}), not a checkpoint: its home answered with a page, "
            "often because a download quota is used up. Delete it, open its address in a browser "
            f"and save the file itself. Received: file {path}"
        )
    if start.startswith(b"version https://git-lfs"):
        raise ValueError(
            "The file is a Git LFS pointer, not the checkpoint: fetch it with `git lfs pull`. "
            f"Received: file {path}"
        )
    return path


def as_float32(value, key: str) -> np.ndarray:
    """An array or PyTorch tensor of any number type, bfloat16 too, as float32.

    Args:
        value: the array or tensor.
        key: its name, for the message.

    Raises:
        ValueError: for anything but numbers.
    """
    if hasattr(value, "detach"):
        value = value.detach().cpu().float().numpy()
    array = np.asarray(value)
    if array.dtype.kind not in "fiu" and array.dtype != ml_dtypes.bfloat16:
        raise ValueError(f"Weights must be numbers. Received: {key} of type {array.dtype}")
    return array.astype("float32", copy=False)


def html_title(start: bytes) -> str | None:
    """The title of a web page from its first bytes ("untitled" without one); None for others."""
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n")[:2048].decode("latin-1")
    if not re.match(r"<(!doctype html|html|head|body|\?xml)", text, re.IGNORECASE):
        return None
    title = re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
    return " ".join(title[1].split()) if title else "untitled"


def find_state_dict(content, path: str | os.PathLike, prefer_ema: bool = True) -> Mapping:
    """The state dict inside what a training program saved.

    Args:
        content: what was read from the file.
        path: for messages.
        prefer_ema: of several, the exponential moving average's or the last step's.

    Raises:
        ValueError: when there is none.
    """
    keys = (*EMA_KEYS, *STATE_DICT_KEYS) if prefer_ema else (*STATE_DICT_KEYS, *EMA_KEYS)
    found = content
    for _ in range(MAXIMUM_NESTING):
        if not isinstance(found, Mapping):
            break
        nested = [found[key] for key in keys if isinstance(found.get(key), Mapping)]
        if not nested:
            if any(_is_array(value) for value in found.values()):
                return {key: value for key, value in found.items() if hasattr(value, "shape")}
            nested = [value for value in found.values() if _looks_like_state_dict(value)]
            if len(nested) != 1:
                break
        found = nested[0]
    shown = sorted(map(str, content))[:8] if isinstance(content, Mapping) else type(content)
    raise ValueError(
        f"The file holds no state dict, neither at its top nor under any of {keys}. "
        f"Received: file {path} with {shown}"
    )


def _is_array(value):
    """An array or tensor with an axis: no loss, accuracy or counter."""
    return len(getattr(value, "shape", ())) > 0


def _looks_like_state_dict(value):
    """Names of modules' parameters -> arrays, under whatever key; no optimizer's state."""
    return (
        isinstance(value, Mapping)
        and all(isinstance(key, str) for key in value)
        and any("." in key and _is_array(array) for key, array in value.items())
    )


def _harmless():
    """Classes without behaviour that training programs save beside the weights.

    NumPy's were at another address before NumPy 2; files have either.
    """
    scalar, rebuild = np.array(0.0)[()].__reduce__()[0], np.zeros(1).__reduce__()[0]
    names = ("numpy.core.multiarray", "numpy._core.multiarray")
    moved = [(scalar, f"{name}.scalar") for name in names]
    moved += [(rebuild, f"{name}._reconstruct") for name in names]
    types = [getattr(np.dtypes, name) for name in np.dtypes.__all__]
    return [argparse.Namespace, np.ndarray, np.dtype, *types, *moved]


class LeftOut:
    """Stands where a pickle has an object that is neither tensor nor plain container.

    Whatever class or function a file names, this is what is built or called: it keeps nothing of
    what it is given.
    """

    def __new__(cls, *_):
        return object.__new__(cls)

    def __init__(self, *_):
        pass

    def __setstate__(self, state):
        pass


def _stand_ins(path):
    """An inert class under every name in a file that PyTorch would not read.

    Names of what can only do harm get none, so that PyTorch refuses the file.
    """
    from torch.serialization import get_unsafe_globals_in_checkpoint

    if not zipfile.is_zipfile(path):
        return []  # nothing that holds such objects writes the format before
    names = get_unsafe_globals_in_checkpoint(path)
    return [(LeftOut, name) for name in names if name not in HARMFUL]


def _read_safetensors(path):
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (SafetensorError, ValueError, OSError) as error:
        raise ValueError(_corrupt(path, error)) from error


def _read_pickle(path):
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"{path} is a PyTorch pickle, which only PyTorch reads safely: `pip install "
            "'keras-hybrid[torch]'` (or `pip install torch`), or convert the file to "
            "`.safetensors` where PyTorch is installed."
        ) from error

    with path.open("rb") as file:
        if not file.read(2).startswith(PICKLE_STARTS):
            raise ValueError(_corrupt(path, "neither a zip archive nor a pickle"))
    _refuse_programs(path)
    try:
        known = _harmless()
        with torch.serialization.safe_globals(known):
            known += _stand_ins(path)
        with torch.serialization.safe_globals(known):
            content = torch.load(path, map_location="cpu", weights_only=True)
        if isinstance(content, LeftOut):
            raise pickle.UnpicklingError("the whole file is one object")
        return content
    except pickle.UnpicklingError as error:
        reason = re.search(r"(GLOBAL|Unsupported global)[^.]*\.[^.]*", str(error))
        raise ValueError(
            "The pickle holds more than tensors and was refused; nothing in it was run "
            f"({reason[0].strip() if reason else 'an object or a call'}). Where it is your own, "
            "save `model.state_dict()` instead of the whole model; else get the weights as "
            f"`.safetensors`, or from a home that you trust. Received: file {path}"
        ) from error
    except Exception as error:  # a damaged pickle fails wherever its bytes lead
        raise ValueError(_corrupt(path, error)) from error


def _refuse_programs(path):
    """Names what PyTorch keeps in archives beside state dicts."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        names = {name.partition("/")[2] for name in archive.namelist()}
    if "constants.pkl" in names:
        raise ValueError(
            "The file is a TorchScript program, not a state dict. In PyTorch, write its weights "
            "with `torch.save(torch.jit.load(file).state_dict(), 'weights.pth')` and load these. "
            f"Received: file {path}"
        )
    if "archive_format" in names or "models/model.json" in names:
        raise ValueError(
            "The file is a program of `torch.export`, not a state dict. In PyTorch, write its "
            "weights with `torch.save(torch.export.load(file).state_dict, 'weights.pth')` and load "
            f"these. Received: file {path}"
        )


def _corrupt(path, error):
    line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return (
        f"The file is truncated or corrupt, or not what its name says ({line}): delete it and "
        f"fetch it again. Received: file {path} of {path.stat().st_size} bytes"
    )


def _layer_variables(layers, path) -> Iterator[tuple[str, list[np.ndarray]]]:
    for key in layers:
        group = layers[key]
        if not isinstance(group, h5py.Group):
            continue
        if isinstance(inner := group.get("layers"), h5py.Group):  # a model inside the model
            yield from _layer_variables(inner, path)
        variables = group.get("vars")
        if not isinstance(variables, h5py.Group) or "name" not in variables.attrs:
            continue
        arrays = [_array(variables[index], path) for index in sorted(variables, key=int)]
        if arrays:
            yield str(variables.attrs["name"]), arrays


def _whole_model_variables(file, path) -> Iterator[tuple[str, list[np.ndarray]]]:
    """The same of a whole model in HDF5, as `model.save("model.h5")` writes it."""
    for name, group in file["model_weights"].items():
        weights = [_word(weight) for weight in group.attrs.get("weight_names", ())]
        if weights:
            yield _word(name), [_array(group[weight], path) for weight in weights]


def _array(dataset, path) -> np.ndarray:
    """The numbers of a data set, after the checks that a stranger's file needs."""
    if dataset.external or dataset.is_virtual:
        raise ValueError(
            f"The file refers to data in other files, which is refused. Received: {path}"
        )
    if dataset.nbytes > path.stat().st_size:
        raise ValueError(_corrupt(path, f"{dataset.name} is larger than the file"))
    return dataset[()]


def _word(text) -> str:
    return text.decode() if isinstance(text, bytes) else str(text)


def _unprefixed(state_dict):
    """Without the prefixes of wrappers; parts beside a backbone stay, and its prefix with them."""
    prefixes = (*WHOLE_PREFIXES, BACKBONE_PREFIX)
    while state_dict:
        for prefix in prefixes:
            if all(key.startswith(prefix) for key in state_dict):
                state_dict = {key.removeprefix(prefix): x for key, x in state_dict.items()}
                break
        else:
            break
    return state_dict
