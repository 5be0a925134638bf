"""Values between pixels: int8 rounds resized maps and averages on their input's grid."""

from keras import layers

from keras_hybrid.layers import ResizeToReference
from keras_hybrid.quantization.passes.shared_ranges import round_again, roundings_of_values
from keras_hybrid.quantization.placement import Placement
from keras_hybrid.quantization.ranges.fake_quantize import FakeQuantize
from keras_hybrid.quantization.twins.plain import Resize
from keras_hybrid.surgery.editable_model import EditableModel, Value

_RESIZES = (layers.UpSampling2D, ResizeToReference, Resize)


def edit_interpolations(model: EditableModel, placement: Placement, origins: dict[Value, Value]):
    """Rounds what bilinear resizes and average pooling give by the layer that rounded their input.

    TFLite's RESIZE_BILINEAR and AVERAGE_POOL_2D give integers of their input's scale. Left out,
    what is added to the map next would be off by up to half a step from the file. What they take
    is rounded, too, where it was only moved since (max pooling, padding, cropping): the converter
    finds the grids of both sides at one operator, or leaves what else reads the map in float.

    Args:
        model: with roundings, before they are shared.
        placement: of its steps.
        origins: of `Placement.origins`.
    """
    roundings = roundings_of_values(model)
    for step, _ in list(placement.int8_rules()):
        resizes = step.layer_class in _RESIZES and step.setting("interpolation") != "nearest"
        if not resizes and step.layer_class is not layers.AveragePooling2D:
            continue
        rounding = roundings.get(origins[step.outputs[0]])
        if rounding is None or _is_constant(step):
            continue
        round_again(model, step.output, f"{step.name}_rounded", rounding)
        source = step.inputs[0]
        if not model.producer(source).is_a(FakeQuantize):
            round_again(model, source, f"{step.name}_input", rounding)


def _is_constant(step):
    """Whether a single pixel is stretched, whose value needs no rounding."""
    return tuple(step.inputs[0].shape[1:3]) == (1, 1)
