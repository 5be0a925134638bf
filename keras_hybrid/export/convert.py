"""Keras model -> `.tflite`: static shapes, batch 1, builtin operators only, checked by running."""

import contextlib
import os
import tempfile
from pathlib import Path

import keras
import numpy as np

from keras_hybrid.export.inspect import inspect_tflite
from keras_hybrid.weights.presets import preprocess_input, preprocessing_of

PRECISIONS = ("float32", "float16", "dynamic")
SIGNATURE = "serving_default"


def export_tflite(
    model: keras.Model,
    path: str | os.PathLike,
    precision: str = "float32",
    preprocessing: bool = False,
    *,
    input_size: int | tuple[int, int] | None = None,
) -> Path:
    """Converts a model to a `.tflite` file for batch size 1.

    The file is written under a temporary name, run once, and renamed only when it is good.

    Args:
        model: a model of one image input.
        path: of the file to write, ending in `.tflite`.
        precision: "float32"; "float16" for weights of half the size; "dynamic" for weights of a
            quarter of the size, in int8, computed with in int8 where the runtime can.
        preprocessing: whether the file takes RGB images of values 0 to 255 and does what
            `keras_hybrid.preprocess_input` does.
        input_size: height and width of the image in pixels, one number for both; None for the
            model's own input size.

    Returns: the path.

    Raises:
        ValueError: for an unknown precision, a path that does not end in `.tflite`, a model of
            any size without `input_size`, more than one input, or another backend than
            TensorFlow.
        RuntimeError: when the converted model needs other than builtin operators.
    """
    path = Path(path)
    if precision not in PRECISIONS:
        raise ValueError(
            f"`precision` must be one of {PRECISIONS}. Received: precision={precision!r}"
        )
    if path.suffix != ".tflite":
        raise ValueError(f"`path` must end in '.tflite'. Received: path={str(path)!r}")
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "Conversion needs the TensorFlow backend: save the model, set "
            "KERAS_BACKEND=tensorflow and load it there. "
            f"Received: backend {keras.backend.backend()!r}"
        )
    shape = _input_shape(model, input_size)
    function = _function(model, shape, preprocessing)
    content = _convert(function, precision)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _temporary_beside(path) as temporary:
        temporary.write_bytes(content)
        _check(temporary)
        os.replace(temporary, path)
    return path


def _input_shape(model, input_size):
    """(1, H, W, channels) of the only input."""
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        raise ValueError(
            "A model of one image input is expected. "
            f"Received: {model.name} with inputs {[tuple(x.shape) for x in model.inputs]}"
        )
    _, height, width, channels = model.inputs[0].shape
    if input_size is not None:
        asked = (input_size, input_size) if isinstance(input_size, int) else tuple(input_size)
        if any(own not in (None, size) for own, size in zip((height, width), asked, strict=True)):
            raise ValueError(
                f"The model's input size is fixed to {height} x {width}. "
                f"Received: input_size={input_size!r}"
            )
        height, width = asked
    if height is None or width is None:
        raise ValueError(
            "The model takes images of any size: say which, with `input_size`. "
            f"Received: model with input shape {tuple(model.inputs[0].shape)}, input_size=None"
        )
    return (1, height, width, channels)


def _function(model, shape, preprocessing):
    """The model as a TensorFlow function of one image, its variables held by the module."""
    import tensorflow as tf

    known = preprocessing_of(model) if preprocessing else None

    class Servable(tf.Module):
        def __init__(self):
            super().__init__()
            self.variables_of_model = [variable.value for variable in model.variables]

        @tf.function(input_signature=[tf.TensorSpec(shape, "float32", name="image")])
        def serve(self, image):
            x = image if known is None else preprocess_input(image, known)
            outputs = model(x, training=False)
            return dict(zip(model.output_names, keras.tree.flatten(outputs), strict=True))

    return Servable()


def _convert(servable, precision):
    """The content of the `.tflite`."""
    import tensorflow as tf

    # From a SavedModel: there the converter sees constants, so that it can fold and fuse them.
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(servable, folder, signatures={SIGNATURE: servable.serve})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if precision != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if precision == "float16":
            converter.target_spec.supported_types = [tf.float16]
        return converter.convert()


@contextlib.contextmanager
def _temporary_beside(path):
    """A new file name in the path's folder, removed at the end if it still exists."""
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tflite")
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _check(path):
    """Allocates and runs the file once; some files fail only then."""
    from ai_edge_litert.interpreter import Interpreter

    found = inspect_tflite(path)
    if found.flex_ops or found.custom_ops:
        raise RuntimeError(
            "The converted model needs operators that LiteRT lacks: "
            f"{', '.join(found.flex_ops + found.custom_ops)}"
        )
    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
    interpreter.invoke()
