"""A network's convolutions and dense layers alone: what its time would be without all the rest."""

import os
import tempfile
from pathlib import Path

import keras

from keras_hybrid.analysis.cost import layer_costs
from keras_hybrid.surgery.layer_traits import AFFINE
from keras_hybrid.surgery.pipelines import FOR_FLOAT, edited


def export_bare_graph(
    model: keras.Model, path: str | os.PathLike, parts: tuple[str, ...] = ("",)
) -> int:
    """Writes a `.tflite` of a network's convolutions and dense layers, each on its own.

    They are those of the fused network, with their shapes; layers of equal input shape read the
    same input, and every output is an output of the file.

    Args:
        model: a functional model of fixed input size.
        path: of the file to write.
        parts: beginnings of the names of the layers that are wanted; all by default.

    Returns: the multiply-adds of these layers.

    Raises:
        ValueError: for a model that is not functional, or takes images of any size.
    """
    import tensorflow as tf

    if None in model.inputs[0].shape[1:]:
        raise ValueError(
            "A model of fixed input size is expected. "
            f"Received: model with input shape {tuple(model.inputs[0].shape)}"
        )
    inputs, outputs = {}, []
    fused = edited(model, FOR_FLOAT).to_model((1, *model.inputs[0].shape[1:]))
    for layer in fused.layers:
        if type(layer) in AFFINE and layer.name.startswith(parts):
            shape = tuple(layer.input.shape)
            inputs.setdefault(shape, keras.Input(batch_shape=shape))
            outputs.append(layer(inputs[shape]))
    bare = keras.Model(list(inputs.values()), outputs)
    with tempfile.TemporaryDirectory() as folder:
        bare.export(folder, verbose=False)
        content = tf.lite.TFLiteConverter.from_saved_model(folder).convert()
    Path(path).write_bytes(content)
    affine = [layer.name for layer in model.layers if isinstance(layer, AFFINE)]
    names = {name for name in affine if name.startswith(parts)}
    return sum(cost.multiply_adds for cost in layer_costs(model) if cost.name in names)
