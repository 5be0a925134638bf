"""Quantised twins in the place of the layers that int8 operators compute."""

import collections

from keras_hybrid.quantization.placement import Placement
from keras_hybrid.quantization.ranges import tfmot
from keras_hybrid.quantization.twins.composites import Composite
from keras_hybrid.quantization.twins.frozen_norm import unfold_batch_norm
from keras_hybrid.quantization.twins.kernels import QuantizedKernel
from keras_hybrid.quantization.twins.one_call import TwinOfOneCall


def edit_twins(
    placement: Placement, weight_quantizer, activation_quantizer, unfold_batch_norms: bool
) -> dict[str, int]:
    """Gives each step placed in int8 the twin that its rule names.

    Args:
        placement: of a model's steps, which are edited.
        weight_quantizer: the user's TFMOT quantiser of kernels, or None.
        activation_quantizer: likewise of activations.
        unfold_batch_norms: whether twins with a kernel train batch norm's scale and offset beside
            it, where it followed them.

    Returns: how often each layer is called that is called several times, by name.
    """
    for step, rule in placement.int8_rules():
        twin = rule.npu_twin or rule.twin if placement.target == "npu" else rule.twin
        if twin is None:
            continue
        step.edit()
        step.layer_class, step.partial = twin, True
        step.config.update(placement.settings[step])
        if issubclass(twin, QuantizedKernel):
            if weight_quantizer is not None:
                step.config["weight_quantizer"] = tfmot.serialize(weight_quantizer)
            if unfold_batch_norms:
                unfold_batch_norm(step)
        elif issubclass(twin, Composite) and activation_quantizer is not None:
            step.config["activation_quantizer"] = tfmot.serialize(activation_quantizer)
    return _name_shared_layers(placement)


def _name_shared_layers(placement):
    """Tells twins with weights which layer they stand for, where it is called several times.

    Twins that may stand for all of its calls are told in each which one it is.
    """
    calls = collections.defaultdict(set)
    for step in placement.model.steps:
        if step.weights or getattr(step.operation, "weights", ()):
            calls[step.origin].add(step.call)
    for step, _ in placement.int8_rules():
        is_twin = issubclass(step.layer_class, TwinOfOneCall)
        if is_twin and step.weights and len(calls[step.origin]) > 1:
            step.config["shared_layer"] = step.origin[0]
            if step.layer_class.is_of_all_calls:
                step.kwargs = {**step.kwargs, "place": sorted(calls[step.origin]).index(step.call)}
    return {origin[0]: len(found) for origin, found in calls.items() if len(found) > 1}
