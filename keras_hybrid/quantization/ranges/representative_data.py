"""Representative images in all forms that users have them in, as batches of a model's input."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import keras
import numpy as np

from keras_hybrid.image_files import decode_image, sample_image_files
from keras_hybrid.weights.evaluation import evaluation_image
from keras_hybrid.weights.family import Preprocessing
from keras_hybrid.weights.preprocessing import preprocess_input, preprocessing_of

FILES = 512  # images taken of a folder, unless `steps` says how many
ENDLESS = 20_000  # images after which data of unknown length are taken for endless
IMAGE_KEYS = ("image", "images", "pixel_values", "x", "input", "inputs")
PATHS = (str, bytes, os.PathLike)
KINDS = (
    "an array (n, H, W, channels), batches of such in a list, dataset, generator or function that "
    "returns one (with labels or not), a folder of images or a list of image files"
)


def representative_batches(
    data,
    model: keras.Model,
    batch_size: int = 32,
    steps: int | None = None,
    preprocessing: Preprocessing | str | None = None,
    seed: int = 0,
) -> Iterator[list[np.ndarray]]:
    """Batches of a model's inputs, one array an input.

    One batch is in memory at a time. Image files are decoded, cropped and resized as for
    evaluation. Of a folder of folders, each gives as many images as it can, in turn.

    Args:
        data: an array; an iterable of batches, each an array, a dictionary by input names or one of
            an image and others, or a tuple that starts with one of these; a function that returns
            an iterable; a folder; a list of paths.
        model: that takes the images.
        batch_size: for arrays and files.
        steps: end after so many batches; None for all there are, and of a folder for 512 images.
        preprocessing: of image files, as for `preprocess_input`; None for the model's own.
        seed: of the choice among a folder's files.

    Raises:
        ValueError: for data of another kind, and such that do not end, without `steps`.
    """
    if steps is not None and (not isinstance(steps, int) or steps < 1):
        raise ValueError(f"`steps` must be a positive integer or None. Received: steps={steps!r}")
    count = None if steps is None else steps * batch_size
    if isinstance(data, PATHS):
        data = _files_of(os.fsdecode(data), FILES if count is None else count, seed)
    elif callable(data) and not hasattr(data, "__iter__") and not hasattr(data, "__getitem__"):
        data = data()
    if isinstance(data, list | tuple) and data and isinstance(data[0], PATHS):
        files = [Path(os.fsdecode(path)) for path in data][:count]
        yield from _decoded(files, model, batch_size, preprocessing)
        return
    images = 0
    for number, batch in enumerate(_batches(data, model, batch_size, steps)):
        if number == steps:
            return
        arrays = _arrays(batch, model)
        images += len(arrays[0]) if arrays[0].ndim else 0
        yield arrays
        if steps is None and images >= ENDLESS and not _length(data):
            raise ValueError(
                f"The representative images seem to have no end, and {images} are enough: say "
                f"after how many batches to end, with `steps`. Received: {type(data).__name__}"
            )


def structured(arrays: list[np.ndarray], model: keras.Model):
    """A batch's arrays, one an input, in the structure that the model takes."""
    return keras.tree.pack_sequence_as(model.input, arrays)


def _batches(data, model, batch_size, steps):
    """What each batch of anything but files is given as."""
    if isinstance(data, Mapping) or _is_arrays_by_input(data, model):
        arrays = _arrays(data, model)
        for start in range(0, len(arrays[0]), batch_size):
            yield [array[start : start + batch_size] for array in arrays]
    elif hasattr(data, "shape"):
        for start in range(0, len(data), batch_size):
            yield data[start : start + batch_size]
    elif hasattr(data, "cardinality"):
        if steps is None and int(data.cardinality()) == -1:
            raise ValueError(
                "The dataset of representative images repeats for ever: say after how many batches "
                f"to end, with `steps`. Received: {data}"
            )
        yield from data
    elif (length := _length(data)) is not None and hasattr(data, "__getitem__"):
        # Keras' sequences iterate without end, and know their length.
        yield from (data[index] for index in range(length))
    elif hasattr(data, "__iter__"):
        yield from data
    else:
        raise ValueError(f"Representative images are to be {KINDS}. Received: images={data!r}")


