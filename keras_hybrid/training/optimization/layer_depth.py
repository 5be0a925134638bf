"""How deep each layer of a network lies, by its name: what fine-tuning treats differently."""

import keras

from keras_hybrid.layer_names import (
    FINAL,
    HEAD,
    NECK,
    STEM,
    TOKENS,
    LayerName,
    is_in_head,
    stage_of_layer,
)


def layer_stages(model: keras.Model) -> dict[str, int]:
    """The stage of each layer with weights: 0 for the stem, the last one plus 1 for the head.

    Raises:
        ValueError: for a network whose layers have other names than this package's.
    """
    places = _places(model)
    head = 1 + max((stage for stage, _ in places.values() if stage is not None), default=0)
    return {name: head if stage is None else stage for name, (stage, _) in places.items()}


def layer_depths(model: keras.Model) -> dict[str, int]:
    """The depth of each layer with weights, counted in blocks: 0 for the stem, the most for the
    head. A convolution between two stages belongs to the block after it.

    Raises:
        ValueError: for a network whose layers have other names than this package's.
    """
    places = _places(model)
    blocks = sorted({place for place in places.values() if place[0] is not None})
    depths = {place: depth for depth, place in enumerate(blocks)}
    return {name: depths.get(place, len(blocks)) for name, place in places.items()}


def _places(model):
    """(stage, block) of each layer with weights; (0, 0) for the stem, (None, 0) for the head."""
    places = {}
    for layer in model.layers:
        if not layer.weights or isinstance(layer, keras.Model):  # a teacher
            continue
        place = LayerName.parse(layer.name)
        if place and place.stage is not None:
            places[layer.name] = (place.stage, place.block or 0)
        elif stage_of_layer(layer.name) in (STEM, TOKENS):
            places[layer.name] = (0, 0)
        elif stage_of_layer(layer.name) in (HEAD, NECK, FINAL):
            places[layer.name] = (None, 0)
        else:
            raise ValueError(
                "Layers are told apart by this package's names, such as `stage2_block0_expand`. "
                f"Received: model={model.name} with a layer {layer.name!r}"
            )
    return places


def learning_rate_multipliers(model: keras.Model, decay: float) -> dict[str, float]:
    """decay ** (depth of the head - depth) for each trainable variable, by its path.

    Reference: BEiT (https://arxiv.org/abs/2106.08254), Appendix; a block of the network stands for
    a layer of theirs.
    """
    depths = layer_depths(model)
    head = max(depths.values())
    return {
        variable.path: decay ** (head - depths[layer.name])
        for layer in model.layers
        if layer.name in depths
        for variable in layer.trainable_variables
    }


def head_multipliers(model: keras.Model, rate: float) -> dict[str, float]:
    """`rate` for each trainable variable of neck and head, by its path."""
    return {
        variable.path: rate
        for layer in model.layers
        if is_in_head(layer.name)
        for variable in layer.trainable_variables
    }


def freeze_stages(model: keras.Model, last: int | None):
    """Freezes the stem and the stages up to `last`, statistics of their batch norms included.

    Args:
        model: a network of this package.
        last: number of the last frozen stage; 0 for the stem alone, None for nothing.

    Raises:
        ValueError: for a stage that the network does not have.
    """
    if last is None:
        return
    stages = layer_stages(model)
    head = max(stages.values())
    if not 0 <= last < head:
        raise ValueError(
            f"`{model.name}` has the stages 1 to {head - 1}, and 0 for its stem. "
            f"Received: frozen_stages={last!r}"
        )
    for layer in model.layers:
        if stages.get(layer.name, head) <= last:
            layer.trainable = False
