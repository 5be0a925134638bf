"""Teachers for distillation: any Keras classifier, with the images that it expects."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
from keras import ops

from keras_hybrid.did_you_mean import suggestion
from keras_hybrid.keras_private import producer
from keras_hybrid.models.catalogue import build_model, list_models
from keras_hybrid.training.optimization.finetuning import weights_file
from keras_hybrid.training.recipe.recipe import Recipe
from keras_hybrid.weights.families import families
from keras_hybrid.weights.preprocessing import preprocess_input, preprocessing_of
from keras_hybrid.weights.presets import find_preset

SMALLEST_PROBABILITY = 1e-12  # whose logarithm stands for a logit


@dataclass(frozen=True)
class Teacher:
    """A trained classifier.

    Attributes:
        name: as the recipe has it.
        model: its input -> logits, (batch, classes).
        preprocess: RGB from 0 to 255 -> its input.
        resolution: height and width of its input.
        identity: what its logits depend on, for caches.
    """

    name: str
    model: keras.Model
    preprocess: Callable
    resolution: int
    identity: str

    def logits(self, images):
        """Its logits for RGB images (batch, H, W, 3) from 0 to 255 of any size."""
        if tuple(images.shape[1:3]) != (self.resolution, self.resolution):
            size = (self.resolution, self.resolution)
            images = ops.image.resize(images, size, interpolation="bilinear", antialias=True)
        return ops.stop_gradient(self.model(self.preprocess(images), training=False))


def open_teacher(recipe: Recipe, num_classes: int) -> Teacher:
    """Opens the recipe's teacher.

    Raises:
        ValueError: for an unknown teacher or preprocessing, an output that is neither logits nor
            softmax, or other classes than the data's.
    """
    name = recipe.teacher
    builder, _, tag = name.partition("/")
    if builder in list_models():
        found = _from_catalogue(recipe, builder, tag or "imagenet")
    elif callable(getattr(keras.applications, name, None)):
        found = _from_applications(recipe, name)
    elif Path(name).exists():
        found = _from_file(recipe)
    else:
        known = [
            *list_models(),
            *(known for known in dir(keras.applications) if known[0].isupper()),
        ]
        raise ValueError(
            "`teacher` must be a model of `keras_hybrid.list_models()` or `keras.applications`, a "
            f"`.keras` file or a run's folder.{suggestion(builder, known)} "
            f"Received: teacher={name!r}"
        )
    model, preprocess, resolution, identity = found
    if recipe.teacher_preprocessing is not None:
        preprocess = _named_preprocessing(recipe.teacher_preprocessing)
    if preprocess is None:
        raise ValueError(
            "This package does not know what images the teacher takes: name it with "
            f"`teacher_preprocessing`. Received: teacher={name!r}"
        )
    model = logits_of(model)
    if model.output_shape != (None, num_classes):
        raise ValueError(
            f"The teacher must have the data's {num_classes} classes. "
            f"Received: teacher={name!r} with the output {model.output_shape}"
        )
    model.trainable = False
    identity = f"{identity} preprocessing={recipe.teacher_preprocessing}"
    return Teacher(name, model, preprocess, resolution, identity)


def _from_catalogue(recipe, builder, tag):
    preset = find_preset(builder, tag)
    resolution = recipe.teacher_resolution or preset.preprocessing.resolution
    model = build_model(builder, weights=preset.tag, input_shape=(resolution, resolution, 3))
    return model, _our_preprocessing(preset), resolution, preset.name


def _from_applications(recipe, name):
    build = getattr(keras.applications, name)
    try:
        model = build(weights="imagenet", classifier_activation=None)
    except Exception as error:  # Keras raises no narrower one where a download fails
        raise ValueError(
            f"Keras cannot build the teacher with its published weights ({error}). "
            f"Received: teacher={name!r}"
        ) from error
    resolution = recipe.teacher_resolution or model.input_shape[1]
    if resolution != model.input_shape[1]:
        published, shape = model, (resolution, resolution, 3)
        model = build(weights=None, input_shape=shape, classifier_activation=None)
        model.set_weights(published.get_weights())
    preprocess = sys.modules[build.__module__].preprocess_input
    return model, preprocess, resolution, f"keras.applications.{name}"


def _from_file(recipe):
    file = weights_file(recipe.teacher)
    model = keras.models.load_model(file)
    try:
        preprocess = _our_preprocessing(model)
    except ValueError:
        preprocess = None  # another package's
    given = recipe.teacher_resolution
    resolution = model.input_shape[1] or given or recipe.resolution
    if given not in (None, resolution):
        raise ValueError(
            f"The teacher takes images of {resolution} px only. "
            f"Received: teacher_resolution={given!r}"
        )
    status = file.stat()
    return model, preprocess, resolution, f"{file.name} {status.st_size} {status.st_mtime_ns}"


def _our_preprocessing(model):
    preprocessing = preprocessing_of(model)
    return lambda images: preprocess_input(images, preprocessing)


def _named_preprocessing(name):
    if name == "none":
        return lambda images: images
    names = [family.name for family in families()]
    if name in names or "/" in name:
        return _our_preprocessing(name)
    module = getattr(keras.applications, name, None)
    if not hasattr(module, "preprocess_input"):
        raise ValueError(
            f"`teacher_preprocessing` must be 'none', one of {names}, or a "
            f"module of `keras.applications`. Received: teacher_preprocessing={name!r}"
        )
    return module.preprocess_input


def logits_of(model: keras.Model) -> keras.Model:
    """A classifier up to its softmax, sharing all layers.

    Logarithms of the probabilities take the place of logits, from which they differ by a constant
    of each image, where the softmax is part of a dense layer.

    Raises:
        ValueError: for a model without a graph, or with another activation.
    """
    output = getattr(model, "output", None)
    if not keras.utils.is_keras_tensor(output):
        raise ValueError(
            "A teacher must be a functional or sequential model with one output. "
            f"Received: model={model.name} of class {type(model).__name__}"
        )
    layer = producer(output)
    if isinstance(layer, keras.layers.Softmax):
        return keras.Model(model.input, layer.input, name=f"{model.name}_logits")
    activation = getattr(layer, "activation", keras.activations.linear)
    if activation is keras.activations.softmax:
        if isinstance(layer, keras.layers.Activation):
            return keras.Model(model.input, layer.input, name=f"{model.name}_logits")
        logits = ops.log(ops.maximum(output, SMALLEST_PROBABILITY))
        return keras.Model(model.input, logits, name=f"{model.name}_logits")
    if activation is not keras.activations.linear:
        raise ValueError(
            "A teacher must end in logits or a softmax. "
            f"Received: model={model.name} with the activation {activation.__name__}"
        )
    return model


def restore_images(inputs, model: str):
    """The RGB images from 0 to 255 that `preprocess_input` made a network's inputs of.

    Noise of random erasing, which is drawn after it, may lie beyond these values.
    """
    preprocessing = preprocessing_of(model)
    if preprocessing.channel_order == "BGR":
        inputs = ops.flip(inputs, -1)
    std, mean = (
        ops.convert_to_tensor([255 * value for value in values], "float32")
        for values in (preprocessing.std, preprocessing.mean)
    )
    return ops.cast(inputs, "float32") * std + mean
