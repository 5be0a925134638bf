"""Which layer becomes which quantised twin, and where its output's range comes from.

All that the rewrite knows about layers stands here. A layer class of your own is one more row:
`quantize(model, rules={MyLayer: Rule(...)})`.
"""

import dataclasses
from collections.abc import Callable
from enum import Enum

import keras
from keras import layers

from keras_hybrid import layers as hybrid
from keras_hybrid.quantization import cpu_profile
from keras_hybrid.quantization.cpu_profile import CpuChoice
from keras_hybrid.quantization.twins import (
    activations,
    arithmetic,
    attention,
    composites,
    for_npu,
    kernels,
    norms,
    plain,
)
from keras_hybrid.surgery.editable_model import EditableModel, Step
from keras_hybrid.tasks.detection.anchors import JoinLevels

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


@dataclasses.dataclass(frozen=True)
class FixedRange:
    """The range that TFLite gives an operator's output whatever its values.

    Attributes:
        low: the least value.
        high: the greatest.
    """

    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Rule:
    """How a layer is computed in int8.

    Attributes:
        twin: the layer class that takes its place, with the same configuration and weights; None
            where the layer itself will do.
        npu_twin: the twin in a file for NPUs; None for the same.
        output: where its output's range comes from.
        symmetric: numbers of the inputs that are to be quantised around 0.
        npu_symmetric: what names those that are besides in a file for NPUs: a function of a step.
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
    npu_twin: type | None = None
    output: OutputRange | FixedRange = OutputRange.LEARNED
    symmetric: tuple[int, ...] = ()
    npu_symmetric: Callable[[Step], tuple[int, ...]] | None = None
    one_range: bool = False
    on_cpu: Callable[[Step], CpuChoice] = cpu_profile.in_int8
    worth_converting: bool = False
    as_readers: bool = False
    why_float: str = ""


REARRANGES_ONLY = Rule(output=OutputRange.AS_INPUT)
ARITHMETIC = Rule()
ONE_OF_SEVERAL = Rule(output=OutputRange.AS_INPUT, one_range=True)
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
        npu_twin=for_npu.NpuDotProductAttention,
        symmetric=(1, 2),
        npu_symmetric=for_npu.queries_on_the_right,
        on_cpu=cpu_profile.attention,
        worth_converting=True,
        why_float=f"few tokens; else its softmax: {NO_KERNEL}",
    ),
    hybrid.LeanLayerNormalization: Rule(
        composites.QuantizedLayerNormalization,
        npu_twin=for_npu.NpuLayerNormalization,
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
    layers.Rescaling: Rule(arithmetic.QuantizedRescaling),
    layers.Add: dataclasses.replace(SUM, twin=arithmetic.QuantizedAdd),
    layers.Multiply: Rule(arithmetic.QuantizedMultiply),
    layers.Subtract: Rule(arithmetic.QuantizedSubtract),
    layers.ReLU: CLIPPING,
    layers.LeakyReLU: Rule(activations.QuantizedLeakyReLU),
    layers.GlobalAveragePooling2D: Rule(arithmetic.QuantizedGlobalAveragePooling2D),
    layers.Concatenate: ONE_OF_SEVERAL,
    JoinLevels: ONE_OF_SEVERAL,
    layers.GlobalAveragePooling1D: ARITHMETIC,
    layers.Maximum: ONE_OF_SEVERAL,
    layers.Minimum: ONE_OF_SEVERAL,
    plain.ExponentialLinear: Rule(
        activations.QuantizedELU, on_cpu=cpu_profile.in_float, why_float=NO_KERNEL
    ),
    layers.PReLU: Rule(activations.QuantizedPReLU),
    layers.GroupNormalization: Rule(
        norms.QuantizedGroupNormalization,
        on_cpu=cpu_profile.in_float,
        why_float=f"reciprocal square root: {NO_KERNEL}",
    ),
    layers.UnitNormalization: Rule(
        norms.QuantizedUnitNormalization,
        on_cpu=cpu_profile.in_float,
        why_float=f"reciprocal square root: {NO_KERNEL}",
    ),
    plain.Clip: ARITHMETIC,
    plain.MatrixProduct: Rule(arithmetic.QuantizedMatrixProduct, symmetric=(1,)),
    plain.Resize: dataclasses.replace(REARRANGES_ONLY, twin=arithmetic.QuantizedResize),
    plain.Reverse: REARRANGES_ONLY,
    plain.Slice: REARRANGES_ONLY,
    hybrid.DepthToSpace: REARRANGES_ONLY,
    layers.GlobalMaxPooling1D: REARRANGES_ONLY,
    layers.Cropping1D: REARRANGES_ONLY,
    layers.ZeroPadding1D: REARRANGES_ONLY,
    layers.UpSampling1D: REARRANGES_ONLY,
    layers.RepeatVector: REARRANGES_ONLY,
    layers.AveragePooling2D: Rule(
        arithmetic.QuantizedAveragePooling2D, output=OutputRange.AS_INPUT
    ),
    layers.MaxPooling2D: REARRANGES_ONLY,
    layers.GlobalMaxPooling2D: REARRANGES_ONLY,
    layers.ZeroPadding2D: REARRANGES_ONLY,
    layers.Cropping2D: REARRANGES_ONLY,
    layers.UpSampling2D: dataclasses.replace(
        REARRANGES_ONLY, twin=arithmetic.QuantizedUpSampling2D
    ),
    layers.Reshape: REARRANGES_ONLY,
    layers.Flatten: REARRANGES_ONLY,
    layers.Permute: REARRANGES_ONLY,
    hybrid.ChannelShuffle: REARRANGES_ONLY,
    hybrid.CropToReference: REARRANGES_ONLY,
    hybrid.CutWindows: REARRANGES_ONLY,
    hybrid.FoldPatches: REARRANGES_ONLY,
    hybrid.GlueWindows: REARRANGES_ONLY,
    hybrid.PadToMultiple: REARRANGES_ONLY,
    hybrid.ResizeToReference: dataclasses.replace(
        REARRANGES_ONLY, twin=arithmetic.QuantizedResizeToReference
    ),
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
    "softmax": Rule(
        activations.QuantizedSoftmax,
        output=PROBABILITY,
        on_cpu=cpu_profile.in_float,
        why_float=NO_KERNEL,
    ),
    # Alone, LiteRT's look-up table takes less than float between two conversions; but leaving
    # XNNPACK for it makes networks slower (iFormer-T and -M by 1.08 to 1.16).
    "gelu": Rule(on_cpu=cpu_profile.in_float, why_float=NO_KERNEL),
    "exponential": Rule(on_cpu=cpu_profile.in_float, why_float=NO_KERNEL),
    "softplus": Rule(
        activations.QuantizedSoftplus, on_cpu=cpu_profile.in_float, why_float=NO_KERNEL
    ),
    "silu": Rule(activations.QuantizedSiLU),
    "hard_sigmoid": Rule(activations.QuantizedHardSigmoid),
    "hard_silu": Rule(activations.HardSwish, on_cpu=cpu_profile.in_float, why_float=NO_KERNEL),
}

# Activations that are written with those of the table and layers.
MADE_OF_OTHERS = ("elu", "leaky_relu", "mish", "selu")

# Of `keras.ops`, by the operation's name.
OPERATIONS = {
    "Add": SUM,
    "Multiply": ARITHMETIC,
    "Subtract": ARITHMETIC,
    "Relu": CLIPPING,
    "Relu6": CLIPPING,
    "Sigmoid": ACTIVATIONS["sigmoid"],
    "Softmax": dataclasses.replace(ACTIVATIONS["softmax"], twin=None),
    "Gelu": ACTIVATIONS["gelu"],
    "LeakyRelu": ARITHMETIC,
    "Mean": ARITHMETIC,
    "Sum": ARITHMETIC,
    "Concatenate": ONE_OF_SEVERAL,
    "Stack": ONE_OF_SEVERAL,
    **dict.fromkeys(
        (
            *("Amax", "Amin", "BroadcastTo", "Copy", "DepthToSpace", "ExpandDims"),
            *("GetItem", "Max", "Min", "Moveaxis", "Pad", "Ravel", "Repeat", "Reshape", "Slice"),
            *("SpaceToDepth", "Split", "Squeeze", "StopGradient", "Swapaxes", "Tile"),
            *("Transpose", "Unstack"),
        ),
        REARRANGES_ONLY,
    ),
}

# What a convolution, dense layer, sum or product does on the way out, at no cost.
FUSED = ("linear", "relu", "relu6", "hard_tanh")


# Of these tables, what the converter makes int8 by itself wherever it is free to: operators of a
# fixed range, and a maximum, whose inputs it rounds in place of what it gives.
MADE_INT8 = ("softmax", "sigmoid", "tanh", "Softmax", "Sigmoid", hybrid.TwoSlopeReLU)


def find_rule(step: Step, rules: dict) -> Rule | None:
    """The rule for a step of a model, the user's before the tables'; None where there is none.

    Args:
        step: of an `EditableModel`.
        rules: the user's own: by layer class, or for an operation by its name or its function.
    """
    if (own := users_rule(step, rules)) is not None:
        return own
    if not issubclass(step.layer_class, keras.layers.Layer):
        return OPERATIONS.get(step.layer_class.__name__)
    if step.layer_class is layers.Activation:
        return ACTIVATIONS.get(activation_name(step.setting("activation")))
    return None if _has_no_twin_so(step) else LAYERS.get(step.layer_class)


def _has_no_twin_so(step):
    """Whether a layer is set up as the twin of its class is not."""
    if step.layer_class is layers.UpSampling2D:
        return step.setting("interpolation") not in ("nearest", "bilinear")
    if step.layer_class is layers.GroupNormalization:
        return step.setting("axis") not in (-1, len(step.output.shape) - 1)
    return False


def users_rule(step: Step, rules: dict) -> Rule | None:
    """The user's own rule for a step, or None."""
    if step.layer_class in rules:
        return rules[step.layer_class]
    if issubclass(step.layer_class, keras.layers.Layer):
        return None
    name = step.layer_class.__name__.lower()
    for key, rule in rules.items():
        if not isinstance(key, type):
            asked = key if isinstance(key, str) else key.__name__
            if asked.rsplit(".", 1)[-1].replace("_", "").lower() == name:
                return rule
    return None


