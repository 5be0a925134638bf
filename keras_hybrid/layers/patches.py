"""MobileViT's unfold and fold: feature map to sequences of pixels and back."""

import keras
from keras import ops

from keras_hybrid.layers.resizing import resize_bilinear


def _check_patch_size(patch_size):
    if patch_size < 1:
        raise ValueError(
            f"`patch_size` must be a positive integer. Received: patch_size={patch_size}"
        )


def _space_to_depth(x, p, plain_operators):
    """(batch, H, W, d) -> (batch, H / p, W / p, p * p * d), row by row of each patch."""
    if not plain_operators and hasattr(ops, "space_to_depth"):
        return ops.space_to_depth(x, p)
    # Keras 3.12, the last for Python 3.10, lacks it.
    dim = x.shape[-1]
    height, width = ops.shape(x)[1:3]
    x = ops.reshape(x, (-1, height // p, p, width // p, p, dim))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))  # (batch, rows, columns, p, p, d)
    return ops.reshape(x, (-1, height // p, width // p, p * p * dim))


def _depth_to_space(x, p, plain_operators):
    """(batch, rows, columns, p * p * d) -> (batch, rows * p, columns * p, d)."""
    if not plain_operators and hasattr(ops, "depth_to_space"):
        return ops.depth_to_space(x, p)
    dim = x.shape[-1] // p**2
    rows, columns = ops.shape(x)[1:3]
    x = ops.reshape(x, (-1, rows, columns, p, p, dim))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))  # (batch, rows, p, columns, p, d)
    return ops.reshape(x, (-1, rows * p, columns * p, dim))


def _cut_positions(x, p):
    """(batch, H, W, d) -> (batch, p * p, N, d)."""
    height, width, dim = *ops.shape(x)[1:3], x.shape[-1]
    x = ops.reshape(x, (-1, height // p, p, width * dim))
    positions = []
    for row in range(p):
        pixels = ops.reshape(x[:, :, row], (-1, height * width // p**2, p, dim))
        positions += [pixels[:, None, :, column] for column in range(p)]  # (batch, 1, N, d)
    return ops.concatenate(positions, axis=1)


def _put_positions_together(x, p, rows, columns):
    """(batch, p * p, N, d) -> (batch, rows * p, columns * p, d)."""
    dim = x.shape[-1]
    lines = []
    for row in range(p):
        pixels = ops.concatenate([x[:, row * p + column] for column in range(p)], axis=-1)
        lines.append(ops.reshape(pixels, (-1, rows, 1, columns * p * dim)))
    return ops.reshape(ops.concatenate(lines, axis=2), (-1, rows * p, columns * p, dim))


@keras.saving.register_keras_serializable("keras_hybrid")
class UnfoldPatches(keras.layers.Layer):
    """Unfolds a map into patches, so that each pixel position of a patch forms a sequence.

    A height or width that the patch does not divide is first resized to the next multiple.

    Args:
        patch_size: height and width p of a patch, in pixels.
        plain_operators: whether it takes only operators that TFLite has in int16, too: reshapes and
            a transpose in place of one that makes channels of blocks.

        positions_first: whether the output is (batch, p * p, N, d), by cuts and a concatenation.

    Input: (batch, H, W, d). Output: (batch, N, p * p, d), N = H W / p^2 patches; attention runs
    along N, for each of the p * p positions on its own.

    Reference: MobileViT, Section 3.1 (https://arxiv.org/abs/2110.02178).
    """

    def __init__(
        self,
        patch_size: int = 2,
        plain_operators: bool = False,
        positions_first: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        _check_patch_size(patch_size)
        self.patch_size = patch_size
        self.plain_operators = plain_operators
        self.positions_first = positions_first

    def call(self, inputs):
        p, dim = self.patch_size, inputs.shape[-1]
        height, width = ops.shape(inputs)[1:3]
        # Whole patches, rounded up.
        rows, columns = (height + p - 1) // p, (width + p - 1) // p
        x = inputs
        if not _divides(p, inputs.shape):
            x = resize_bilinear(x, rows * p, columns * p)
        if self.positions_first:
            return _cut_positions(x, p)
        if p > 1:
            x = _space_to_depth(x, p, self.plain_operators)  # (batch, rows, columns, p * p * d)
        return ops.reshape(x, (-1, rows * columns, p * p, dim))

    def compute_output_shape(self, input_shape):
        batch, height, width, dim = input_shape
        p = self.patch_size
        patches = None
        if height is not None and width is not None:
            patches = -(-height // p) * -(-width // p)
        if self.positions_first:
            return (batch, p * p, patches, dim)
        return (batch, patches, p * p, dim)

    def get_config(self):
        return {
            **super().get_config(),
            "patch_size": self.patch_size,
            "plain_operators": self.plain_operators,
            "positions_first": self.positions_first,
        }


@keras.saving.register_keras_serializable("keras_hybrid")
class FoldPatches(keras.layers.Layer):
    """Folds the sequences of `UnfoldPatches` back into a map of the reference's size.

    Args:
        patch_size: as given to `UnfoldPatches`.
        plain_operators: likewise.
        positions_first: likewise.

    Inputs: sequences (batch, N, p * p, d) and a reference map (batch, H, W, ...).
    Output: (batch, H, W, d).
    """

    def __init__(
        self,
        patch_size: int = 2,
        plain_operators: bool = False,
        positions_first: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        _check_patch_size(patch_size)
        self.patch_size = patch_size
        self.plain_operators = plain_operators
        self.positions_first = positions_first

    def call(self, inputs):
        sequences, reference = inputs
        p, dim = self.patch_size, sequences.shape[-1]
        height, width = ops.shape(reference)[1:3]
        rows, columns = (height + p - 1) // p, (width + p - 1) // p
        if self.positions_first:
            x = _put_positions_together(sequences, p, rows, columns)
        else:
            x = ops.reshape(sequences, (-1, rows, columns, p * p * dim))
        if p > 1 and not self.positions_first:
            x = _depth_to_space(x, p, self.plain_operators)  # (batch, rows * p, columns * p, d)
        if not _divides(p, reference.shape):
            x = resize_bilinear(x, height, width)
        return x

    def compute_output_shape(self, input_shape):
        sequences, reference = input_shape
        return (sequences[0], reference[1], reference[2], sequences[3])

    def get_config(self):
        return {
            **super().get_config(),
            "patch_size": self.patch_size,
            "plain_operators": self.plain_operators,
            "positions_first": self.positions_first,
        }


def _divides(patch_size, map_shape):
    """Whether height and width are known to be whole patches, so that nothing is resized."""
    height, width = map_shape[1:3]
    return None not in (height, width) and height % patch_size == width % patch_size == 0
