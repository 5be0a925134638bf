"""Activations as layers of those in the table, whatever way they were written."""

import keras
from keras import layers

from keras_hybrid.quantization.rules import MADE_OF_OTHERS, activation_name
from keras_hybrid.quantization.standard_layers.steps import argument, step_of
from keras_hybrid.quantization.twins.plain import ExponentialLinear
from keras_hybrid.surgery.editable_model import EditableModel, Step
from keras_hybrid.surgery.layer_traits import HAS_ACTIVATION

# Operations of `keras.ops` without settings, and the activation that each is.
PLAIN = {
    "Tanh": "tanh",
    "Silu": "silu",
    "HardSigmoid": "hard_sigmoid",
    "HardSilu": "hard_silu",
    "HardTanh": "hard_tanh",
    "Softplus": "softplus",
    "Selu": "selu",
    "Exp": "exponential",
}


def plain(step: Step) -> list[Step]:
    """The layer of an operation that is an activation."""
    name = PLAIN[type(step.operation).__name__]
    return _expanded(layers.Activation(name, name=step.name), step.inputs[0])


def gelu(step: Step) -> list[Step] | None:
    """GELU by the error function."""
    if argument(step, 1, "approximate", True):
        return None  # an operation of the table
    return [step_of(layers.Activation("gelu", name=step.name), step.inputs[0])]


def elu(step: Step) -> list[Step]:
    """`keras.ops.elu` and `keras.layers.ELU`."""
    layer = ExponentialLinear(argument(step, 1, "alpha", 1.0), name=step.name)
    return [step_of(layer, step.inputs[0])]


def leaky(step: Step) -> list[Step]:
    """`keras.ops.leaky_relu`."""
    slope = argument(step, 1, "negative_slope", LEAKY_SLOPE)
    return [step_of(layers.LeakyReLU(slope, name=step.name), step.inputs[0])]


def prelu(step: Step) -> list[Step] | None:
    """A ReLU, where no slope was trained yet."""
    if step.weight("alpha").any():
        return None
    return [step_of(layers.ReLU(name=step.name), step.inputs[0])]


def softmax(step: Step) -> list[Step] | None:
    """`keras.layers.Softmax` over the last axis."""
    axis = step.setting("axis")
    axis = axis[0] if isinstance(axis, list | tuple) and len(axis) == 1 else axis
    if axis not in (-1, len(step.output.shape) - 1) or len(step.inputs) != 1:
        return None
    return [step_of(layers.Activation("softmax", name=step.name), step.inputs[0])]


def activation(step: Step) -> list[Step] | None:
    """`keras.layers.Activation`: of a name that is several others, or of a function."""
    function = step.operation.activation
    name = activation_name(function)
    if function is not getattr(keras.activations, name, None):
        return _traced(step.inputs[0], function, step.name)
    expanded = _expanded(layers.Activation(name, name=step.name), step.inputs[0])
    return expanded if type(expanded[-1].operation) is not layers.Activation else None


def _expanded(layer, value):
    """An activation as steps of layers in the table."""
    name = activation_name(layer.activation)
    if name == "elu":
        return [step_of(ExponentialLinear(name=layer.name), value)]
    if name == "leaky_relu":
        return [step_of(layers.LeakyReLU(LEAKY_SLOPE, name=layer.name), value)]
    if name == "selu":
        curve = step_of(ExponentialLinear(SELU_ALPHA, name=f"{layer.name}_curve"), value)
        return [curve, step_of(layers.Rescaling(SELU_SCALE, name=layer.name), curve.output)]
    if name == "mish":
        softplus = layers.Activation("softplus", name=f"{layer.name}_softplus")
        tanh = layers.Activation("tanh", name=f"{layer.name}_tanh")
        first = step_of(softplus, value)
        second = step_of(tanh, first.output)
        product = step_of(layers.Multiply(name=layer.name), [value, second.output])
        return [first, second, product]
    return [step_of(layer, value)]


LEAKY_SLOPE = 0.2
SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805


def edit_activation_functions(model: EditableModel, apart: tuple[str, ...] = ()) -> None:
    """Puts activations of kernels after these, where they are made of several operations.

    Args:
        model: to be edited.
        apart: names of others that are put there, too.
    """
    for step in list(model.steps):
        function = getattr(step.operation, "activation", None)
        if step.layer_class not in HAS_ACTIVATION or not model.editable(step) or function is None:
            continue
        if step.setting("activation") == "linear":  # done
            continue
        name = activation_name(function)
        if function is not getattr(keras.activations, name, None):
            steps = _traced(step.output, function, f"{step.name}_activation")
        elif name in MADE_OF_OTHERS or name in apart:
            layer = layers.Activation(name, name=f"{step.name}_{name}")
            steps = _expanded(layer, step.output)
        else:
            continue
        if steps:
            step.edit().config["activation"] = "linear"
            model.interpose(step.output, *steps)


def _traced(value, function, name):
    """The operations that a function of a value is made of; None where it cannot be told."""
    image = keras.Input(value.shape[1:])
    try:
        inner = EditableModel(keras.Model(image, function(image)))
    except Exception:  # whatever the function does with what is no tensor
        return None
    steps = [x for x in inner.steps if not x.is_a(keras.layers.InputLayer)]
    if not steps or any(isinstance(x.operation, keras.layers.Layer) for x in steps):
        return None

    def moved(x):
        return value if x is inner.inputs else x

    new = []
    for number, part in enumerate(steps, 1):
        last = number == len(steps)
        part.operation.name = name if last else f"{name}_part{number}"
        args, kwargs = (keras.tree.map_structure(moved, x) for x in (part.args, part.kwargs))
        new.append(Step(part.operation, args, kwargs, part.outputs, part.layer_class))
    return new
