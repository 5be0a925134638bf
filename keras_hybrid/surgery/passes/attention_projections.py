"""Attention: its scale into a projection, and one projection for each of its inputs."""

import keras
import numpy as np

from keras_hybrid.layers import DotProductAttention, SplitChannels
from keras_hybrid.surgery.affine import affine_producer, is_affine, scale_outputs
from keras_hybrid.surgery.editable_model import EditableModel, Step, new_step


def edit_attention_scales(model: EditableModel):
    """Has the projection of queries or keys scale what attention would scale."""
    for step in model.steps:
        if not step.is_a(DotProductAttention) or step.setting("scale") == 1:
            continue
        query, key, _ = step.inputs
        scale = step.setting("scale") or (query.shape[-1] // step.setting("num_heads")) ** -0.5
        for value in (query, key):
            projection = affine_producer(model, value)
            if projection is not None and step.inputs.count(value) == 1:
                scale_outputs(projection, scale)
                step.edit().config["scale"] = 1.0
                break


def edit_split_projections(model: EditableModel):
    """Computes the parts of a projection that is split by layers of their own."""
    for step in list(model.steps):
        if not step.is_a(SplitChannels):
            continue
        activation = model.producer(step.inputs[0])
        if activation is None or not activation.is_a(keras.layers.Activation):
            activation = None
        elif model.only_consumer(activation.output) is not step:
            continue
        value = activation.inputs[0] if activation else step.inputs[0]
        projection = model.producer(value)
        if (
            not is_affine(model, projection)
            or projection.is_a(keras.layers.DepthwiseConv2D)
            or projection.setting("groups") not in (None, 1)
            or model.only_consumer(value) is not (activation or step)
        ):
            continue
        for part, output in enumerate(step.outputs):
            new = _part(projection, part, step.setting("parts"), output.shape)
            if activation:
                layer = activation.layer_class.from_config(
                    {**activation.edit().config, "name": f"{activation.name}_part{part}"}
                )
                new.append(
                    new_step(layer, [new[-1].output], output.shape, origin=activation.origin)
                )
            model.insert_before(step, *new)
            model.redirect(output, new[-1].output)
        model.remove(step)
        model.remove_unused()


def _part(projection: Step, part: int, parts: int, shape) -> list[Step]:
    """The projection to one of several equal parts of its channels."""
    projection.edit()
    columns = np.split(np.arange(projection.output.shape[-1]), parts)[part]
    config = {**projection.config, "name": f"{projection.name}_part{part}"}
    config["units" if "units" in config else "filters"] = len(columns)
    layer = projection.layer_class.from_config(config)
    weights = {name: value[..., columns] for name, value in projection.weights.items()}
    step = new_step(layer, projection.args, shape, weights, projection.origin)
    if projection.folded_norm is not None:
        step.folded_norm = projection.folded_norm.of_channels(columns)
    return [step]
