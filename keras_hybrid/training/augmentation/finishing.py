"""The last of a training image on the device: 8-bit pixels are normalised, erased and mixed there.

Images travel as they were stored, a quarter of float32's bytes, each batch with the few numbers
that the input pipeline drew for it. What is done with them is what the pipeline does itself where
it gives finished images.
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from keras_hybrid.training.augmentation.erasing import erasing_box
from keras_hybrid.training.augmentation.mixing import draw_mixing, mix_labels
from keras_hybrid.training.recipe.recipe import Recipe
from keras_hybrid.weights.preprocessing import preprocess_input

PIXELS, ERASED, NOISE_SEED, BLENDED, PASTED = "image", "erased", "noise_seed", "blended", "pasted"


def may_finish_on_device(recipe: Recipe) -> bool:
    """Whether a recipe's images may come to the training step unfinished."""
    if recipe.finish_on is None:
        return keras.backend.backend() != "torch" and _has_accelerator()
    return recipe.finish_on == "device"


def finishes_on_device(recipe: Recipe, batch_sizes: Sequence[int], devices: int) -> bool:
    """Whether a recipe's images travel as 8-bit pixels and are finished in the training step.

    Args:
        recipe: whose `finish_on` says it, or leaves it to whether there is a GPU or a TPU.
        batch_sizes: of the training steps, over all devices.
        devices: that share them.

    Raises:
        ValueError: where the recipe asks for it and pairs of images to be mixed would be parted,
            or on a backend that training does not do it on.
    """
    if not may_finish_on_device(recipe):
        return False
    if keras.backend.backend() == "torch":
        raise ValueError(
            "Images are finished on the device with TensorFlow and JAX. "
            "Received: finish_on='device' on the backend 'torch'"
        )
    parts = [size // devices for size in batch_sizes]
    groups = [] if recipe.mixing_group is None else [recipe.mixing_group]
    mixes = bool(recipe.mixup or recipe.cutmix)
    paired = not mixes or all(size % 2 == 0 for size in (*parts, *groups))
    if not paired and recipe.finish_on == "device":
        raise ValueError(
            "Images are mixed in pairs, which one device holds: with finish_on='device', each "
            "device's part of a step, and `mixing_group`, must be even. Received: "
            f"{parts} images for each of {devices} devices, mixing_group={recipe.mixing_group}"
        )
    return paired


def _has_accelerator():
    return any(not name.startswith("cpu") for name in keras.distribution.list_devices())


def as_pixels(image):
    """An image of RGB from 0 to 255 as 8-bit pixels, rounded, as files hold them."""
    return tf.saturate_cast(tf.round(image), tf.uint8)


def unfinished(image, erase_probability: float, seed) -> dict[str, Any]:
    """An image as it travels, with the box that is to be erased of it.

    Args:
        image: float32 (H, W, 3), RGB from 0 to 255.
        erase_probability: of random erasing.
        seed: two integers.
    """
    found = {PIXELS: as_pixels(image)}
    if erase_probability:
        box, noise = erasing_box(tf.shape(image), erase_probability, seed)
        found |= {ERASED: box, NOISE_SEED: noise}
    return found


def draw_batch_mixing(
    images: dict[str, Any], labels, mixup_alpha, cutmix_alpha, switch_probability, seed
):
    """A batch of unfinished images with the numbers of its mixing, and its mixed labels.

    Args:
        images: of `unfinished`, batched.
        labels: float32 (batch, classes).
        mixup_alpha, cutmix_alpha, switch_probability, seed: of `draw_mixing`.
    """
    count, height, width = tf.unstack(tf.shape(images[PIXELS])[:3])
    drawn = draw_mixing(height, width, mixup_alpha, cutmix_alpha, switch_probability, seed)
    if drawn is None:
        return images, labels
    share, box = drawn.share, drawn.box
    mixing = {
        BLENDED: tf.fill([count], share),
        PASTED: tf.tile(box[None], [count, 1]),
    }
    return images | mixing, mix_labels(labels, drawn.label_share)


def finish_images(inputs: Any, model: str) -> Any:
    """The input of a network, of what travels to the device; finished images stay as they are.

    Args:
        inputs: of `unfinished` and `draw_batch_mixing`, batched; or what a network takes.
        model: whose input.

    Returns: float32 (batch, H, W, 3).
    """
    if not isinstance(inputs, dict):
        return inputs
    images = preprocess_input(ops.cast(inputs[PIXELS], "float32"), model)
    if ERASED in inputs:
        # One draw for all images of a device; what is erased is each one's own.
        noise = _normal(ops.shape(images), ops.cast(inputs[NOISE_SEED][0], "int32"))
        images = ops.where(_inside(inputs[ERASED], images), noise, images)
    if BLENDED in inputs:
        others = _neighbours(images)
        share = ops.reshape(inputs[BLENDED], (-1, 1, 1, 1))
        pasted = _inside(inputs[PASTED], images)
        images = ops.where(pasted, others, share * images + (1 - share) * others)
    return images


def _inside(boxes, images):
    """Which pixels lie in each image's box of top, left and both ends: (batch, H, W, 1)."""
    height, width = ops.shape(images)[1:3]
    boxes = ops.cast(boxes, "int32")  # on mirrored devices Keras builds models with other types
    top, left, bottom, right = (boxes[:, index, None] for index in range(4))
    rows, columns = ops.arange(height)[None], ops.arange(width)[None]
    rows = ops.logical_and(rows >= top, rows < bottom)
    columns = ops.logical_and(columns >= left, columns < right)
    return ops.logical_and(rows[:, :, None], columns[:, None, :])[..., None]


def _neighbours(images):
    """Neighbours of an even batch change places, without leaving their device."""
    shape = ops.shape(images)
    pairs = ops.reshape(images, (-1, 2, *shape[1:]))
    return ops.reshape(ops.flip(pairs, 1), shape)


def _normal(shape, seed):
    """Normal noise that follows from two integers, which Keras' own draws do not take."""
    if keras.backend.backend() == "jax":
        import jax

        key = jax.random.fold_in(jax.random.key(seed[0]), seed[1])
        return jax.random.normal(key, shape)
    return tf.random.stateless_normal(shape, seed)


class FinishingView(keras.Model):
    """A view of a network that takes its images finished or unfinished.

    Args:
        inputs, outputs: of the view, a functional model.
        model_name: whose input the images become.
        name: of the view.
    """

    def __init__(self, inputs, outputs, *, model_name: str, name: str):
        super().__init__(inputs, outputs, name=name)
        self.model_name = model_name
        self.input_spec = None  # several tensors, where Keras expects the images alone

    def call(self, inputs, training=None, mask=None):
        images = finish_images(inputs, self.model_name)
        return super().call(images, training=training, mask=mask)