def check_rules(model: EditableModel, rules: dict, floats: set):
    """Raises one ValueError that names all layers without a rule, and what to do about each.

    Args:
        model: being rewritten.
        rules: the user's own.
        floats: steps that are kept in float.
    """
    for key, rule in rules.items():
        named = isinstance(key, str) or (isinstance(key, type) or callable(key))
        if not named or not isinstance(rule, Rule):
            raise ValueError(
                "`rules` must map layer classes, or operations by name or function, to "
                f"`keras_hybrid.quantization.rules.Rule`s. Received: {key!r}: {rule!r}"
            )
    missing = [
        step
        for step in model.steps
        if step not in floats
        and not step.is_a(layers.InputLayer)
        and find_rule(step, rules) is None
    ]
    if not missing:
        return
    kinds: dict[str, list] = {}
    for step in missing:
        kinds.setdefault(_kind(step), []).append(step)
    names = str(tuple(step.name for step in missing[:SHOWN]))
    if len(missing) > SHOWN:
        names = f"{names[:-1]}, ...)"
    raise ValueError(
        "There is no quantised twin for "
        + "; ".join(
            f"the {kind} ({', '.join(repr(step.name) for step in steps[:SHOWN])}"
            + (f" and {len(steps) - SHOWN} more)" if len(steps) > SHOWN else ")")
            + f": {_remedy(steps[0])}"
            for kind, steps in kinds.items()
        )
        + ". Or keep them in float, which accelerators without float do not run: "
        f"`keep_float={names}`. Received: model {model.name!r}"
    )


