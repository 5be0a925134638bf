"""What the builders of all families share: input, head options, weights, and their checks.

The meaning of the arguments is that of `keras.applications`.
"""

import inspect
import os
from collections.abc import Callable
from typing import Concatenate, ParamSpec

import keras
from keras import layers

from keras_hybrid.did_you_mean import suggestion
from keras_hybrid.keras_private import producer
from keras_hybrid.weights.checkpoints.load import load_checkpoint
from keras_hybrid.weights.presets import find_preset, is_tag, known_tags
from keras_hybrid.weights.pretrained.pretrained import load_pretrained

Options = ParamSpec("Options")
MINIMUM_SIZE = 64
# Arguments of builders that leave the published layers and their names as they are.
LAYERS_STAY = {
    "weights",
    "input_tensor",
    "input_shape",
    "classifier_activation",
    "name",
    "dropout_rate",
    "drop_path_rate",
    "transformer_dropout_rate",
    "output_stride",
    "window_size",
}


def image_input(input_tensor, input_shape, default_size: int, include_top: bool):
    """The tensor of images that a network starts from.

    Args:
        input_tensor: a tensor to start from, or None for a new input.
        input_shape: (H, W, 3), each of H and W None or at least 64 px; None for the native size
            with a head and for (None, None, 3) without.
        default_size: native height and width, in pixels.
        include_top: whether the network has its classification head.

    Returns: a Keras tensor (batch, H, W, 3).

    Raises:
        ValueError: for another rank, other channels than 3, or a side under 64 px.
    """
    if input_shape is None:
        if input_tensor is not None:
            input_shape = tuple(input_tensor.shape[1:])
        else:
            input_shape = (default_size, default_size, 3) if include_top else (None, None, 3)
    input_shape = tuple(input_shape)
    if len(input_shape) != 3 or input_shape[-1] != 3:
        raise ValueError(
            "`input_shape` must be (height, width, 3), channels last. "
            f"Received: input_shape={input_shape}"
        )
    for size in input_shape[:2]:
        if size is not None and (not isinstance(size, int) or size < MINIMUM_SIZE):
            raise ValueError(
                f"Height and width must be at least {MINIMUM_SIZE} px, or None. "
                f"Received: input_shape={input_shape}"
            )
    if input_tensor is None:
        return keras.Input(input_shape, name="image")
    if not keras.utils.is_keras_tensor(input_tensor):
        raise ValueError(
            "`input_tensor` must be a Keras tensor, such as `keras.Input(...)`. "
            f"Received: input_tensor={input_tensor!r}"
        )
    if any(
        given not in (None, expected)
        for given, expected in zip(input_tensor.shape[1:], input_shape, strict=True)
    ):
        raise ValueError(
            "`input_tensor` and `input_shape` contradict each other. "
            f"Received: input_tensor of shape {input_tensor.shape}, input_shape={input_shape}"
        )
    return input_tensor


def check_top(include_top: bool, pooling: str | None, classes: int):
    """Raises a ValueError for options of the head that make no sense."""
    if pooling not in (None, "avg", "max"):
        raise ValueError(f'`pooling` must be None, "avg" or "max". Received: pooling={pooling!r}')
    if include_top and (not isinstance(classes, int) or classes < 1):
        raise ValueError(f"`classes` must be a positive integer. Received: classes={classes!r}")


def check_rate(name: str, value: float):
    """Raises a ValueError for a probability outside [0, 1)."""
    if not 0 <= value < 1:
        raise ValueError(f"`{name}` must be in [0, 1). Received: {name}={value!r}")


def check_choice(name: str, value, choices: tuple):
    """Raises a ValueError for a value that is none of `choices`."""
    if value not in choices:
        raise ValueError(f"`{name}` must be one of {choices}. Received: {name}={value!r}")


def pool(x, pooling: str | None):
    """Features without a head: the map itself, or its average or maximum over the pixels."""
    if pooling == "avg":
        return layers.GlobalAveragePooling2D(data_format="channels_last", name="features_pool")(x)
    if pooling == "max":
        return layers.GlobalMaxPooling2D(data_format="channels_last", name="features_pool")(x)
    return x


