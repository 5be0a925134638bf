"""Batch norm and layer scale into the convolutions and dense layers on either side."""

from dataclasses import dataclass

import keras
import numpy as np

from keras_hybrid.layers import LayerScale
from keras_hybrid.surgery.affine import (
    affine_producer,
    is_affine,
    scale_inputs,
    scale_outputs,
    shift_inputs,
    shift_outputs,
    takes_every_channel,
)
from keras_hybrid.surgery.editable_model import EditableModel


@dataclass(frozen=True)
class FoldedNorm:
    """A batch norm that became part of a layer without bias.

    Attributes:
        name: of its layer.
        epsilon: added to the variance.
        gamma: by output channel, as all that follows.
        moving_mean: less the bias that the layer had.
        moving_variance: of the layer's outputs.
    """

    name: str
    epsilon: float
    gamma: np.ndarray
    moving_mean: np.ndarray
    moving_variance: np.ndarray

    def of_channels(self, channels) -> "FoldedNorm":
        """The same for some of the output channels, or in another order."""
        return FoldedNorm(
            self.name,
            self.epsilon,
            self.gamma[channels],
            self.moving_mean[channels],
            self.moving_variance[channels],
        )


def edit_batch_norms(model: EditableModel):
    """Folds each batch norm and layer scale into the layer before, else into all after."""
    for step in list(model.steps):
        if step.is_a(keras.layers.BatchNormalization):
            factor, offset = _factor_and_offset(step)
        elif step.is_a(LayerScale):
            factor, offset = step.weight("gamma"), None
        else:
            continue
        if step.setting("axis") not in (None, -1, len(step.output.shape) - 1):
            continue
        before = affine_producer(model, step.inputs[0])
        if before is not None:
            if offset is not None:
                before.folded_norm = _folded_norm(step, before)
            scale_outputs(before, factor)
            if offset is not None:
                shift_outputs(before, offset)
            model.bypass(step)
            continue
        after = model.consumers(step.output)
        if after and all(
            is_affine(model, consumer) and takes_every_channel(consumer) for consumer in after
        ):
            if model.is_output(step.output):
                continue
            for consumer in after:
                if offset is not None:
                    shift_inputs(consumer, offset)
                scale_inputs(consumer, factor)
            model.bypass(step)


def _factor_and_offset(step):
    """Of a batch norm in inference: output = input * factor + offset."""
    mean, variance = step.weight("moving_mean"), step.weight("moving_variance")
    factor = 1 / np.sqrt(variance.astype("float64") + step.setting("epsilon"))
    if step.setting("scale"):
        factor = factor * step.weight("gamma")
    offset = -mean * factor
    if step.setting("center"):
        offset = offset + step.weight("beta")
    return factor.astype("float32"), offset.astype("float32")


def _folded_norm(step, before):
    mean, bias = step.weight("moving_mean"), before.weight("bias")
    gamma = step.weight("gamma")
    return FoldedNorm(
        step.name,
        step.setting("epsilon"),
        np.ones_like(mean) if gamma is None else gamma,
        mean if bias is None else mean - bias,
        step.weight("moving_variance"),
    )
