"""tf.data pipelines: what the network is trained on and evaluated on, repeatable under a seed."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_hybrid.training.augmentation.color import color_jitter
from keras_hybrid.training.augmentation.cropping import (
    decode_central_crop,
    decode_random_crop,
    random_flip,
)
from keras_hybrid.training.augmentation.erasing import random_erasing
from keras_hybrid.training.augmentation.finishing import (
    PIXELS,
    draw_batch_mixing,
    finishes_on_device,
    unfinished,
)
from keras_hybrid.training.augmentation.mixing import mix
from keras_hybrid.training.augmentation.randaugment import RandAugment, rand_augment
from keras_hybrid.training.data.epoch_order import examples_in_order
from keras_hybrid.training.data.image_source import ImageSource
from keras_hybrid.training.data.process_share import ALONE, Share
from keras_hybrid.training.recipe.common import CommonRecipe
from keras_hybrid.training.recipe.recipe import Recipe
from keras_hybrid.weights.preprocessing import preprocess_input, preprocessing_of

# None of these functions needs TensorFlow to rewrite its Python, which takes seconds.
_plain = tf.autograph.experimental.do_not_convert


def steps_per_epoch(source: ImageSource, recipe: CommonRecipe, share: Share = ALONE) -> int:
    """Training steps of an epoch: whole global batches, of the mean size with several scales, of
    one group each where the data have groups.

    Raises:
        ValueError: when the split holds less than one batch, or the devices cannot share it.
    """
    share.check(recipe.step_batch_size)
    images = source.sizes.get("train", 0)
    sizes = _scale_batch_sizes(recipe, share)
    batch_size = sum(sizes) / len(sizes) if sizes else recipe.batch_size
    groups = source.groups("train", recipe) if images else None
    found = [images] if groups is None else np.unique(groups, return_counts=True)[1]
    batches = sum(int(count / batch_size) for count in found)
    if batches == 0:
        raise ValueError(
            f"The split 'train' must hold a batch at least: take batch_size={max(images // 4, 1)} "
            f"or less. Received: {images} images, batch_size={recipe.batch_size}"
        )
    return batches * recipe.accumulation_steps


def _scale_batch_sizes(recipe, share):
    """Images of a global batch of each scale, such that all devices get as many."""
    return [share.whole(images) for images in recipe.scale_batch_sizes.values()]


def training_dataset(
    source: ImageSource,
    recipe: Recipe,
    first_epoch: int = 0,
    share: Share = ALONE,
    teacher_logits: Callable | None = None,
    first_step: int = 0,
) -> tf.data.Dataset:
    """Batches for training, from `first_epoch` to the recipe's last.

    An epoch is a permutation of the whole split, of which what fills no batch is left out: other
    images in each epoch. With `scales`, a batch has one of these sizes, and an epoch is as many
    batches as the split fills on average.

    Order and augmentation of an epoch follow from the recipe's seed and the epoch's number alone,
    so that a resumed run sees what the uninterrupted one would have, and several processes
    together what one would have alone. A process reads the images of its share only.

    Args:
        source: of the images.
        recipe: its numbers.
        first_epoch: from 0.
        share: the process's place among those that train together.
        teacher_logits: a function for `tf.data`: an example's place in the split -> its logits
            (classes,), where a cache has them; labels are then {"label": labels, "teacher":
            logits}.
        first_step: so many batches of the first epoch are left out.

    Returns: a dataset of (images, labels): float32 (batch, H, W, 3), preprocessed for the recipe's
        model, or unfinished where the device finishes them (`finishes_on_device`); and float32
        (batch, classes), the process's share of each batch; `steps_per_epoch` batches an epoch.
    """
    steps = steps_per_epoch(source, recipe, share)
    count = source.sizes["train"]
    read = source.reader("train")
    on_device = finishes_on_device(
        recipe, _scale_batch_sizes(recipe, share) or [recipe.step_batch_size], share.devices
    )
    mix_images = draw_batch_mixing if on_device else mix
    interpolation = recipe.interpolation or preprocessing_of(recipe.model).interpolation

    rand_augment_numbers = None
    if recipe.randaugment_magnitude is not None:
        rand_augment_numbers = RandAugment(
            recipe.randaugment_magnitude,
            recipe.randaugment_std,
            increasing=recipe.randaugment_increasing,
            interpolation=recipe.randaugment_interpolation,
        )

    @_plain
    def read_and_augment(drawn):
        seeds, example = drawn["seeds"], read(drawn["place"])
        size = drawn["scale"] if recipe.scales else recipe.resolution
        image = decode_random_crop(
            example["image"],
            size,
            recipe.crop_area,
            recipe.crop_aspect,
            interpolation,
            seeds[0],
            recipe.to_square,
        )
        image = random_flip(image, recipe.flip_probability, seeds[1])
        if rand_augment_numbers:
            image = rand_augment(image, rand_augment_numbers, seeds[2])
        else:
            image = color_jitter(image, recipe.color_jitter, seeds[2])
        if on_device:
            image = unfinished(image, recipe.erase_probability, seeds[3])
        else:
            image = preprocess_input(image, recipe.model)
            image = random_erasing(image, recipe.erase_probability, seeds[3])
        label = tf.one_hot(example["label"], len(source.class_names))
        if teacher_logits is not None:
            logits = teacher_logits(drawn["place"])
            label = {"label": label, "teacher": tf.cast(logits, tf.float32)}
        return image, label

    @_plain
    def mix_batch(index, batch):
        seed = tf.random.fold_in([recipe.seed, 1], index)
        numbers = (recipe.mixup, recipe.cutmix, recipe.cutmix_probability)
        images = share.size(recipe.step_batch_size)
        groups = images // (recipe.mixing_group or images)
        if groups < 2:
            return mix_images(*batch, *numbers, seed)
        parts = [
            mix_images(*part, *numbers, tf.random.fold_in(seed, share.index * groups + number))
            for number, part in enumerate(
                zip(*(_groups(part, groups) for part in batch), strict=True)
            )
        ]
        return tuple(
            tf.nest.map_structure(lambda *values: tf.concat(values, 0), *column)
            for column in zip(*parts, strict=True)
        )

    def by_scale(numbered, done):
        return _by_scale(numbered, recipe, share, steps, done)

    # Of several scales, how many examples the batches take is known only when they are drawn.
    arrange = by_scale if recipe.scales else None
    images = examples_in_order(count, recipe, steps, first_epoch, first_step, share, arrange)
    images = images.map(read_and_augment, num_parallel_calls=tf.data.AUTOTUNE)
    if recipe.scales:
        batches = _batch_scales(images, recipe, share)
    else:
        batches = images.batch(share.size(recipe.step_batch_size), drop_remainder=True)
    return (
        batches.enumerate(start=first_epoch * steps + first_step)
        .map(mix_batch)
        .prefetch(tf.data.AUTOTUNE)
    )


def _groups(values, groups):
    """A batch of tensors, of which there may be several, in parts of one size."""
    flat = [tf.split(tensor, groups) for tensor in tf.nest.flatten(values)]
    return [tf.nest.pack_sequence_as(values, part) for part in zip(*flat, strict=True)]


def _by_scale(examples, recipe, share, steps, done):
    """Places with a scale each, in an order in which those of a batch follow each other.

    A batch is full when the last of its examples is drawn, which all processes must agree on:
    batches are put together before the process takes its share of each.
    """
    sizes = tf.constant(_scale_batch_sizes(recipe, share), tf.int64)
    scales = tf.constant(recipe.scales)
    drawn = examples.map(
        _plain(lambda example: {**example, "scale": _draw_scale(recipe, example["seeds"][4])})
    )
    batches = _windows(drawn, lambda example: example["scale"], scales, sizes).take(steps)
    return batches.skip(done).map(_plain(share.part)).unbatch()


def _batch_scales(images, recipe, share):
    """Batches of images of one size, which come in the order that `_by_scale` gave them."""
    sizes = [share.size(images) for images in _scale_batch_sizes(recipe, share)]
    sizes, scales = tf.constant(sizes, tf.int64), tf.constant(recipe.scales)

    def scale_of(image, _):
        return tf.shape(image[PIXELS] if isinstance(image, dict) else image)[0]

    return _windows(images, scale_of, scales, sizes)


def _draw_scale(recipe, seed):
    """A size for one example, so that batches of all sizes come equally often."""
    shares = [float(images) for images in recipe.scale_batch_sizes.values()]
    index = tf.random.stateless_categorical(tf.math.log([shares]), 1, seed)[0, 0]
    return tf.gather(tf.constant(recipe.scales), index)


def _windows(examples, scale_of, scales, sizes):
    """Batches of examples of one scale, as many as `sizes` has for it."""
    return examples.group_by_window(
        key_func=_plain(
            lambda *example: tf.argmax(tf.cast(scales == scale_of(*example), tf.int32))
        ),
        reduce_func=_plain(lambda key, window: window.batch(sizes[key], drop_remainder=True)),
        window_size_func=_plain(lambda key: sizes[key]),
    )


def evaluation_interpolation(recipe: Recipe) -> str:
    """Of the resizes in evaluation: the recipe's, or else its family's."""
    if recipe.interpolation in (None, "random"):
        return preprocessing_of(recipe.model).interpolation
    return recipe.interpolation


def evaluation_dataset(
    source: ImageSource,
    recipe: Recipe,
    split: str | None = None,
    preprocess: bool = True,
    share: Share = ALONE,
    skip: int = 0,
    batch_size: int | None = None,
) -> tf.data.Dataset:
    """Batches for evaluation: each image of a split once, in order, cropped at its centre.

    Args:
        split: its name; None for the source's evaluation split.
        preprocess: whether images are normalised for the recipe's model, or RGB from 0 to 255.
        share: the process's place among those that evaluate together.
        skip: so many images less at the beginning, where one process evaluates.
        batch_size: over all devices; None for the recipe's.

    Returns: a dataset of (images, labels): float32 (batch, H, W, 3) and float32 (batch, classes).
        On several devices every batch is whole, and weights come third, 0 for what fills it up.
    """
    split = split or source.evaluation_split
    batch_size = batch_size or recipe.batch_size
    family = preprocessing_of(recipe.model)

    @_plain
    def prepare(example):
        image = decode_central_crop(
            example["image"],
            recipe.resolution,
            recipe.crop_fraction or family.crop_fraction,
            evaluation_interpolation(recipe),
            recipe.to_square,
        )
        if preprocess:
            image = preprocess_input(image, recipe.model)
        return image, tf.one_hot(example["label"], len(source.class_names))

    holds = None
    if share.processes > 1:
        holds = _plain(lambda place: share.holds(place, batch_size))
    examples = source.split(split, skip, holds)
    prepared = examples.map(prepare, num_parallel_calls=tf.data.AUTOTUNE)
    if share.devices > 1:
        prepared = share.pad(prepared, source.sizes[split], batch_size)
    return prepared.batch(share.size(batch_size)).prefetch(tf.data.AUTOTUNE)
