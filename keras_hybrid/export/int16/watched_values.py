"""What a model that is being edited computes of images, inside."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from keras_hybrid.quantization.ranges.lean_run import images_at_a_time, run_leanly
from keras_hybrid.surgery.editable_model import EditableModel, Value


def watch_values(
    model: EditableModel, watchers: Iterable[tuple[Value, Callable]], images: Sequence[np.ndarray]
):
    """Shows what images make of values inside, some images at a time.

    Args:
        model: of one input.
        watchers: values, each with a function to be called with its tensors (batch, ...).
        images: (1, ...) each, as the model takes them.
    """
    of_value: dict[Value, list[Callable]] = {}
    for value, function in watchers:
        of_value.setdefault(value, []).append(function)
    if not of_value:
        return
    built = model.to_model_of(list(of_value))

    def told(functions):
        def tell(tensor):
            for function in functions:
                function(tensor)

        return tell

    watch = {
        id(tensor): told(functions)
        for tensor, functions in zip(built.outputs, of_value.values(), strict=True)
    }
    count = images_at_a_time(built) or 1
    for start in range(0, len(images), count):
        run_leanly(built, [np.concatenate(images[start : start + count])], watch)
