"""What an app needs to know of a Mask R-CNN in one file."""

from collections.abc import Sequence

import keras

from keras_hybrid.tasks.instances.parts import is_mask_rcnn, parts_of


def instances_record(
    model: keras.Model,
    image_shape: tuple[int, ...],
    padding: Sequence[float] = (0.0, 0.0, 0.0),
) -> dict | None:
    """How to read the file's outputs; None for other models.

    Args:
        model: that the file is made of.
        image_shape: of the input, with the batch.
        padding: the color beside an image that keeps its aspect, as the file takes it.
    """
    if not is_mask_rcnn(model):
        return None
    return {
        "system": "mask_rcnn",
        "classes": parts_of(model).classes,
        "input_size": list(image_shape[1:3]),
        "padding": list(padding),
        "image": "padded right and below",
        "boxes": "x1, y1, x2, y2 in pixels of the input, with masks stretched over them",
    }
