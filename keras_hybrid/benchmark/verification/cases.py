"""Inputs of a file and what this machine computes of them: what a device is held against."""

import dataclasses
import hashlib
import json
from pathlib import Path

from keras_hybrid.benchmark.workers import run_worker

MOST_IMAGES = 16  # each costs the start of a program on the phone
_SECONDS = 600


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An input or output of a file.

    Attributes:
        name: in the file's signature, else the tensor's own.
        shape: with the batch.
        dtype: NumPy's word for it.
        scale, zero_point: of its quantization; a scale of 0 for none.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float = 0.0
    zero_point: int = 0


@dataclasses.dataclass(frozen=True)
class Cases:
    """The inputs of one file and the expected outputs.

    Attributes:
        input: of the file.
        outputs: of the file, in its order.
        inputs: files of bytes, one an image.
        expected: outputs that LiteRT's own kernels compute here, one after the other's bytes.
        checksum: of all inputs.
    """

    input: Tensor
    outputs: tuple[Tensor, ...]
    inputs: tuple[Path, ...]
    expected: tuple[Path, ...]
    checksum: str


def prepare_cases(model_path, images, folder, limit: int = MOST_IMAGES) -> Cases:
    """Writes inputs and expected outputs of a file, in a process of its own.

    The expected outputs are those of LiteRT's own kernels, without any delegate.

    Args:
        images: a folder of images, searched in depth; or a .npy of inputs, (n, ...) as the file
            takes them.
        folder: gets the files.
        limit: at most so many images.

    Raises:
        ValueError: for a file with several inputs, or images that do not fit it.
    """
    request = {
        "model": str(Path(model_path).resolve()),
        "images": str(Path(images).resolve()),
        "folder": str(Path(folder).resolve()),
        "limit": limit,
    }
    Path(folder).mkdir(parents=True, exist_ok=True)
    answer = ask_worker("prepare", request)
    inputs, expected = ([Path(p) for p in answer[key]] for key in ("inputs", "expected"))
    digest = hashlib.sha256()
    for path in inputs:
        digest.update(path.read_bytes())
    return Cases(
        _tensor(answer["input"]),
        tuple(map(_tensor, answer["outputs"])),
        tuple(inputs),
        tuple(expected),
        digest.hexdigest(),
    )


def ask_worker(task: str, request: dict) -> dict:
    """The answer of the verification's own process.

    Raises:
        ValueError: with its message, if it fails.
    """
    module = "keras_hybrid.benchmark.verification.worker"
    answer, error = run_worker(module, [task, json.dumps(request)], _SECONDS)
    if answer is None:
        raise ValueError(error.partition("ValueError: ")[2] or error)
    return answer


def _tensor(values):
    return Tensor(**{**values, "shape": tuple(values["shape"])})
