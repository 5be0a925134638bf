"""tf.data pipelines: what the network is trained on and evaluated on, repeatable under a seed."""

import tensorflow as tf

from keras_hybrid.training.cropping import decode_central_crop, decode_random_crop, random_flip
from keras_hybrid.training.recipe import Recipe
from keras_hybrid.training.sources import ImageSource
from keras_hybrid.weights.presets import preprocess_input, preprocessing_of


def steps_per_epoch(source: ImageSource, recipe: Recipe) -> int:
    """Whole batches in the training split.

    Raises:
        ValueError: when the split holds less than one batch.
    """
    steps = source.sizes.get("train", 0) // recipe.batch_size
    if steps == 0:
        raise ValueError(
            "The split 'train' must hold a batch at least. Received: "
            f"{source.sizes.get('train', 0)} images, batch_size={recipe.batch_size}"
        )
    return steps


def training_dataset(source: ImageSource, recipe: Recipe, first_epoch: int = 0) -> tf.data.Dataset:
    """Batches for training, from `first_epoch` to the recipe's last.

    Order and augmentation of an epoch follow from the recipe's seed and the epoch's number alone,
    so that a resumed run sees what the uninterrupted one would have.

    Returns: a dataset of (images, labels): float32 (batch, H, W, 3), preprocessed for the recipe's
        model, and float32 (batch, classes); `steps_per_epoch` batches an epoch.
    """
    steps = steps_per_epoch(source, recipe)
    examples = source.split("train")
    interpolation = recipe.interpolation or preprocessing_of(recipe.model).interpolation

    def epoch_examples(epoch):
        seed = tf.random.fold_in([recipe.seed, 0], epoch)
        shuffled = _shuffle(examples, recipe.shuffle_buffer, seed)
        numbered = shuffled.take(steps * recipe.batch_size).enumerate()
        return numbered.map(lambda index, example: (tf.random.fold_in(seed, index), example))

    def augment(seed, example):
        seeds = tf.random.split(seed, 2)
        image = decode_random_crop(
            example["image"],
            recipe.resolution,
            recipe.crop_area,
            recipe.crop_aspect,
            interpolation,
            seeds[0],
        )
        image = random_flip(image, recipe.flip_probability, seeds[1])
        image = preprocess_input(image, recipe.model)
        image = tf.ensure_shape(image, (recipe.resolution, recipe.resolution, 3))
        return image, tf.one_hot(example["label"], len(source.class_names))

    return (
        tf.data.Dataset.range(first_epoch, recipe.epochs)
        .flat_map(epoch_examples)
        .map(augment, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(recipe.batch_size, drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
    )


def evaluation_dataset(
    source: ImageSource, recipe: Recipe, split: str | None = None, preprocess: bool = True
) -> tf.data.Dataset:
    """Batches for evaluation: each image of a split once, in order, cropped at its centre.

    Args:
        split: its name; None for the source's evaluation split.
        preprocess: whether images are normalised for the recipe's model, or RGB from 0 to 255.

    Returns: a dataset of (images, labels): float32 (batch, H, W, 3) and float32 (batch, classes).
    """
    family = preprocessing_of(recipe.model)

    def prepare(example):
        image = decode_central_crop(
            example["image"],
            recipe.resolution,
            recipe.crop_fraction or family.crop_fraction,
            recipe.interpolation or family.interpolation,
        )
        if preprocess:
            image = preprocess_input(image, recipe.model)
        return image, tf.one_hot(example["label"], len(source.class_names))

    return (
        source.split(split or source.evaluation_split)
        .map(prepare, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(recipe.batch_size)
        .prefetch(tf.data.AUTOTUNE)
    )


def _shuffle(examples, buffer, seed):
    """Permutes each run of `buffer` examples; `Dataset.shuffle` takes no seed known only later."""

    def permute(index, chunk):
        order = tf.random.experimental.stateless_shuffle(
            tf.range(tf.shape(chunk["label"])[0]), tf.random.fold_in(seed, index)
        )
        return {name: tf.gather(values, order) for name, values in chunk.items()}

    return examples.batch(buffer).enumerate().map(permute).unbatch()
