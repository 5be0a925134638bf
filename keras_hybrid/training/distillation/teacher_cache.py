"""A teacher's logits of a training split, on disk."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from keras_hybrid.commentary import STANDARD_ERROR
from keras_hybrid.files import write_text
from keras_hybrid.training.data.image_source import ImageSource
from keras_hybrid.training.data.pipeline import evaluation_dataset
from keras_hybrid.training.data.process_share import ALONE, Share
from keras_hybrid.training.distillation.teacher import Teacher
from keras_hybrid.training.recipe.recipe import CROP, Recipe

BATCH_SIZE = 64
BYTES_PER_LOGIT = 2  # float16


def cached_logits(
    teacher: Teacher,
    source: ImageSource,
    recipe: Recipe,
    share: Share = ALONE,
    stream=STANDARD_ERROR,
) -> Callable:
    """The teacher's logits of each training image's evaluation crop, computed once.

    Whole images in place of the crops that the network sees: a teacher that cannot follow the
    augmentation, at a small part of the cost. An interrupted pass over the images goes on where
    it ended. A cache is found again by teacher, data and crop; other runs may share the folder.

    Args:
        teacher: whose logits.
        source: of the images, split "train".
        recipe: with the folder `teacher_cache`.
        share: of several processes, none computes a cache.
        stream: where progress goes.

    Returns: a function for `tf.data`: an example's place in the split -> float16 (classes,).

    Raises:
        ValueError: when the cache does not hold what it says, or several processes lack it.
    """
    classes = len(source.class_names)
    count = source.sizes["train"]
    # RGB crops of the teacher's size, but in the network's way: one crop for both.
    crops = dataclasses.replace(
        recipe,
        resolution=teacher.resolution,
        batch_size=BATCH_SIZE,
        accumulation_steps=1,
        scales=(),
    )
    description = {
        "teacher": teacher.identity,
        "data": source.name,
        "images": count,
        "classes": classes,
        "crop": [
            recipe.model,
            teacher.resolution,
            recipe.crop_fraction,
            recipe.interpolation,
            *([recipe.to_square] if recipe.to_square != CROP else []),
        ],
    }
    text = json.dumps(description, indent=1) + "\n"
    folder = Path(recipe.teacher_cache)
    path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.float16"
    record = BYTES_PER_LOGIT * classes
    if not path.exists():
        if share.processes > 1:
            raise ValueError(
                "One process makes the cache before several share it: start the run with "
                "`--distribute=none` first, until its first epoch. "
                f"Received: teacher_cache={recipe.teacher_cache!r}, {share.processes} processes"
            )
        write_text(path.with_suffix(".json"), text)
        _write(path, teacher, source, crops, record, stream)
    if path.stat().st_size != count * record:
        raise ValueError(
            f"A cache of {count} images must have {count * record} bytes: delete it. "
            f"Received: {path} of {path.stat().st_size} bytes"
        )
    rows = np.memmap(path, "float16", "r", shape=(count, classes))

    def logits_at(place):
        row = tf.numpy_function(lambda place: rows[place], [place], tf.float16, stateful=False)
        return tf.ensure_shape(row, [classes])

    return logits_at


def _write(path, teacher, source, crops, record, stream):
    """Appends to a partial file, which becomes `path` when it is whole."""
    partial = path.with_suffix(".partial")
    count = source.sizes["train"]
    done = partial.stat().st_size // record if partial.exists() else 0
    bar = tqdm(total=count, initial=done, desc="logits of the teacher", unit=" images", file=stream)
    with open(partial, "ab") as file, bar:
        file.truncate(done * record)
        for images, _ in evaluation_dataset(source, crops, "train", preprocess=False, skip=done):
            inputs = teacher.preprocess(np.array(images))
            rows = np.asarray(teacher.model.predict_on_batch(inputs))
            file.write(rows.astype("float16").tobytes())
            file.flush()
            bar.update(len(rows))
        os.fsync(file.fileno())
    os.replace(partial, path)
