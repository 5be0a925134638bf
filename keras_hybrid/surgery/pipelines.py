"""Which passes a model goes through on its way, and in which order: all pipelines on one page.

A pipeline is a tuple of edits, each a function of an `EditableModel`. An edit finds what an earlier
one brought side by side, so the order counts. A file for another engine is another tuple.
"""

from collections.abc import Callable, Iterable

import keras

from keras_hybrid.surgery.channel_parts import edit_channel_parts
from keras_hybrid.surgery.dilated_kernels import edit_dilated_kernels
from keras_hybrid.surgery.editable_model import EditableModel
from keras_hybrid.surgery.passes.attention_projections import (
    edit_attention_scales,
    edit_split_projections,
)
from keras_hybrid.surgery.passes.batch_norm import edit_batch_norms
from keras_hybrid.surgery.passes.branches import edit_averaged_heads, edit_pooled_branches
from keras_hybrid.surgery.passes.channel_order import edit_channel_reversals
from keras_hybrid.surgery.passes.channel_shuffle import edit_channel_shuffles
from keras_hybrid.surgery.passes.constant_arithmetic import (
    edit_constant_arithmetic,
    edit_integer_images,
)
from keras_hybrid.surgery.passes.constant_tokens import edit_constant_queries, edit_constant_tokens
from keras_hybrid.surgery.passes.depthwise import (
    edit_depth_multipliers,
    edit_large_kernels,
    edit_multipliers_to_dense,
    edit_strided_depth_multipliers,
)
from keras_hybrid.surgery.passes.flat_residuals import edit_flat_residuals
from keras_hybrid.surgery.passes.hard_sigmoid import edit_dynamic_relus, edit_gates
from keras_hybrid.surgery.passes.image_scaling import edit_scalings
from keras_hybrid.surgery.passes.layer_norm import edit_layer_norms
from keras_hybrid.surgery.passes.position_encoding import edit_position_encodings
from keras_hybrid.surgery.passes.training_only import edit_regularisers
from keras_hybrid.surgery.plain_operators import edit_operators_of_int16
from keras_hybrid.surgery.positions_first import edit_positions_first

Edit = Callable[[EditableModel], object]