def _length(data):
    """The number of batches, where data know it."""
    if isinstance(data, keras.utils.PyDataset):
        return data.num_batches
    try:
        return len(data)
    except TypeError:
        return None


def _is_arrays_by_input(data, model):
    """Whether data are one array for each of several inputs, as `fit` takes them."""
    inputs = model.inputs
    return (
        isinstance(data, list | tuple)
        and len(data) == len(inputs) > 1
        and all(
            hasattr(x, "shape") and len(x.shape) == len(own.shape)
            for x, own in zip(data, inputs, strict=True)
        )
    )


def _arrays(batch, model) -> list[np.ndarray]:
    """One array for each input."""
    names = [x.name for x in model.inputs]
    if isinstance(batch, Mapping):
        return _of_mapping(batch, names)
    if isinstance(batch, list | tuple):
        if len(names) == 1 or len(batch) != len(names) or isinstance(batch[0], list | tuple):
            if not batch:
                raise ValueError(f"A batch must hold images. Received: {batch!r}")
            first = batch[0]
            if isinstance(first, Mapping | list | tuple):
                return _arrays(first, model)
            batch = [first]
        if len(batch) != len(names):
            raise ValueError(
                f"The model takes {len(names)} inputs, {names}, not one image input: give batches "
                "as dictionaries by these names, or one list of arrays a batch. "
                f"Received: a batch of {len(batch)} arrays"
            )
        return [_numbers(x) for x in batch]
    return _arrays([batch], model)


def _of_mapping(batch, names):
    if set(names) <= set(batch):
        return [_numbers(batch[name]) for name in names]
    keys = [key for key in IMAGE_KEYS if key in batch]
    if len(names) > 1 or not keys:
        raise ValueError(
            f"Batches of representative images that are dictionaries need the keys {names}"
            + (f", or one of {IMAGE_KEYS}" if len(names) == 1 else "")
            + f". Received: keys {sorted(map(str, batch))}"
        )
    return [_numbers(batch[keys[0]])]


def _numbers(images):
    """Images as an array."""
    try:
        array = np.asarray(images)
        if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
            raise TypeError(f"values of type {array.dtype}")
        return array.astype("float32", copy=False)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"Representative images must be numbers, those of a batch of one size ({error}). "
            f"Received: a batch of type {type(images).__name__}"
        ) from error


def _files_of(path, count, seed):
    """Image files of a folder: as many of each folder in it, by chance, up to a number."""
    path = Path(path)
    if path.is_file() and path.suffix == ".npy":
        return np.load(path, mmap_mode="r")
    if path.is_file() and path.suffix == ".npz":
        arrays = np.load(path)
        return arrays[arrays.files[0]]
    if path.is_file():
        return [path]
    files = sample_image_files(path, count, seed) if path.is_dir() else []
    if not files:
        raise ValueError(f"Representative images: no image file is there. Received: {str(path)!r}")
    return files


def _decoded(files, model, batch_size, preprocessing):
    """Batches of images from files, as evaluation would show them to the model."""
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        raise ValueError(
            "Representative images from files are for a model of one image input. "
            f"Received: inputs {[tuple(x.shape) for x in model.inputs]}"
        )
    if preprocessing is None:
        try:
            preprocessing = preprocessing_of(model)
        except ValueError:
            raise ValueError(
                "Representative images from files need to become what the model takes, which is "
                "known of this package's networks alone: say what it is with `preprocessing="
                "keras_hybrid.weights.family.Preprocessing(...)`, or give arrays. "
                f"Received: model {model.name!r}"
            ) from None
    known = preprocessing_of(preprocessing)
    height, width = model.inputs[0].shape[1:3]
    height, width = height or known.resolution, width or known.resolution
    for start in range(0, len(files), batch_size):
        images = [
            _resized(decode_image(file), known, height, width)
            for file in files[start : start + batch_size]
        ]
        yield [np.asarray(preprocess_input(np.stack(images), known))]


def _resized(image, known, height, width):
    if height == width:
        return np.asarray(evaluation_image(image, known, height))
    resized = keras.ops.image.resize(
        image.astype("float32"), (height, width), known.interpolation, antialias=True
    )
    return np.clip(np.round(keras.ops.convert_to_numpy(resized)), 0, 255)
