"""Names and shapes of a file's signature: what goes in and what comes out, as the model has it."""

import re

import keras

from keras_hybrid.keras_private import functional, outputs_structure, producer

ONLY_INPUT = "image"


def input_shapes(
    model: keras.Model, input_size: int | tuple[int, int] | None = None
) -> dict[str, tuple[int, ...]]:
    """Shapes of the inputs, for a batch of one, by their names in the signature.

    Args:
        model: of one input, which is named "image", or of several, which keep their names.
        input_size: height and width of images of any size.

    Raises:
        ValueError: for a single input that is no image, or sizes that are not known.
    """
    if len(model.inputs) == 1 and len(model.inputs[0].shape) != 4:
        raise ValueError(
            "A model of one image input is expected, or one of several inputs. "
            f"Received: {model.name} with the input {tuple(model.inputs[0].shape)}"
        )
    if len(model.inputs) == 1:
        return {ONLY_INPUT: _shape(model.inputs[0], input_size)}
    names = _unique([_signature_name(tensor.name) for tensor in model.inputs])
    sized = {
        name: input_size if len(tensor.shape) == 4 and None in tensor.shape[1:3] else None
        for name, tensor in zip(names, model.inputs, strict=True)
    }
    return {
        name: _shape(tensor, sized[name]) for name, tensor in zip(names, model.inputs, strict=True)
    }


def output_names(model: keras.Model) -> list[str]:
    """Names of the outputs, in the order in which Keras flattens them.

    A dictionary's keys; else the names of the layers that compute them, in a model of `quantize`
    those of the float model. Of outputs of one name the later ones get numbers.
    """
    outputs = outputs_structure(model) if functional(model) is not None else None
    if isinstance(outputs, dict) and not any(keras.tree.is_nested(x) for x in outputs.values()):
        names = keras.tree.flatten({key: key for key in outputs})
    else:
        own = getattr(functional(model), "output_names", [])  # a Sequential model has it inside
        if len(own) != len(model.outputs):
            own = [producer(tensor).name for tensor in model.outputs]
        # A rounding knows what the model calls what it rounds; others have the layer's name.
        names = [
            getattr(producer(tensor), "output_name", None) or name
            for tensor, name in zip(model.outputs, own, strict=True)
        ]
    return _unique([_signature_name(name) for name in names])


def _shape(tensor, input_size):
    _, *sizes = tensor.shape
    if input_size is not None:
        asked = (input_size, input_size) if isinstance(input_size, int) else tuple(input_size)
        if any(own not in (None, size) for own, size in zip(sizes[:2], asked, strict=True)):
            raise ValueError(
                f"The model's input size is fixed to {sizes[0]} x {sizes[1]}. "
                f"Received: input_size={input_size!r}"
            )
        sizes[:2] = asked
    if None in sizes:
        raise ValueError(
            "The model takes images of any size: say which, with `input_size`. "
            f"Received: model with input shape {tuple(tensor.shape)}, input_size=None"
        )
    return (1, *sizes)


def _signature_name(name):
    return re.sub(r"\W", "_", name)


def _unique(names):
    """The names, those that occurred before with a number."""
    found = []
    for name in names:
        number, own = 0, name
        while own in found:
            number += 1
            own = f"{name}_{number}"
        found.append(own)
    return found
