"""tf.data pipelines of images with boxes: for training and for evaluation, repeatable."""

import math
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from keras_hybrid.image_files import decode_tensor
from keras_hybrid.tasks.detection.objects import Objects
from keras_hybrid.training.augmentation.boxes import (
    boxes_in_window,
    crop,
    draw_flip,
    draw_ssd_crop,
    fitting_size,
    flip_with_boxes,
    largest,
    pad_objects,
    pad_picture,
    scale_with_boxes,
)
from keras_hybrid.training.augmentation.distortion import CVNETS, photometric_distortion
from keras_hybrid.training.augmentation.instance_masks import (
    crop_masks,
    packed_masks,
    pad_masks,
    scale_masks,
)
from keras_hybrid.training.data.detection.detection_source import DetectionSource, objects_of
from keras_hybrid.training.data.epoch_order import examples_in_order
from keras_hybrid.training.data.pipeline import steps_per_epoch
from keras_hybrid.training.data.process_share import ALONE, Share
from keras_hybrid.training.recipe.objects import COCO_SIDES, SIDES, ObjectRecipe
from keras_hybrid.weights.preprocessing import preprocess_input

_plain = tf.autograph.experimental.do_not_convert


def detection_training_dataset(
    source: DetectionSource,
    recipe: ObjectRecipe,
    first_epoch: int = 0,
    share: Share = ALONE,
    first_step: int = 0,
) -> tf.data.Dataset:
    """Batches for training, from `first_epoch` to the recipe's last.

    Order and augmentation follow from the recipe's seed and the epoch's number alone, as for
    classifiers. An image is cropped, distorted, mirrored, resized, normalized and padded, in this
    order. With `shorter_side`, the images of a batch are all wide or all upright in their files,
    and so is the batch, whatever crops have made of them.

    Args:
        source: of the images.
        recipe: its numbers.
        first_epoch: from 0.
        share: the process's place among those that train together.
        first_step: so many batches of the first epoch are left out.

    Returns: a dataset of (images, objects): float32 (batch, H, W, 3), preprocessed for the recipe's
        model, H = W = resolution, or `shorter_side` in place of one of them; and {"boxes": float32
        (batch, max_objects, 4), corners in pixels of the input, "labels": int32 (batch,
        max_objects), -1 where there is no object}. Where the source has masks, there are also
        "masks": uint8 (batch, max_objects, H, W / 8), eight pixels a number, and "sizes": float32
        (batch, 2), height and width of the picture in each image.
    """
    steps = steps_per_epoch(source, recipe, share)
    read = source.reader("train")
    groups = source.groups("train", recipe)
    size_at = _batch_sizes(recipe, groups)

    @_plain
    def read_and_augment(drawn):
        seeds = drawn["seeds"]
        image, objects = _decoded(read(drawn["place"]))
        if recipe.crops:
            image, objects = _cropped(image, objects, seeds[0])
        image = photometric_distortion(image, recipe.distortion_probability, seeds[1], CVNETS)
        image, objects = _flipped(image, objects, recipe.flip_probability, seeds[2])
        return _as_trained_on(image, objects, recipe, size_at(drawn["place"]))

    examples = examples_in_order(
        source.sizes["train"], recipe, steps, first_epoch, first_step, share, groups=groups
    )
    return (
        examples.map(read_and_augment, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(share.size(recipe.step_batch_size), drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
    )


def detection_evaluation_dataset(
    source: DetectionSource,
    recipe: ObjectRecipe,
    split: str | None = None,
    share: Share = ALONE,
) -> tf.data.Dataset:
    """Batches as of training, each image of a split once, in order, not augmented.

    They are for the loss; average precision is that of `evaluation_pictures`. With `shorter_side`,
    upright images come after the wide ones. On several devices black images without objects fill
    the last batch, of either.

    Args:
        source: of the images.
        recipe: its numbers.
        split: its name; None for the source's evaluation split.
        share: the process's place among those that evaluate together.
    """
    split = split or source.evaluation_split
    read = source.reader(split)
    groups = source.groups(split, recipe)
    size_at = _batch_sizes(recipe, groups)
    batch_size = share.size(recipe.batch_size)

    @_plain
    def prepare(_, place):
        return _as_trained_on(*_decoded(read(place)), recipe, size_at(place))

    def batches_of(places):
        examples = tf.data.Dataset.from_tensor_slices(places).enumerate()
        if share.processes > 1:
            examples = examples.filter(
                _plain(lambda index, _: share.holds(index, recipe.batch_size))
            )
        prepared = examples.map(prepare, num_parallel_calls=tf.data.AUTOTUNE)
        if share.devices > 1:
            some = tf.data.Dataset.from_tensors(places[0])
            filling = some.map(_plain(lambda place: _empty(prepare(0, place)))).cache()
            batches = math.ceil(len(places) / recipe.batch_size)
            prepared = prepared.concatenate(filling.repeat()).take(batches * batch_size)
        return prepared.batch(batch_size)

    if groups is None:
        groups = np.zeros(source.sizes[split], bool)
    first, *more = (batches_of(np.flatnonzero(groups == group)) for group in np.unique(groups))
    for batches in more:
        first = first.concatenate(batches)
    return first.prefetch(tf.data.AUTOTUNE)


def _batch_sizes(recipe, groups):
    """A function for `tf.data`: an image's place -> height and width of its batch, int32 (2,)."""
    wide = tf.constant(recipe.wide_size)
    if groups is None:
        return lambda _: wide
    is_upright = tf.constant(groups)
    return lambda place: tf.where(is_upright[place], wide[::-1], wide)


def _empty(example):
    """A black image without objects, in the place of an example."""
    image, objects = tf.nest.map_structure(tf.zeros_like, example)
    return image, {**objects, "labels": objects["labels"] - 1}


def evaluation_pictures(
    source: DetectionSource, split: str | None = None
) -> Iterator[tuple[np.ndarray, Objects]]:
    """The pictures of a split as they are, uint8 (H, W, 3), RGB, each with its objects, in order.

    Args:
        source: of the images.
        split: its name; None for the source's evaluation split.
    """
    examples = source.split(split or source.evaluation_split).map(
        _plain(lambda example: {**example, "image": decode_tensor(example["image"])}),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    for example in examples.prefetch(tf.data.AUTOTUNE).as_numpy_iterator():
        picture = example["image"]
        yield picture, objects_of(example, *picture.shape[:2])


def _decoded(example):
    """The image, and of what is trained on boxes in its pixels, labels, and masks if there are."""
    image = tf.cast(decode_tensor(example["image"]), tf.float32)
    height, width = tf.unstack(tf.cast(tf.shape(image)[:2], tf.float32))
    boxes = example["boxes"] * tf.stack([width, height, width, height])
    kept = ~example["crowd"] & tf.reduce_all(boxes[:, 2:] > boxes[:, :2], axis=1)
    objects = {"boxes": boxes, "labels": example["labels"]}
    if "masks" in example:
        objects["masks"] = example["masks"]
    return image, _chosen(objects, kept)


def _cropped(image, objects, seed):
    """A part of the image, with the objects whose centers are in it."""
    window, kept = draw_ssd_crop(tf.shape(image)[:2], objects["boxes"], seed)
    objects = _chosen(objects, kept)
    objects["boxes"] = boxes_in_window(objects["boxes"], window)
    if "masks" in objects:
        objects["masks"] = crop_masks(objects["masks"], window)
        # Of an object that is a ring only the hole may be left.
        objects = _chosen(objects, tf.reduce_any(objects["masks"] > 0, axis=(1, 2)))
    return crop(image, window), objects


def _flipped(image, objects, probability, seed):
    image, boxes = flip_with_boxes(image, objects["boxes"], probability, seed)
    if "masks" in objects and probability:
        masks = objects["masks"]
        is_flipped = draw_flip(probability, seed)
        masks = tf.cond(is_flipped, lambda: tf.reverse(masks, [2]), lambda: masks)
        objects = {**objects, "masks": masks}
    return image, {**objects, "boxes": boxes}


def _chosen(objects, kept):
    return {name: tf.boolean_mask(values, kept) for name, values in objects.items()}


def _as_trained_on(image, objects, recipe, batch_size):
    """Of the batch's height and width, preprocessed, and its objects as padded lists."""
    limit, old = tf.cast(batch_size, tf.float32), tf.cast(tf.shape(image)[:2], tf.float32)
    scale = tf.reduce_min(limit / old)
    if recipe.fit == COCO_SIDES:
        sides = tf.constant(SIDES, tf.float32) / tf.sort(old)
        scale = tf.minimum(scale, tf.reduce_min(sides))
    size = fitting_size(old, scale) if recipe.keeps_aspect else limit
    size = tf.minimum(size, limit)
    image, boxes = scale_with_boxes(image, objects["boxes"], size)
    image = pad_picture(preprocess_input(image, recipe.model), batch_size)
    padded_boxes, labels = pad_objects(boxes, objects["labels"], recipe.max_objects)
    padded = {"boxes": padded_boxes, "labels": labels}
    if "masks" in objects:
        masks = tf.gather(objects["masks"], largest(boxes, recipe.max_objects))
        masks = pad_masks(scale_masks(masks, size), recipe.max_objects, batch_size)
        padded |= {"masks": packed_masks(masks), "sizes": size}
    return image, padded
