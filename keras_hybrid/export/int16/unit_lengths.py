"""Normalization to unit length in int16, where some vectors are next to nothing."""

from collections.abc import Callable, Sequence

import numpy as np
from keras import ops

from keras_hybrid.export.int16.watched_values import watch_values
from keras_hybrid.quantization.standard_layers.for_int16 import PlainUnitNormalization
from keras_hybrid.surgery.editable_model import EditableModel

# Of the longest vector's mean square: those of less than a hundredth of its length get shorter.
LEAST_SHARE = 1e-4


def edit_unit_lengths_for(images: Sequence[np.ndarray]) -> Callable[[EditableModel], None]:
    """An edit that gives vectors a least length, of what images show.

    One over the length of a vector of zeros is a million: on its grid, nothing is left of others'.

    Args:
        images: (1, ...) each, as the model takes them.
    """

    def edit(model: EditableModel):
        greatest = dict.fromkeys((x for x in model.steps if x.is_a(PlainUnitNormalization)), 0.0)

        def watcher(step):
            axes = step.operation.axes

            def see(tensor):
                found = float(ops.max(ops.mean(tensor * tensor, axis=axes)))
                greatest[step] = max(greatest[step], found)

            return see

        watch_values(model, [(step.inputs[0], watcher(step)) for step in greatest], images)
        for step, found in greatest.items():
            step.edit().config["least"] = max(step.setting("least"), LEAST_SHARE * found)

    return edit
