"""All passes: a trained model as the leanest model that computes the same."""

import keras

from keras_hybrid.surgery.editable_model import EditableModel
from keras_hybrid.surgery.passes.attention_projections import (
    edit_attention_scales,
    edit_split_projections,
)
from keras_hybrid.surgery.passes.averaged_heads import edit_averaged_heads
from keras_hybrid.surgery.passes.batch_norm import edit_batch_norms
from keras_hybrid.surgery.passes.channel_shuffle import edit_channel_shuffles
from keras_hybrid.surgery.passes.constant_tokens import edit_constant_tokens
from keras_hybrid.surgery.passes.depthwise import (
    edit_depth_multipliers,
    edit_large_kernels,
)
from keras_hybrid.surgery.passes.flat_residuals import edit_flat_residuals
from keras_hybrid.surgery.passes.hard_sigmoid import edit_dynamic_relus, edit_gates
from keras_hybrid.surgery.passes.image_scaling import edit_scalings
from keras_hybrid.surgery.passes.layer_norm import edit_layer_norms
from keras_hybrid.surgery.passes.position_encoding import edit_position_encodings
from keras_hybrid.surgery.passes.training_only import edit_regularisers

# In this order: a later edit finds what an earlier one brought side by side.
FUSIONS = (
    edit_regularisers,
    edit_scalings,
    edit_batch_norms,
    edit_position_encodings,
    edit_averaged_heads,
    edit_attention_scales,
    edit_layer_norms,
    edit_gates,
    edit_dynamic_relus,
    edit_constant_tokens,
    edit_split_projections,
)
FORMULATIONS = (edit_large_kernels, edit_depth_multipliers, edit_flat_residuals)


def fuse(model: keras.Model) -> keras.Model:
    """Folds what inference can compute once and for all into the weights.

    Image scaling, batch norm and layer scale go into the convolutions beside them, RepCPE's
    residual into its kernel, two distillation heads into one, the attention scale into a
    projection, layer norm's scale and offset into what follows and its mean into what comes
    before, hard sigmoids into clipped dense layers, image-independent work on tokens into
    constants, channel shuffles into the order of weights; drop path and dropout go.

    Args:
        model: a functional model, of this package or of standard layers; it is left as it is.

    Returns: a new model with the same inputs and outputs, for inference: training it would not
    be training the same network.

    Raises:
        ValueError: for a model that is not functional.
    """
    return _edited(model, (*FUSIONS, edit_channel_shuffles)).to_model()


def formulate(model: keras.Model) -> keras.Model:
    """Fuses a model, and writes what phones' kernels are slow at in terms of what they are fast at.

    Beside `fuse`, depthwise kernels over 25 taps and depthwise convolutions with several outputs
    per channel become sums and concatenations of small ones, and residuals around attention are
    added on flat sequences. What is computed stays the same; the weights become more by zeros.
    `export_tflite` does this.

    Args:
        model: a functional model; it is left as it is.

    Returns: a new model with the same inputs and outputs, for inference.

    Raises:
        ValueError: for a model that is not functional.
    """
    return formulated(model).to_model()


def formulated(model: keras.Model) -> EditableModel:
    """What `formulate` makes, still to be edited."""
    return _edited(model, (*FUSIONS, *FORMULATIONS, edit_channel_shuffles))


def _edited(model, edits):
    editable = EditableModel(model)
    for edit in edits:
        edit(editable)
        editable.remove_unused()
    return editable