SHOWN = 8  # names, before the message abbreviates


def _kind(step):
    if not issubclass(step.layer_class, keras.layers.Layer):
        return f"operation keras.ops {step.layer_class.__name__}"
    if step.layer_class is layers.Activation:
        return f"activation {activation_name(step.setting('activation'))!r}"
    if step.layer_class is layers.UpSampling2D:
        return f"layer class UpSampling2D of interpolation {step.setting('interpolation')!r}"
    return f"layer class {step.layer_class.__name__}"


def _remedy(step):
    name = step.layer_class.__name__
    if step.layer_class is layers.Activation:
        return "take one of " + ", ".join(sorted({*ACTIVATIONS, *MADE_OF_OTHERS}))
    if name in REMEDIES:
        return REMEDIES[name]
    if not issubclass(step.layer_class, keras.layers.Layer):
        return f"`rules={{{name!r}: keras_hybrid.quantization.rules.Rule()}}`"
    return f"`rules={{{name}: keras_hybrid.quantization.rules.Rule(twin=...)}}`"


REMEDIES = {
    "TrueDivide": "int8 divides by constants only: multiply by a reciprocal",
    "Divide": "int8 divides by constants only: multiply by a reciprocal",
    "MultiHeadAttention": "without masks, over sequences of known length, it has one",
    "Conv2DTranspose": "with equal strides, no dilation and a known size of image it has one; or "
    "resize, and convolve",
    "Lambda": "write it with `keras.ops` or layers outside of a Lambda",
    "Resizing": "without crop or padding, of an image of known size, it has one",
    "Add": "add tensors of the same shape, a number, or one number a channel",
    "Multiply": "multiply by tensors, a number, or one number a channel",
    "ReLU": "without `threshold` it has one",
    "GroupNormalization": "over the last axis it has one",
}


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


def keeps_grid(step: Step) -> bool:
    """Whether int8 has an operator for a step whose outputs are on its inputs' grid: with these the
    converter goes from a rounding back to what is in float before it."""
    rule = find_rule(step, {})
    return rule is not None and rule.output is OutputRange.AS_INPUT and bool(step.inputs)


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
    """Keras' name of an activation from a layer's configuration; a function's own, else."""
    if callable(activation) and not isinstance(activation, keras.layers.Layer):
        return getattr(activation, "__name__", repr(activation))
    name = keras.activations.serialize(keras.activations.get(activation))
    return name if isinstance(name, str) else str(name.get("config"))