def predictions(logits, classifier_activation):
    """The classifier's activation as a layer of its own, so that conversion can see it."""
    activation = keras.activations.get(classifier_activation)
    if activation is keras.activations.linear:
        return logits
    return layers.Activation(activation, name="predictions")(logits)


def finish_model(image, outputs, name: str, weights) -> keras.Model:
    """The model from `image` to `outputs`, with the weights that `weights` names.

    An `image` that is computed from other tensors makes these the model's inputs.
    """
    inputs = image
    if not isinstance(producer(image), layers.InputLayer):
        inputs = keras.utils.get_source_inputs(image)
        inputs = inputs[0] if len(inputs) == 1 else inputs
    model = keras.Model(inputs, outputs, name=name)
    load_weights(model, weights)
    return model


def load_weights(model: keras.Model, weights: str | os.PathLike | None):
    """Loads the file that `weights` names into a new model.

    A head that does not fit the file's stays fresh, with a warning; the rest is strict.

    Args:
        model: a new model.
        weights: None for the random initialisation, or the path of a checkpoint: `.weights.h5`,
            `.keras`, `.safetensors`, or a PyTorch pickle (`.pth`, `.pt`, `.bin`). The tags of
            published weights are for the public builders, which know their names.

    Raises:
        ValueError: when it is neither, or the file does not fit the model.
    """
    if weights is None:
        return
    if not isinstance(weights, str | os.PathLike):
        raise ValueError(
            "`weights` must be None, a tag of published weights or the path of a file. "
            f"Received: weights={weights!r}"
        )
    if not os.path.exists(weights):
        raise ValueError(
            "There is no file of that name, and no published weights of that tag "
            f"(`keras_hybrid.list_weights()` lists all).{suggestion(str(weights), known_tags())} "
            f"Received: weights={weights!r}"
        )
    load_checkpoint(model, weights, allow_fresh_head=True)


def make_builder(
    build: Callable[Concatenate[str, Options], keras.Model],
    variant: str,
    function_name: str,
    docstring: str,
) -> Callable[Options, keras.Model]:
    """One public builder, `build` with its first argument fixed to `variant`.

    The builder has `build`'s signature without that argument, its own name and docstring, and
    refuses unknown options with the nearest known one. Where `weights` is a tag of
    `keras_hybrid.list_weights()`, it loads these published weights.
    """
    signature = inspect.signature(build)
    parameters = list(signature.parameters.values())[1:]
    builder_signature = signature.replace(parameters=parameters)

    def builder(*args: Options.args, **kwargs: Options.kwargs) -> keras.Model:
        for option in kwargs:
            if option not in signature.parameters or option == "variant":
                raise ValueError(
                    f"{function_name} has no option `{option}`."
                    f"{suggestion(option, (parameter.name for parameter in parameters))} "
                    f"Received: {option}={kwargs[option]!r}"
                )
        arguments = builder_signature.bind(*args, **kwargs)
        arguments.apply_defaults()
        if not is_tag(arguments.arguments["weights"]):
            return build(variant, *args, **kwargs)
        preset = find_preset(function_name, arguments.arguments["weights"])
        arguments.arguments["weights"] = None
        model = build(variant, *arguments.args, **arguments.kwargs)

        def published():
            """The published network: the model itself where no option changes its layers."""
            if preset.distillation:
                return build(variant, weights=None, distillation=True)
            as_published = all(
                value == signature.parameters[option].default
                for option, value in arguments.arguments.items()
                if option not in LAYERS_STAY
            )
            return model if as_published else build(variant, weights=None)

        load_pretrained(model, preset, published)
        return model

    builder.__name__ = builder.__qualname__ = function_name
    builder.__module__ = build.__module__
    builder.__doc__ = docstring
    vars(builder)["__signature__"] = builder_signature
    return builder
