"""What the file of a segmentation network gives: logits, the best class, or probabilities."""

from dataclasses import dataclass

import keras

from keras_hybrid.keras_private import functional, outputs_structure
from keras_hybrid.quantization.twins.float_guard import GUARD_FACTOR
from keras_hybrid.tasks.segmentation.protocol import protocol_of

MASK_OUTPUTS = ("logits", "labels", "confidence")
MASK_SIZES = ("head", "image")
LOGITS = "logits"  # name of the layer, and of the entry among several outputs


@dataclass(frozen=True)
class MaskOutput:
    """What is to be done with the logits inside of the file.

    Attributes:
        values: "logits" as they are, "labels" for the class of the greatest, "confidence" for
            their softmax.
        size: (height, width) to stretch them to before; None for the head's own size.
        interpolation: of that, as of `keras_hybrid.layers.resizing.resize`.
        entry: name of the logits among the model's outputs; None where they are the only one.
        in_float: whether int8 logits are stretched in float: between two of their few levels lie
            many pixels of the image, of which the best class would be a matter of rounding.
    """

    values: str
    size: tuple[int, int] | None
    interpolation: str
    entry: str | None
    in_float: bool = False

    def __call__(self, outputs):
        """The file's output, by its name, of the model's in a TensorFlow graph."""
        import tensorflow as tf

        x = outputs if self.entry is None else outputs[self.entry]
        if self.size is not None and tuple(x.shape[1:3]) != self.size:
            aligned = self.interpolation == "bilinear_aligned"
            resize = tf.compat.v1.image.resize_bilinear
            x = tf.nn.leaky_relu(x, GUARD_FACTOR) if self.in_float else x
            x = resize(x, self.size, align_corners=aligned, half_pixel_centers=not aligned)
        if self.values == "labels":
            x = tf.argmax(x, axis=-1, output_type="int32")
        elif self.values == "confidence":
            x = tf.nn.softmax(x, axis=-1)
        return {self.values: x}


def mask_output(
    model: keras.Model,
    output: str,
    mask_size: str,
    image_shape: tuple[int, ...],
    in_float: bool = False,
) -> MaskOutput | None:
    """What a file gives by the arguments of `export_tflite`; None for the model's outputs as is.

    Args:
        model: a segmentation network.
        output: see `export_tflite`.
        mask_size: likewise.
        image_shape: of the input, with the batch.
        in_float: as of `MaskOutput`.

    Raises:
        ValueError: for a choice that is for segmentation networks alone, and an unknown size.
    """
    if mask_size not in MASK_SIZES:
        raise ValueError(f"`mask_size` must be one of {MASK_SIZES}. Received: {mask_size!r}")
    if output not in MASK_OUTPUTS:
        if mask_size != "head":
            raise ValueError(
                f"`mask_size` is for output in {MASK_OUTPUTS}. "
                f"Received: mask_size={mask_size!r}, output={output!r}"
            )
        return None
    entry, shape = _logits_of(model)
    if shape is None or len(model.inputs) != 1:
        raise ValueError(
            f"output={output!r} is for a segmentation network: one image, and logits "
            "(batch, h, w, classes), alone or as 'logits' of several outputs. "
            f"Received: {model.name} with outputs {model.output_shape}"
        )
    if output != LOGITS and shape[-1] < 2:
        raise ValueError(
            "Of one class there is nothing to choose: export its logits. "
            f"Received: output={output!r}, {model.name} with classes={shape[-1]}"
        )
    _, interpolation = protocol_of(model).stretches[0]
    size = None if mask_size == "head" else tuple(image_shape[1:3])
    return MaskOutput(output, size, interpolation, entry, in_float)


def later_stretches(model: keras.Model, mask: MaskOutput | None) -> tuple[tuple[str, str], ...]:
    """What an app has left to do to a file's mask, as `SegmentationProtocol.stretches`.

    Args:
        model: a segmentation network.
        mask: what the file gives; None for its logits.
    """
    first, *later = protocol_of(model).stretches
    if mask is None or mask.size is None:
        return (first, *later)
    return tuple(later) or (("image", first[1]),)


def is_segmentation(model: keras.Model) -> bool:
    """Whether the model's output is the logits of a segmentation head of this package."""
    return _logits_of(model)[1] is not None and any(layer.name == LOGITS for layer in model.layers)


def _logits_of(model) -> tuple[str | None, tuple | None]:
    """Name of the logits among several outputs, and their shape; None for none."""
    outputs = outputs_structure(model) if functional(model) is not None else model.output
    entry = LOGITS if isinstance(outputs, dict) else None
    logits = outputs.get(LOGITS) if isinstance(outputs, dict) else outputs
    shape = tuple(getattr(logits, "shape", ()))
    return entry, shape if len(shape) == 4 else None
