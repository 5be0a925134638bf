"""Published weights by name: downloaded once, converted once, loaded from then on."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path

import keras
from absl import logging

from keras_hybrid.files import only_writer, sha256, whole_file
from keras_hybrid.version import __version__
from keras_hybrid.weights.checkpoints.load import ChannelOrderWarning, load_checkpoint
from keras_hybrid.weights.family import Preset
from keras_hybrid.weights.origin import remember_preset
from keras_hybrid.weights.pretrained.download import (
    DownloadError,
    fetch,
    record_path,
    recorded_checksum,
    write_record,
)


def cache_folder(preset: Preset) -> Path:
    """Where a preset's files are kept: in Keras' cache, `KERAS_HOME` or ~/.keras.

    A file that was fetched by hand goes there too, under its home's name.
    """
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    return home / "models" / "keras_hybrid" / preset.model / preset.tag


def load_pretrained(model: keras.Model, preset: Preset, build: Callable[[], keras.Model]):
    """Loads a preset into a model, and remembers it with the model (`origin.preset_of`).

    The first call downloads and verifies the file and converts it to `.weights.h5` beside it;
    later calls, of any process, load that and make no request. A model without head gets the
    trunk; one with another number of classes keeps its fresh classifier, with a warning.

    Args:
        model: a model of the preset's builder.
        preset: the published weights.
        build: returns the published network, with the heads that the preset's file has.

    Raises:
        ValueError: when the model's options change the published layers, or the file is refused;
            a file that was downloaded for this call is deleted then.
        DownloadError: when the file cannot be had, or written.
        ImportError: for a PyTorch pickle without PyTorch.
    """
    converted = converted_file(preset, build)
    try:
        load_checkpoint(model, converted, allow_fresh_head=True)
    except ValueError as error:
        raise ValueError(
            f"The published weights {preset.name} do not fit `{model.name}`: options that change "
            "the published layers need `weights=None`, or weights of their own. "
            f"{error}"
        ) from error
    remember_preset(model, preset)


def converted_file(preset: Preset, build: Callable[[], keras.Model]) -> Path:
    """The `.weights.h5` of a preset, downloaded and converted where it is not there yet.

    Args and Raises: as for `load_pretrained`.
    """
    folder = cache_folder(preset)
    converted = folder / f"{preset.tag}.keras_hybrid-{__version__}.weights.h5"
    if _is_whole(converted):  # without the lock, for a cache that one may only read
        return converted
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DownloadError(
            f"The cache folder {folder} cannot be made ({error.strerror}). Choose another place "
            "for Keras' cache with KERAS_HOME."
        ) from error
    with only_writer(folder):
        if _is_whole(converted):
            return converted
        if converted.exists():
            logging.warning("%s is damaged and is converted anew.", converted)
            _delete(converted)
        source, is_new = fetch(preset.homes, folder)
        reference = build()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ChannelOrderWarning)  # the preset knows
                load_checkpoint(reference, source)
        except ValueError:
            if is_new:
                _delete(source)
            raise
        _save(reference, converted, source)
    return converted


def _is_whole(path):
    return path.exists() and recorded_checksum(path) == sha256(path)


def _save(model, converted, source):
    """Saves the weights and records their checksum beside them."""
    try:
        with whole_file(converted) as temporary:
            model.save_weights(temporary)
        write_record(converted, f"converted from {source.name}")
    except OSError as error:
        _delete(converted)
        raise DownloadError(
            f"The converted weights {converted} cannot be written ({error}). Make room, or choose "
            "another place for Keras' cache with KERAS_HOME."
        ) from error


def _delete(path):
    path.unlink(missing_ok=True)
    record_path(path).unlink(missing_ok=True)
