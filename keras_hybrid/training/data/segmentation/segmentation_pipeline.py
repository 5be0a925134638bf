"""tf.data pipelines of images with masks: for training and for evaluation, repeatable."""

import math

import numpy as np
import tensorflow as tf

from keras_hybrid.image_files import decode_tensor
from keras_hybrid.tasks.segmentation.loss import IGNORED_LABEL
from keras_hybrid.training.augmentation.dense import (
    at_least,
    flip_both,
    pad_both,
    random_blur,
    random_crop_both,
    random_size,
    resize_both,
    rotate_both,
)
from keras_hybrid.training.augmentation.distortion import photometric_distortion
from keras_hybrid.training.data.epoch_order import examples_in_order
from keras_hybrid.training.data.pipeline import steps_per_epoch
from keras_hybrid.training.data.process_share import ALONE, Share
from keras_hybrid.training.data.segmentation.segmentation_source import SegmentationSource
from keras_hybrid.training.recipe.segmentation import SegmentationRecipe
from keras_hybrid.weights.preprocessing import preprocess_input

_plain = tf.autograph.experimental.do_not_convert


def segmentation_training_dataset(
    source: SegmentationSource,
    recipe: SegmentationRecipe,
    first_epoch: int = 0,
    share: Share = ALONE,
    first_step: int = 0,
) -> tf.data.Dataset:
    """Batches for training, from `first_epoch` to the recipe's last.

    Order and augmentation follow from the recipe's seed and the epoch's number alone, as for
    classifiers.

    Args:
        source: of the images.
        recipe: its numbers.
        first_epoch: from 0.
        share: the process's place among those that train together.
        first_step: so many batches of the first epoch are left out.

    Returns: a dataset of (images, labels): float32 (batch, resolution, resolution, 3),
        preprocessed for the recipe's model, and int32 (batch, resolution, resolution), 255 for no
        class; with a second head, labels for both by their outputs' names.
    """
    steps = steps_per_epoch(source, recipe, share)
    read = source.reader("train")

    @_plain
    def read_and_augment(drawn):
        seeds, example = drawn["seeds"], read(drawn["place"])
        image = tf.cast(decode_tensor(example["image"]), tf.float32)
        mask = source.decode_mask(example)
        size = random_size(
            tf.shape(mask),
            recipe.resolution,
            recipe.resize_scale,
            recipe.long_side,
            recipe.long_side_scaled,
            seeds[0],
        )
        if not recipe.pad_crops:
            size = at_least(size, recipe.resolution)
        image, mask = resize_both(image, mask, size)
        image, mask = random_crop_both(
            image, mask, recipe.resolution, recipe.one_class_share, seeds[1]
        )
        image, mask = flip_both(image, mask, recipe.flip_probability, seeds[2])
        image = random_blur(image, recipe.blur_probability, tf.random.fold_in(seeds[3], 1))
        image = photometric_distortion(image, recipe.distortion_probability, seeds[3])
        image, mask = rotate_both(image, mask, recipe.rotation, seeds[4])
        image = preprocess_input(image, recipe.model)
        return pad_both(image, mask, recipe.resolution)

    examples = examples_in_order(
        source.sizes["train"], recipe, steps, first_epoch, first_step, share
    )
    return (
        examples.map(read_and_augment, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(share.size(recipe.step_batch_size), drop_remainder=True)
        .map(_plain(lambda images, masks: (images, _labels(masks, recipe))))
        .prefetch(tf.data.AUTOTUNE)
    )


def segmentation_evaluation_dataset(
    source: SegmentationSource,
    recipe: SegmentationRecipe,
    split: str | None = None,
    preprocess: bool = True,
    share: Share = ALONE,
) -> tf.data.Dataset:
    """Batches for evaluation: each image of a split once, in order, labels at its own size.

    Images of several sizes come one by one. On several devices all are stretched to the recipe's
    resolution, labels too, and what fills the last batch has no label: figures are then of that
    resolution.

    Args:
        split: its name; None for the source's evaluation split.
        preprocess: whether images are normalised for the recipe's model, or RGB from 0 to 255.
        share: the process's place among those that evaluate together.

    Returns: a dataset of (images, labels) as for training.
    """
    split = split or source.evaluation_split
    together = share.devices > 1
    square = (recipe.resolution, recipe.resolution)
    protocol = recipe.protocol
    known = None if source.image_size is None else protocol.input_size(*source.image_size)
    if together or not recipe.any_size:
        known = square

    @_plain
    def prepare(example):
        image = tf.cast(decode_tensor(example["image"]), tf.float32)
        mask = source.decode_mask(example)
        size = known
        if size is None:
            size = tf.numpy_function(
                lambda height, width: np.int32(protocol.input_size(height, width)),
                tf.unstack(tf.shape(mask)),
                tf.int32,
                stateful=False,
            )
            size = tf.ensure_shape(size, (2,))
        image = tf.image.resize(image, size)
        if known is not None:
            image = tf.ensure_shape(image, (*known, 3))
        if together:
            mask = tf.image.resize(mask[..., None], square, "nearest")[..., 0]
            mask = tf.ensure_shape(mask, square)
        elif source.image_size is not None:
            mask = tf.ensure_shape(mask, source.image_size)
        return (preprocess_input(image, recipe.model) if preprocess else image), mask

    holds = None
    if share.processes > 1:
        holds = _plain(lambda place: share.holds(place, recipe.batch_size))
    prepared = source.split(split, holds=holds).map(prepare, num_parallel_calls=tf.data.AUTOTUNE)
    batch_size = share.size(recipe.batch_size)
    if together:
        batches = math.ceil(source.sizes[split] / recipe.batch_size)
        empty = (tf.zeros((*square, 3)), tf.fill(square, IGNORED_LABEL))
        filling = tf.data.Dataset.from_tensors(empty).repeat()
        prepared = prepared.concatenate(filling).take(batches * batch_size)
    elif source.image_size is None:
        batch_size = 1
    return (
        prepared.batch(batch_size)
        .map(_plain(lambda images, masks: (images, _labels(masks, recipe))))
        .prefetch(tf.data.AUTOTUNE)
    )


def _labels(masks, recipe):
    """Labels for each of the network's outputs."""
    if recipe.has_auxiliary:
        return {"logits": masks, "auxiliary": masks}
    return masks
