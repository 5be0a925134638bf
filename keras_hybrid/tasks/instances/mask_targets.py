"""What a mask head is to say of a region: its object's mask inside of it."""

from keras import ops

from keras_hybrid.tasks.instances.roi_align import bin_weights


def mask_targets(masks, places, regions, size: int):
    """Objects' masks cut out by regions.

    Args:
        masks: (batch, m, H, W), 0 and 1, at the image's size.
        places: (batch, n), which of the objects each region is of.
        regions: (batch, n, 4), corners in pixels.
        size: height and width of the result.

    Returns: (batch, n, size, size), float32, 0 and 1.

    Reference: Mask R-CNN (https://arxiv.org/abs/1703.06870), Section 3.1, "Training"; by RoIAlign
    of the bitmaps, as MMDetection has it.
    """
    height, width = ops.shape(masks)[2:4]
    regions = regions - 0.5  # pixel i's center is at i
    rows = bin_weights(regions[..., 1], regions[..., 3], size, height)  # (batch, n, size, H)
    columns = bin_weights(regions[..., 0], regions[..., 2], size, width)
    own = ops.take_along_axis(masks, ops.cast(places, "int32")[..., None, None], axis=1)
    found = ops.matmul(rows, ops.cast(own, "float32"))  # (batch, n, size, W)
    found = ops.matmul(found, ops.swapaxes(columns, 2, 3))
    return ops.stop_gradient(ops.cast(found >= 0.5, "float32"))
