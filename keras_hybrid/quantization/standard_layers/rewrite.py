"""The table of rewrites: a class of stock Keras, and the function that writes it otherwise."""

import keras
from keras import layers

from keras_hybrid.quantization.rules import users_rule
from keras_hybrid.quantization.standard_layers import (
    activations,
    arithmetic,
    attention,
    convolutions,
    resizing,
)
from keras_hybrid.quantization.standard_layers.applications import rewrite_of
from keras_hybrid.quantization.standard_layers.parts import edit_unused_parts
from keras_hybrid.surgery.editable_model import EditableModel

LAYERS = {
    layers.SeparableConv2D: convolutions.separable,
    layers.Conv2DTranspose: convolutions.transposed,
    layers.Conv1D: convolutions.one_dimensional,
    layers.AveragePooling1D: convolutions.pooling_1d,
    layers.MaxPooling1D: convolutions.pooling_1d,
    layers.MultiHeadAttention: attention.multi_head,
    layers.Attention: attention.dot_product,
    layers.Dot: attention.dot,
    layers.Average: arithmetic.average,
    layers.GlobalAveragePooling2D: arithmetic.of_single_values,
    layers.GlobalMaxPooling2D: arithmetic.of_single_values,
    layers.ReLU: arithmetic.rectified,
    layers.ELU: activations.elu,
    layers.PReLU: activations.prelu,
    layers.Softmax: activations.softmax,
    layers.Activation: activations.activation,
    layers.Resizing: resizing.resizing,
    layers.UpSampling2D: resizing.upsampling,
    layers.CenterCrop: resizing.center_crop,
}
OPERATIONS = {
    **dict.fromkeys(activations.PLAIN, activations.plain),
    "Gelu": activations.gelu,
    "Elu": activations.elu,
    "LeakyRelu": activations.leaky,
    "TrueDivide": arithmetic.quotient,
    "Divide": arithmetic.quotient,
    "Add": arithmetic.linear,
    "Subtract": arithmetic.linear,
    "Multiply": arithmetic.linear,
    **dict.fromkeys(("Mean", "Sum", "Max", "Min"), arithmetic.of_single_values),
    "Relu": arithmetic.rectified_operation,
    "Relu6": arithmetic.rectified_operation,
    "Negative": arithmetic.negative,
    "Square": arithmetic.square,
    "Maximum": arithmetic.extremum,
    "Minimum": arithmetic.extremum,
    "Clip": arithmetic.clip,
    "Flip": arithmetic.flipped,
    "Matmul": attention.matmul,
    "Resize": resizing.resize,
}


def edit_standard_layers(model: EditableModel, rules: dict, left: tuple[type, ...] = ()) -> None:
    """Writes layers and operations of stock Keras in terms of those in the table of rules.

    What cannot be written so stays, and is refused by name where it has no rule.

    Args:
        model: to be edited.
        rules: the user's own, whose layers stay as they are.
        left: classes of layers that stay as they are, too.
    """
    edit_unused_parts(model, lambda step: users_rule(step, rules) is not None)
    for _ in range(2):  # kernels that come in place of others have activations, too
        activations.edit_activation_functions(model)
        _rewrite_steps(model, rules, left)


def _rewrite_steps(model, rules, left):
    pending = list(model.steps)
    while pending:
        step = pending.pop(0)
        if not step.inputs or not model.editable(step) or users_rule(step, rules) is not None:
            continue
        if step.is_a(*left):
            continue
        if step.is_a(keras.layers.Layer):
            rewrite = LAYERS.get(step.layer_class) or rewrite_of(step.layer_class)
        else:
            rewrite = OPERATIONS.get(step.layer_class.__name__)
        new = None if rewrite is None else rewrite(step)
        if not new:
            continue
        if len(new) > 1 or type(new[-1].operation) is not step.layer_class:
            pending = [*new, *pending]  # what it is made of may be one of these, too
        model.replace(step, *new)
