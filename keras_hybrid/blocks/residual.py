"""The residual connection with its two regularisers."""

from keras import layers

from keras_hybrid.layers import DropPath, LayerScale


def residual(
    shortcut,
    branch,
    *,
    name: str,
    drop_path_rate: float = 0.0,
    layer_scale: float | None = None,
):
    """shortcut + layer_scale * drop_path(branch).

    Args:
        shortcut: what the block was given.
        branch: what the block computed, of the same shape.
        name: of the block; the layers are called `{name}_drop_path`, `{name}_layer_scale` and
            `{name}_add`.
        drop_path_rate: probability of dropping the branch of an example in training.
        layer_scale: initial value of a learned factor per channel; None for no factor.
    """
    if drop_path_rate > 0:
        branch = DropPath(drop_path_rate, name=f"{name}_drop_path")(branch)
    if layer_scale is not None:
        branch = LayerScale(layer_scale, name=f"{name}_layer_scale")(branch)
    return layers.Add(name=f"{name}_add")([shortcut, branch])