_READING: tuple[Edit, ...] = (
    edit_regularisers,
    edit_constant_arithmetic,
    edit_channel_reversals,
)
_FOLDING: tuple[Edit, ...] = (
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

# `keras_hybrid.fuse`: the leanest model that computes the same.
FUSE: tuple[Edit, ...] = (*_READING, *_FOLDING, edit_channel_shuffles)

# What suits CPUs. Beside `FUSE`, depthwise kernels over 25 taps and depthwise convolutions with
# several outputs per channel become sums and concatenations of small ones, and residuals around
# attention are added on flat sequences.
_FOR_CPU: tuple[Edit, ...] = (
    *_READING,
    edit_integer_images,
    *_FOLDING,
    edit_large_kernels,
    edit_depth_multipliers,
    edit_flat_residuals,
    edit_channel_shuffles,
)

# A file in float, for CPUs, which GPUs take as well. LiteRT's GPU engine refuses a matrix product
# with a constant on the left: of Mobile-Former-26M that one operator left nine to the CPU, and none
# as a convolution, which takes a CPU as long (26M 1.00, 294M 0.97 of the product's file). A dilated
# kernel in parts is of floats alone: integers would be rounded part by part.
FOR_FLOAT: tuple[Edit, ...] = (
    *_FOR_CPU,
    edit_constant_queries,
    edit_pooled_branches,
    edit_dilated_kernels,
)

# A file in float, for GPUs. Kernels are whole, of which there are fewer; what that gains on a phone
# was not measured.
FOR_GPU: tuple[Edit, ...] = (
    *_READING,
    edit_integer_images,
    *_FOLDING,
    edit_constant_queries,
    edit_flat_residuals,
    edit_channel_shuffles,
)

# A file of int8 weights and int16 activations, for which the converter has fewer operators. What
# images show of its kernels comes after (`keras_hybrid.export`).
FOR_INT16: tuple[Edit, ...] = (*_FOR_CPU, edit_operators_of_int16)

# A file in integers, by `quantize`'s profile; what only quantisation needs comes after.
FOR_INT8: dict[str, tuple[Edit, ...]] = {
    "int8": (*_FOR_CPU, edit_strided_depth_multipliers, edit_channel_shuffles),
    "int8_cpu": _FOR_CPU,
}

# A file in integers for NPUs. What each engine gets, by the cycles of Ethos-U85-256 (Vela 5.2):
#
#   what                            for CPUs               for NPUs                thousand cycles
#   depthwise 7x7, 56x56x32         three kernels of rows  whole                   322 -> 165
#   8 to 24 channels, stride 2      three kernels          a dense kernel          211 -> 38
#   the image's mean, 224x224       a sum                  of 16 pixels at once    452 -> 103
#   greatest of rows of 196         of the row             of blocks, then theirs  174 -> 6
#   attention of 6 queries          queries as rows        pixels as rows          139 -> 40
#   softmax over 3 tokens, 56x56    an operator            spelled out             480 -> 65
#   layer norm of 3 rows            MEAN                   a 1x1 convolution       7 -> 2
#   layer norm of four axes         MEAN                   a 1x1 convolution       refused before
#   MobileViT's unfold and fold     blocks as channels     cuts, concatenations    refused before
#   products of 16 heads of 256     transposed             cut out, head by head   2,728 -> 605
#   two blocks of 28x28x384         whole                  channels in two halves  1,487 -> 932
#
# GELU is one look-up in the convolution before it on both; SiLU stays LOGISTIC and a product, as
# no operator is it as a whole, and its second look at the map costs both the same.
FOR_NPU: tuple[Edit, ...] = (
    *_READING,
    edit_integer_images,
    *_FOLDING,
    edit_multipliers_to_dense,
    edit_strided_depth_multipliers,
    edit_depth_multipliers,
    edit_channel_parts,
    edit_flat_residuals,
    edit_channel_shuffles,
    edit_positions_first,
)

# What an engine gets, by a file's precision: the first is the one that it is for if nothing is
# said. `quantize` adds, for "npu", what `quantization.rules` names as twins of NPUs.
FILES: dict[str, dict[str, tuple[Edit, ...]]] = {
    "float32": {"cpu": FOR_FLOAT, "gpu": FOR_GPU},
    "float16": {"cpu": FOR_FLOAT, "gpu": FOR_GPU},
    "dynamic": {"cpu": _FOR_CPU},
    "int8": {"npu": FOR_NPU, "cpu": FOR_INT8["int8"]},
    "int8_cpu": {"cpu": FOR_INT8["int8_cpu"]},
    "int16x8": {"cpu": FOR_INT16},
}
TARGETS = ("cpu", "gpu", "npu")


def check_target(precision: str, target: str | None) -> str:
    """The engine that a file is for.

    Args:
        precision: of the file.
        target: "cpu", "gpu" or "npu"; None for the precision's own.

    Raises:
        ValueError: for an unknown engine, or one that runs no files of this precision.
    """
    known = FILES[precision]
    if target is None:
        return next(iter(known))
    if target not in TARGETS:
        raise ValueError(f"`target` must be one of {TARGETS}. Received: target={target!r}")
    if target not in known:
        fitting = [name for name, targets in FILES.items() if target in targets]
        raise ValueError(
            f"Files for {target!r} have a precision of {fitting}; one of precision {precision!r} "
            f"is for {list(known)}. Received: precision={precision!r}, target={target!r}"
        )
    return target


def edited(model: keras.Model | EditableModel, edits: Iterable[Edit]) -> EditableModel:
    """What a pipeline makes of a model, still to be edited; `to_model` ends it.

    Args:
        model: a functional model, which is left as it is; or what has been edited before, which
            is edited further.
        edits: of this page.

    Raises:
        ValueError: for a model that is not functional.
    """
    editable = model if isinstance(model, EditableModel) else EditableModel(model)
    for edit in edits:
        edit(editable)
        editable.remove_unused()
    return editable
