"""What a run, a file or a name holds, told without loading a network."""

import json
import zipfile
from collections.abc import Callable, Container
from pathlib import Path

from keras_hybrid.export.metadata import read_record
from keras_hybrid.files import MODEL_FILE


def holds(
    name: str,
    systems: Container[str],
    in_record: Callable[[dict], bool],
    in_config: Callable[[dict], bool],
) -> bool:
    """Whether a run, a file or a name is a network of a task.

    Args:
        name: a run's folder, a `.keras` or `.tflite` file, a system's name, or a preset's such as
            "SSDLiteMobileViTXXS/coco".
        systems: names of the task's systems.
        in_record: whether a `.tflite` with this record of ours is one.
        in_config: whether a Keras model of this configuration is one.

    Returns: False, too, for what cannot be read: who opens it says why.
    """
    path = Path(name).expanduser()
    if path.suffix == ".tflite":
        return path.is_file() and in_record(_record(path))
    if path.is_dir():
        path = path / MODEL_FILE
    if path.suffix == ".keras":
        return path.is_file() and in_config(_config(path))
    return name.partition("/")[0] in systems


def _record(path):
    try:
        return read_record(path)
    except ValueError:
        return {}


def _config(path):
    try:
        with zipfile.ZipFile(path) as archive:
            return json.loads(archive.read("config.json")).get("config", {})
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return {}
