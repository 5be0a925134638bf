"""What a model that is being edited computes of images, inside."""

import math
from collections.abc import Callable, Hashable, Iterator, Sequence

import keras
import numpy as np

from keras_hybrid.surgery.editable_model import EditableModel, Value

BATCH = 4


def values_of_images(
    model: EditableModel,
    measures: dict[Hashable, tuple[Value, Callable]],
    images: Sequence[np.ndarray],
    most_numbers: int = 2**62,
) -> Iterator[tuple[Hashable, list[np.ndarray]]]:
    """Measures of values inside, batch by batch.

    Args:
        model: of one input.
        measures: by a key of their own, a value and a function of its tensor (batch, ...) to what
            is to be known of it.
        images: (1, ...) each, as the model takes them.
        most_numbers: of measures that are computed together, about; images pass once more for more.

    Returns: an iterator of keys and their measures, one a batch.
    """
    values = list(dict.fromkeys(value for value, _ in measures.values()))
    built = model.to_model_of(values)
    tensors = dict(zip(values, built.outputs, strict=True))
    group, size = {}, 0
    for key, (value, measure) in measures.items():
        group[key] = measure(tensors[value])
        size += math.prod(group[key].shape)
        if size > most_numbers:
            yield from _computed(built, group, images)
            group, size = {}, 0
    if group:
        yield from _computed(built, group, images)


def _computed(built, group, images):
    model = keras.Model(built.inputs, list(group.values()))
    batches = []
    for start in range(0, len(images), BATCH):
        batch = np.concatenate(images[start : start + BATCH])
        batches.append([np.asarray(x) for x in keras.tree.flatten(model([batch], training=False))])
    for number, key in enumerate(group):
        yield key, [batch[number] for batch in batches]
