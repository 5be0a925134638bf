"""What a mask head is to say of a region: its object's mask inside of it."""

from keras import ops

from keras_hybrid.tasks.instances.roi_align import bin_weights

_LARGEST_COPY = 2**26  # pixels at once, of masks one for each region; more are cut into pieces
_BITS = (7, 6, 5, 4, 3, 2, 1, 0)


def mask_targets(masks, places, regions, size: int, width: int | None = None):
    """Objects' masks cut out by regions.

    Args:
        masks: (batch, m, H, W), 0 and 1, at the image's size; or (batch, m, H, W / 8), integers of
            eight pixels each, the first the highest bit.
        places: (batch, n), which of the objects each region is of.
        regions: (batch, n, 4), corners in pixels.
        size: height and width of the result.
        width: W; None for that of masks that are not packed.

    Returns: (batch, n, size, size), float32, 0 and 1.

    Raises:
        ValueError: for masks of another width.

    Reference: Mask R-CNN (https://arxiv.org/abs/1703.06870), Section 3.1, "Training"; by RoIAlign
    of the bitmaps, as MMDetection has it.
    """
    count, found_width = masks.shape[1], masks.shape[3]
    width = found_width if width is None else width
    is_packed = found_width != width
    if is_packed and found_width != -(-width // 8):
        raise ValueError(
            f"Masks of {width} pixels a row are expected, or eight pixels a number. "
            f"Received: masks {tuple(masks.shape)}"
        )
    height = masks.shape[2]
    batch = ops.shape(masks)[0]
    flat = ops.reshape(masks, (-1, *masks.shape[2:]))  # (batch * m, H, W)
    first = ops.arange(batch, dtype="int32")[:, None] * count
    places = ops.cast(places, "int32") + first
    regions = regions - 0.5  # pixel i's center is at i
    total = regions.shape[1]
    at_once = max(1, _LARGEST_COPY // (height * width))
    found = [
        _cut(
            ops.take(flat, places[:, i : i + at_once], axis=0),
            regions[:, i : i + at_once],
            size,
            width,
            is_packed,
        )
        for i in range(0, total, at_once)
    ]
    found = found[0] if len(found) == 1 else ops.concatenate(found, axis=1)
    return ops.stop_gradient(ops.cast(found >= 0.5, "float32"))


def _cut(masks, regions, size, width, is_packed):
    """(batch, n, H, W) and (batch, n, 4) -> (batch, n, size, size)."""
    if is_packed:
        masks = _unpacked(masks, width)
    rows = bin_weights(regions[..., 1], regions[..., 3], size, masks.shape[2])
    columns = bin_weights(regions[..., 0], regions[..., 2], size, width)  # (batch, n, size, W)
    found = ops.matmul(rows, ops.cast(masks, "float32"))  # (batch, n, size, W)
    return ops.matmul(found, ops.swapaxes(columns, 2, 3))


def _unpacked(masks, width):
    """(batch, n, H, W / 8) of eight pixels a number -> (batch, n, H, W)."""
    shape = ops.shape(masks)
    bits = ops.right_shift(ops.cast(masks, "int32")[..., None], ops.convert_to_tensor(_BITS))
    bits = ops.bitwise_and(bits, 1)
    return ops.reshape(bits, (*shape[:3], shape[3] * 8))[..., :width]
