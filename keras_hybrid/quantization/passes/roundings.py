"""Which values are rounded: a `FakeQuantize` after each that an int8 operator gives or takes."""

from collections import Counter

import keras

from keras_hybrid.quantization.placement import Placement
from keras_hybrid.quantization.ranges import tfmot
from keras_hybrid.quantization.ranges.fake_quantize import FakeQuantize
from keras_hybrid.quantization.rules import FixedRange, OutputRange, converter_rounds, keeps_grid
from keras_hybrid.quantization.twins.float_guard import FloatGuard, Requantize
from keras_hybrid.surgery.editable_model import EditableModel, Step, Value, new_step


def edit_roundings(
    model: EditableModel,
    placement: Placement,
    quantizer,
    origins: dict[Value, Value],
    limits: dict[Value, tuple[float, float]],
):
    """Rounds each value once, where it was computed, on a grid that all its int8 readers can use.

    Args:
        model: to be edited.
        placement: of its steps.
        quantizer: the user's TFMOT quantiser of activations, or None.
        origins: of `Placement.origins`.
        limits: of learned ranges, by value.
    """
    symmetric = set()
    for step, _ in placement.int8_rules():
        centered = placement.centered_inputs(step)
        symmetric.update(origins[step.inputs[number]] for number in centered)
    for value, step in placement.producers.items():
        if origins[value] is not value or _fused_with_next(model, placement, value):
            continue
        if placement.int8[step] and placement.output_range(step) is OutputRange.INSIDE:
            continue
        readers = model.consumers(value)
        if _rounds_for_all(placement, step) or any(placement.int8[x] for x in readers):
            bounds = placement.output_range(step) if placement.int8[step] else None
            if isinstance(bounds, FixedRange):
                chosen = tfmot.fixed(bounds.low, bounds.high)
            else:
                chosen = tfmot.learned(quantizer, value in symmetric)
            _round(model, placement, value, chosen, limits.get(value))


def edit_centered_inputs(model: EditableModel, placement: Placement, quantizer):
    """Rounds what is to be quantised around 0 once more, where its own range is fixed.

    Args:
        model: with roundings.
        placement: of its steps.
        quantizer: the user's TFMOT quantiser of activations, or None.
    """
    for step, _ in list(placement.int8_rules()):
        for number in placement.centered_inputs(step):
            value = step.inputs[number]
            producer = model.producer(value)
            if not producer.is_a(FakeQuantize) or producer.operation.fixed_range is None:
                continue
            name = f"{step.name}_input{number}"
            again = new_step(Requantize(name=f"{name}_again"), [value], value.shape)
            layer = FakeQuantize(tfmot.learned(quantizer, symmetric=True), name=f"{name}_rounded")
            rounded = new_step(layer, [again.output], value.shape)
            rounded.partial = True
            step.replace_input(value, rounded.output)
            model.insert_before(step, again, rounded)


def edit_requantized(model: EditableModel):
    """Numbers what is rounded once more, by value, so that the converter tells it apart."""
    counts = Counter()
    for step in model.steps:
        if step.is_a(Requantize):
            step.edit().config["number"] = counts[step.inputs[0]]
            counts[step.inputs[0]] += 1


def edit_output_names(model: EditableModel):
    """Has the roundings of outputs remember what the model calls these."""
    for value, name in zip(keras.tree.flatten(model.outputs), model.output_names, strict=True):
        step = model.producer(value)
        alike = [x for x in model.steps if x.config is step.config]
        if step.is_a(FakeQuantize) and len(alike) == 1:
            step.config["output_name"] = name


def _fused_with_next(model, placement, value):
    """Whether an int8 kernel does the activation that alone follows it."""
    step, after = placement.producers[value], model.only_consumer(value)
    return (
        after is not None
        and placement.int8[step]
        and placement.int8[after]
        and placement.fused(after)
    )


def _rounds_for_all(placement, step):
    """Whether layers in float take the rounded value, too: an int8 layer's, and the image's,
    which the file may take in integers."""
    return placement.int8[step] or step.is_a(keras.layers.InputLayer)


def _round(model, placement, value, quantizer, limits):
    """Puts a `FakeQuantize` after a value."""
    step: Step = placement.producers[value]
    number = "" if len(step.outputs) == 1 else str(step.outputs.index(value))
    layer = FakeQuantize(
        quantizer,
        limits=limits,
        profile=placement.profile if step.is_a(keras.layers.InputLayer) else None,
        target=placement.target if step.is_a(keras.layers.InputLayer) else None,
        name=f"{step.name}_rounded{number}",
    )
    new = new_step(layer, [value], value.shape)
    new.partial = True
    if _rounds_for_all(placement, step):
        model.interpose(value, new)
        return
    chain = [new]
    if converter_rounds(step) or keeps_grid(step):
        # One guard alone would be computed in int8, between the converter's grid and ours.
        for name in ("once", "only"):
            guard = new_step(FloatGuard(name=f"{layer.name}_{name}"), new.inputs, value.shape)
            new.replace_input(new.inputs[0], guard.output)
            chain.insert(-1, guard)
    # Who computes in float goes on with the float value.
    readers = [consumer for consumer in model.consumers(value) if placement.int8[consumer]]
    model.interpose(value, *chain, consumers=readers)
