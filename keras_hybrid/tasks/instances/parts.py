"""Mask R-CNN cut where regions come from outside: what training, files and exact sizes need."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from keras_hybrid.keras_private import calls
from keras_hybrid.tasks.instances.instance_detections import InstanceDetections, MaskOfLabel
from keras_hybrid.tasks.instances.region_proposals import RegionProposals
from keras_hybrid.tasks.instances.roi_align import RoIAlign


class AnyCount:
    """A functional model as a function: of other numbers of regions, too, than its input says.

    Args:
        model: whose layers take any number.

    Call: a list of tensors, in the order of the model's inputs -> a tensor or list of them. `align`
    takes the place of the layers that cut regions out, as `align_on_host` does where nothing is
    compiled.
    """

    def __init__(self, model: keras.Model):
        self.model = model
        self._calls = [
            call for call in calls(model) if not isinstance(call.operation, keras.layers.InputLayer)
        ]

    def __call__(self, inputs, align: Callable[[RoIAlign, list], Any] | None = None):
        known = {id(x): value for x, value in zip(self.model.inputs, inputs, strict=True)}

        def value_of(x):
            return known[id(x)] if isinstance(x, keras.KerasTensor) else x

        for call in self._calls:
            args, kwargs = keras.tree.map_structure(value_of, call.args_and_kwargs)
            if align is not None and isinstance(call.operation, RoIAlign):
                found = [align(call.operation, keras.tree.flatten((args, kwargs)))]
            else:
                found = keras.tree.flatten(call.operation(*args, **kwargs))
            known |= {id(x): value for x, value in zip(call.outputs, found, strict=True)}
        found = [known[id(x)] for x in self.model.outputs]
        return found if len(found) > 1 else found[0]


@dataclass(frozen=True, eq=False)
class MaskRCNNParts:
    """The parts of a Mask R-CNN: they share its layers.

    Attributes:
        first: images -> a dict of "maps" (a list, finest first), "logits" and "offsets" of the
            region proposal network by level.
        box_head: maps and regions (batch, n, 4) -> (batch, n, classes + 1), the background last,
            and (batch, n, 4 * classes). As a model it takes as many regions as the network has
            proposals; as `AnyCount` any number.
        mask_head: maps and boxes (batch, n, 4) -> logits (batch * n, 28, 28, classes); likewise.
        regions: the layer of the proposals.
        detections: the layer of the objects.
    """

    first: keras.Model
    box_head: AnyCount
    mask_head: AnyCount
    regions: RegionProposals
    detections: InstanceDetections

    @property
    def classes(self) -> int:
        """Number of classes of objects."""
        return self.mask_head.model.output.shape[-1]

    @property
    def input_size(self) -> tuple[int | None, int | None]:
        """Height and width of the images; None where any will do."""
        return tuple(self.first.input_shape[1:3])


def is_mask_rcnn(model: keras.Model) -> bool:
    """Whether the model is a Mask R-CNN of this package."""
    return any(isinstance(layer, RegionProposals) for layer in model.layers)


def parts_of(model: keras.Model) -> MaskRCNNParts:
    """The parts of a Mask R-CNN, just built or loaded.

    Raises:
        ValueError: for a model that is none of this package.
    """
    if not is_mask_rcnn(model):
        raise ValueError(
            "A Mask R-CNN of this package is expected, as `keras_hybrid.mask_rcnn` builds it. "
            f"Received: model={model.name}"
        )
    kinds = (RegionProposals, RoIAlign, InstanceDetections, MaskOfLabel)
    found = {kind: [x for x in calls(model) if isinstance(x.operation, kind)] for kind in kinds}
    (regions,), (box_align, mask_align) = found[RegionProposals], found[RoIAlign]
    (detections,), (mask,) = found[InstanceDetections], found[MaskOfLabel]
    *rpn, _ = regions.inputs
    *maps, proposals = box_align.inputs
    half = len(rpn) // 2
    first = {"maps": maps, "logits": rpn[:half], "offsets": rpn[half:]}
    box_head = keras.Model([*maps, proposals], list(detections.inputs[1:3]), name="box_head")
    mask_head = keras.Model(list(mask_align.inputs), mask.inputs[0], name="mask_head")
    return MaskRCNNParts(
        first=keras.Model(model.inputs[0], first, name="first"),
        box_head=AnyCount(box_head),
        mask_head=AnyCount(mask_head),
        regions=regions.operation,
        detections=detections.operation,
    )
