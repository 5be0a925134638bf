"""Which layer becomes which quantised twin, and where its output's range comes from.

All that the rewrite knows about layers stands here. A layer class of your own is one more row:
`quantize(model, rules={MyLayer: Rule(...)})`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import keras
from keras import layers

from keras_hybrid import layers as hybrid
from keras_hybrid.quantization import cpu_profile
from keras_hybrid.quantization.cpu_profile import CpuChoice
from keras_hybrid.quantization.twins import activations, attention, composites, kernels
from keras_hybrid.surgery.editable_model import Step

PROFILES = ("int8", "int8_cpu")


class OutputRange(Enum):
    """Where the range of a layer's output comes from, unless it is a `FixedRange`.

    Attributes:
        LEARNED: a range of its own, from calibration and training.
        AS_INPUT: the input's: values are only rearranged.
        INSIDE: the twin has rounded it.
    """

    LEARNED = "learned"
    AS_INPUT = "as input"
    INSIDE = "inside"


@dataclass(frozen=True)
class FixedRange:
    """The range that TFLite gives an operator's output whatever its values.

    Attributes:
        low: the least value.
        high: the greatest.
    """

    low: float
    high: float


@dataclass(frozen=True)
class Rule:
    """How a layer is computed in int8.

    Attributes:
        twin: the layer class that takes its place, with the same configuration and weights; None
            where the layer itself will do.
        output: where its output's range comes from.
        symmetric: numbers of the inputs that are to be quantised around 0.
        one_range: whether all inputs must share a range.
        on_cpu: what the profile "int8_cpu" makes of a step: a function of `cpu_profile`, or one
            like them.
        worth_converting: whether that profile computes it in int8 even between layers in float, as
            is worth two conversions where int8 saves most; else it is float where all its
            neighbors are.
        as_readers: whether that profile computes it in float where a layer that reads it is in
            float: sums that layer norms read stay as exact as they are, at no further conversion.
        why_float: for the report, why it or a part of it is not.
    """

    twin: type | None = None
    output: OutputRange | FixedRange = OutputRange.LEARNED
    symmetric: tuple[int, ...] = ()
    one_range: bool = False
    on_cpu: Callable[[Step], CpuChoice] = cpu_profile.in_int8
    worth_converting: bool = False
    as_readers: bool = False
    why_float: str = ""


REARRANGES_ONLY = Rule(output=OutputRange.AS_INPUT)
ARITHMETIC = Rule()
SUM = Rule(as_readers=True, why_float="read by a layer in float")
NO_KERNEL = "XNNPACK has no int8 kernel for it"
CLIPPING = Rule(why_float=f"between layers in float, or no part of a kernel: alone, {NO_KERNEL}")
PROBABILITY = FixedRange(*composites.PROBABILITY)
TANH = FixedRange(*composites.TANH)

LAYERS = {
    layers.Conv2D: Rule(
        kernels.QuantizedConv2D,
        on_cpu=cpu_profile.convolution,
        worth_converting=True,
        why_float="so few input channels are slower in int8",
    ),
    layers.DepthwiseConv2D: Rule(
        kernels.QuantizedDepthwiseConv2D,
        on_cpu=cpu_profile.depthwise,
        why_float="between layers in float, or several outputs a channel: slower in int8",
    ),
    layers.Dense: Rule(kernels.QuantizedDense, worth_converting=True),
    hybrid.DotProductAttention: Rule(
        attention.QuantizedDotProductAttention,
        symmetric=(1, 2),
        on_cpu=cpu_profile.attention,
        worth_converting=True,
        why_float=f"few tokens; else its softmax: {NO_KERNEL}",
    ),
    hybrid.LeanLayerNormalization: Rule(
        composites.QuantizedLayerNormalization,
        on_cpu=cpu_profile.in_float,
        why_float=f"reciprocal square root: {NO_KERNEL}",
    ),
    hybrid.TwoSlopeReLU: Rule(
        composites.QuantizedTwoSlopeReLU,
        output=OutputRange.INSIDE,
        on_cpu=cpu_profile.in_float,
        why_float=f"maximum: {NO_KERNEL}",
    ),
    hybrid.GlobalTokens: ARITHMETIC,
    layers.Rescaling: ARITHMETIC,
    layers.Add: SUM,
    layers.Multiply: ARITHMETIC,
    layers.Subtract: ARITHMETIC,
    layers.ReLU: CLIPPING,
    layers.LeakyReLU: ARITHMETIC,
    layers.GlobalAveragePooling2D: ARITHMETIC,
    layers.Concatenate: Rule(output=OutputRange.AS_INPUT, one_range=True),
    layers.AveragePooling2D: REARRANGES_ONLY,
    layers.MaxPooling2D: REARRANGES_ONLY,
    layers.GlobalMaxPooling2D: REARRANGES_ONLY,
    layers.ZeroPadding2D: REARRANGES_ONLY,
    layers.Cropping2D: REARRANGES_ONLY,
    layers.UpSampling2D: REARRANGES_ONLY,
    layers.Reshape: REARRANGES_ONLY,
    layers.Flatten: REARRANGES_ONLY,
    layers.Permute: REARRANGES_ONLY,
    hybrid.ChannelShuffle: REARRANGES_ONLY,
    hybrid.CropToReference: REARRANGES_ONLY,
    hybrid.FoldPatches: REARRANGES_ONLY,
    hybrid.PadToMultiple: REARRANGES_ONLY,
    hybrid.SelectToken: REARRANGES_ONLY,
    hybrid.SplitChannels: REARRANGES_ONLY,
    hybrid.UnfoldPatches: REARRANGES_ONLY,
}

# Of `keras.layers.Activation`, and of `activation=` in other layers, by Keras' name.
ACTIVATIONS = {
    "linear": REARRANGES_ONLY,
    "relu": CLIPPING,
    "relu6": CLIPPING,
    "leaky_relu": ARITHMETIC,
    "hard_tanh": CLIPPING,
    "sigmoid": Rule(output=PROBABILITY),
    "tanh": Rule(output=TANH),
    "softmax": Rule(output=PROBABILITY, on_cpu=cpu_profile.in_float, why_float=NO_KERNEL),
    # Alone, LiteRT's look-up table takes less than float between two conversions; but leaving
    # XNNPACK for it makes networks slower (iFormer-T and -M by 1.08 to 1.16).
    "gelu": Rule(on_cpu=cpu_profile.in_float, why_float=NO_KERNEL),
    "silu": Rule(activations.QuantizedSiLU),
    "hard_sigmoid": Rule(activations.QuantizedHardSigmoid),
    "hard_silu": Rule(activations.HardSwish, on_cpu=cpu_profile.in_float, why_float=NO_KERNEL),
}

# Of `keras.ops`, by the operation's name.
OPERATIONS = {
    "Add": SUM,
    "Multiply": ARITHMETIC,
    "Subtract": ARITHMETIC,
    "Relu": CLIPPING,
    "Relu6": CLIPPING,
    "Sigmoid": ACTIVATIONS["sigmoid"],
    "Softmax": ACTIVATIONS["softmax"],
    "Reshape": REARRANGES_ONLY,
    "Transpose": REARRANGES_ONLY,
    "Pad": REARRANGES_ONLY,
}

# What a convolution, dense layer, sum or product does on the way out, at no cost.
FUSED = ("linear", "relu", "relu6", "hard_tanh")


# Of these tables, what the converter makes int8 by itself wherever it is free to: operators of a
# fixed range, and a maximum, whose inputs it rounds in place of what it gives.
MADE_INT8 = ("softmax", "sigmoid", "tanh", "Softmax", "Sigmoid", hybrid.TwoSlopeReLU)


def rule_of(step, rules: dict) -> Rule:
    """The rule for a step of a model.

    Args:
        step: a `Step` of an `EditableModel`.
        rules: the user's own, by layer class.

    Raises:
        ValueError: for a layer that is in no table.
    """
    if step.layer_class in rules:
        return rules[step.layer_class]
    if not issubclass(step.layer_class, keras.layers.Layer):
        rule = OPERATIONS.get(step.layer_class.__name__)
        kind = f"operation keras.ops {step.layer_class.__name__}"
    elif step.layer_class is layers.Activation:
        name = activation_name(step.setting("activation"))
        rule, kind = ACTIVATIONS.get(name), f"activation {name!r}"
    else:
        rule = LAYERS.get(step.layer_class)
        kind = f"layer class {step.layer_class.__name__}"
    if rule is None:
        raise ValueError(
            f"There is no quantised twin for the {kind}. Give one with `rules="
            "{LayerClass: keras_hybrid.quantization.rules.Rule(twin=...)}`, or keep the layer in "
            f"float with `keep_float=({step.name!r},)`. Received: layer {step.name!r}"
        )
    return rule


def fusable(step) -> bool:
    """Whether the step is an activation that kernels compute on the way out."""
    if step.layer_class is layers.ReLU:
        return (
            step.setting("max_value") in (None, 6, 6.0)
            and not step.setting("negative_slope")
            and not step.setting("threshold")
        )
    if step.layer_class is layers.Activation:
        return activation_name(step.setting("activation")) in FUSED
    return step.layer_class.__name__ in ("Relu", "Relu6")


def converter_rounds(step) -> bool:
    """Whether the converter rounds what a step in float gives to int8 by itself: operators of a
    fixed range, a maximum, and what is in no table. What it rounds it goes on with in int8."""
    if step.is_a(layers.InputLayer):
        return False
    if step.layer_class is layers.Activation:
        name, known = activation_name(step.setting("activation")), ACTIVATIONS
    elif step.is_a(layers.Layer):
        name, known = step.layer_class, LAYERS
    else:
        name, known = step.layer_class.__name__, OPERATIONS
    return name in MADE_INT8 or name not in known


def activation_name(activation) -> str:
    """Keras' name of an activation from a layer's configuration."""
    name = keras.activations.serialize(keras.activations.get(activation))
    return name if isinstance(name, str) else name["config"]
