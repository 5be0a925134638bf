"""A quantised model that takes pixels of 0 to 255: in integers from the camera's frame on."""

import keras
import numpy as np

from keras_hybrid.quantization.ranges import tfmot
from keras_hybrid.quantization.ranges.fake_quantize import FakeQuantize
from keras_hybrid.quantization.twins.arithmetic import QuantizedRescaling
from keras_hybrid.quantization.twins.kernels import QuantizedConv2D, QuantizedDepthwiseConv2D
from keras_hybrid.surgery.editable_model import EditableModel, new_step
from keras_hybrid.surgery.passes.image_preprocessing import first_convolution

PIXELS = (0.0, 255.0)


# An NPU reads three channels from memory as slowly as 16 times as many: pixels side by side are
# channels to it (98 thousand cycles in place of 452 for 224 x 224 px).
PIXELS_OF_A_BLOCK = 16


def edit_quantized_preprocessing(
    model: EditableModel, mean, std, channel_order: str, in_blocks: bool = False
) -> bool:
    """Has a quantised model take RGB images of values 0 to 255, without a float operator.

    Pixels are on int8's grid as they are. The factors and the channel order go into the kernel of
    the first convolution, whose range follows; the mean is subtracted in int8, because zero
    padding comes between. It is subtracted in whole pixels, so that where all channels have one
    mean the difference is on the grid, too; what is left of it goes into the convolution's bias.
    Padding then stands for the nearest whole pixel.

    Args:
        model: of `quantize`, whose input is what `(pixel / 255 - mean) / std` gives.
        mean: per channel, in RGB order, for values in [0, 1].
        std: likewise.
        channel_order: "RGB" or "BGR", the order the model expects.
        in_blocks: whether pixels are read, and the mean is subtracted, many side by side, as NPUs
            want it.

    Returns: whether the model rounds its image and starts with a convolution in int8, so that it
        could be done.
    """
    image = model.inputs
    rounding = model.only_consumer(image)
    if rounding is None or not rounding.is_a(FakeQuantize):
        return False
    convolution = first_convolution(model, rounding.output)
    if (
        convolution is None
        or not convolution.is_a(QuantizedConv2D)
        or convolution.setting("groups") != 1
        or convolution.inputs[0].shape[-1] != len(mean)
    ):
        return False
    _scale_kernel(convolution, 1 / (255 * np.asarray(std)), channel_order)
    offset = np.round(-255.0 * np.asarray(mean, "float64"))
    _shift_outputs(convolution, -255.0 * np.asarray(mean, "float64") - offset)
    steps = [_fixed("pixels", PIXELS, image)]
    width = image.shape[2]
    if in_blocks and width is not None and width % PIXELS_OF_A_BLOCK == 0 and image.shape[1]:
        steps += _in_blocks(steps[-1].output, offset)
    elif np.any(offset):
        offset = offset.tolist()
        layer = QuantizedRescaling(1.0, offset=offset, name="preprocessing_mean")
        steps.append(new_step(layer, [steps[-1].output], image.shape))
        limits = (min(offset), 255.0 + max(offset))
        steps.append(_fixed("preprocessing_mean_rounded", limits, steps[-1].output))
    model.replace(rounding, *steps)
    return True


def _in_blocks(pixels, offset):
    """The offset added to pixels side by side, as a depthwise kernel of one tap."""
    batch, height, width, channels = pixels.shape
    depth = PIXELS_OF_A_BLOCK * channels
    shape = (batch, height, width // PIXELS_OF_A_BLOCK, depth)
    blocks = new_step(keras.layers.Reshape(shape[1:], name="preprocessing_blocks"), [pixels], shape)
    layer = QuantizedDepthwiseConv2D(1, name="preprocessing_mean", data_format="channels_last")
    added = new_step(
        layer,
        [blocks.output],
        shape,
        {
            "kernel": np.ones((1, 1, depth, 1), "float32"),
            "bias": np.tile(offset, PIXELS_OF_A_BLOCK).astype("float32"),
            "kernel_min": np.full(depth, -1, "float32"),
            "kernel_max": np.full(depth, 1, "float32"),
        },
    )
    added.partial = True
    rounded = _fixed(
        "preprocessing_mean_rounded",
        (min(0.0, *offset), 255.0 + max(offset)),
        added.output,
    )
    image = new_step(
        keras.layers.Reshape(pixels.shape[1:], name="preprocessing_image"),
        [rounded.output],
        pixels.shape,
    )
    return [blocks, added, rounded, image]


def _scale_kernel(convolution, factors, channel_order):
    """Multiplies a kernel's input channels, and each output channel's range as its values grow."""
    weights = convolution.edit().weights
    kernel = weights["kernel"]
    turned = kernel[:, :, ::-1] if channel_order == "BGR" else kernel
    weights["kernel"] = (turned * factors[:, None]).astype("float32")
    before, after = (np.abs(x).max((0, 1, 2)) for x in (kernel, weights["kernel"]))
    growth = after / np.where(before > 0, before, 1)
    for name in ("kernel_min", "kernel_max"):
        if name in weights and weights[name].shape == growth.shape:
            weights[name] = weights[name] * growth
    convolution.partial = True


def _shift_outputs(convolution, rest):
    """Lets a convolution add what its kernel makes of `rest`, one a channel, in every pixel."""
    if np.all(np.abs(rest) < 1e-6):
        return
    weights = convolution.edit().weights
    shift = np.einsum("hwio,i->o", weights["kernel"].astype("float64"), rest).astype("float32")
    if convolution.setting("batch_norm") is not None:
        weights["moving_mean"] = weights["moving_mean"] - shift
        return
    convolution.config["use_bias"] = True
    weights["bias"] = weights.get("bias", np.zeros_like(shift)) + shift


def _fixed(name, limits, value):
    step = new_step(FakeQuantize(tfmot.fixed(*limits), name=name), [value], value.shape)
    step.partial = True
    return step
