"""A model as the SavedModel that is converted: one function of one image."""

import functools
import math

import keras

from keras_hybrid.keras_private import calls, functional, inputs_structure
from keras_hybrid.quantization.passes.dead_channels import edit_dead_channels
from keras_hybrid.quantization.passes.equal_steps import edit_equal_kernels
from keras_hybrid.quantization.passes.float_guards import edit_whole_gelus
from keras_hybrid.quantization.passes.pixels import edit_quantized_preprocessing
from keras_hybrid.quantization.quantize import is_quantized, target_of
from keras_hybrid.quantization.twins.float_guard import FloatConv2D
from keras_hybrid.surgery.editable_model import EditableModel
from keras_hybrid.surgery.passes.image_preprocessing import edit_preprocessing
from keras_hybrid.surgery.pipelines import FOR_FLOAT, edited
from keras_hybrid.surgery.plain_operators import edit_argmax
from keras_hybrid.weights.preprocessing import preprocess_input

SIGNATURE = "serving_default"
MANY_WEIGHTS = 50_000_000
FEW_WEIGHTS = 65_536  # of one variable: biases and ranges, not kernels


def save_for_conversion(
    model, shapes, names, input_type, preprocessing, fused, ending, folder, edits=FOR_FLOAT
):
    """Writes the function of one image that is to be converted as a SavedModel.

    Args:
        model: quantised or not.
        shapes: of the inputs, by their names in the signature.
        names: of the outputs, in Keras' order.
        input_type: of the inputs.
        preprocessing: to be done inside, or None.
        fused: whether a float model is to be fused first.
        ending: how many of the best classes to give in place of all scores; a function of the
            outputs to the dictionary of the file's; or None.
        folder: to write to.
        edits: of `keras_hybrid.surgery.pipelines`, which fuse a float model.
    """
    import tensorflow as tf

    only = next(iter(shapes.values())) if len(shapes) == 1 else None
    if is_quantized(model):
        model, preprocessing = _edited_quantized(model, preprocessing, only)
    elif fused:
        editable = edited(model, edits)
        edit_argmax(editable)
        edit_whole_gelus(editable)
        if preprocessing is not None and edit_preprocessing(editable, *_statistics(preprocessing)):
            preprocessing = None
        model = editable.to_model(only)
    servable = _servable(model, shapes, names, input_type, preprocessing, ending)
    tf.saved_model.save(servable, folder, signatures={SIGNATURE: servable.serve})


def _edited_quantized(model, preprocessing, shape):
    """The model for one image, and the preprocessing that is left to do.

    It is the model itself where nothing is to be changed: to build it again takes as long as to
    quantise it.
    """
    editable = EditableModel(model)
    for step in editable.steps:
        if step.layer_class is FloatConv2D:  # which a file has as any other
            step.edit().layer_class = keras.layers.Conv2D
    changed = edit_dead_channels(editable)
    changed = edit_equal_kernels(editable) or changed
    changed = edit_argmax(editable) or changed
    changed = edit_whole_gelus(editable) or changed
    if preprocessing is not None:
        statistics = _statistics(preprocessing)
        in_blocks = target_of(model) == "npu"
        if edit_quantized_preprocessing(editable, *statistics, in_blocks) or edit_preprocessing(
            editable, *statistics
        ):
            changed, preprocessing = True, None
    flat = len(editable.steps) == len(calls(model))
    if flat and not changed and shape is not None and shape[1:] == model.input_shape[1:]:
        return model, preprocessing
    return editable.to_model(shape), preprocessing


def _statistics(preprocessing):
    return preprocessing.mean, preprocessing.std, preprocessing.channel_order


def _servable(model, shapes, names, input_type, preprocessing, ending):
    """The model as a TensorFlow module with a function of one image."""
    import tensorflow as tf

    # Constants in the graph: half the time for the converter. But it has five more copies of them
    # at its peak than of variables beside the graph, of which it makes constants.
    sizes = [math.prod(variable.shape) for variable in model.variables]
    most = FEW_WEIGHTS if sum(sizes) > MANY_WEIGHTS else math.inf
    constants, beside = [], []
    for variable, size in zip(model.variables, sizes, strict=True):
        if size > most:
            beside.append(variable.value)
        else:
            constants.append((variable, tf.constant(variable.numpy())))
    weights = functools.partial(keras.StatelessScope, constants)

    structure = inputs_structure(model) if functional(model) is not None else model.input
    signature = [tf.TensorSpec(shape, input_type, name=name) for name, shape in shapes.items()]

    class Servable(tf.Module):
        def __init__(self):
            super().__init__()
            self.beside = beside

        @tf.function(input_signature=signature, autograph=False)
        def serve(self, *inputs):
            inputs = [tf.cast(x, own.dtype) for x, own in zip(inputs, model.inputs, strict=True)]
            if preprocessing is not None:
                inputs = [preprocess_input(x, preprocessing) for x in inputs]
            with weights():
                outputs = model(keras.tree.pack_sequence_as(structure, inputs), training=False)
            if callable(ending):
                return ending(outputs)
            if ending is not None:
                scores, classes = tf.math.top_k(outputs, ending)
                return {"scores": scores, "classes": classes}
            return dict(zip(names, keras.tree.flatten(outputs), strict=True))

    return Servable()
