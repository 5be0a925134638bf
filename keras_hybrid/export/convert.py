"""Keras model -> `.tflite`: static shapes, batch 1, builtin operators only, checked by running."""

import contextlib
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_hybrid.export.converter_errors import explained
from keras_hybrid.export.flatbuffer.attention_parts import part_attention
from keras_hybrid.export.flatbuffer.file import TFLiteFile
from keras_hybrid.export.flatbuffer.float_guards import remove_float_guards
from keras_hybrid.export.flatbuffer.merge_dense import merge_dense
from keras_hybrid.export.flatbuffer.quantization_steps import check_steps
from keras_hybrid.export.flatbuffer.runtime_versions import state_runtime_version
from keras_hybrid.export.flatbuffer.shorten_names import first_names, shorten_names
from keras_hybrid.export.image_input import channel_order, left_to_do, own_scaling
from keras_hybrid.export.inspect import inspect_tflite
from keras_hybrid.export.int16.file_checks import check_sums, warn_of_differences
from keras_hybrid.export.int16.image_rounding import edit_rounding_for
from keras_hybrid.export.int16.silent_kernels import edit_int16_kernels
from keras_hybrid.export.int16.unit_lengths import edit_unit_lengths_for
from keras_hybrid.export.int16.zero_steps import give_steps_to_zeros
from keras_hybrid.export.mask_output import (
    MASK_OUTPUTS,
    is_segmentation,
    later_stretches,
    mask_output,
)
from keras_hybrid.export.metadata import About, add_metadata, label_names
from keras_hybrid.export.saved_model import save_for_conversion
from keras_hybrid.export.signature import input_shapes, output_names
from keras_hybrid.litert import open_interpreter
from keras_hybrid.quantization.quantize import is_quantized, quantize, target_of
from keras_hybrid.quantization.ranges.calibration import calibrate, check_calibrated
from keras_hybrid.quantization.ranges.representative_data import representative_batches
from keras_hybrid.quantization.report import check_all_int8, check_profile
from keras_hybrid.quantization.standard_layers.for_int16 import edit_layers_for_int16
from keras_hybrid.surgery.garbage import garbage_left, garbage_taken
from keras_hybrid.surgery.pipelines import FILES, check_target
from keras_hybrid.tasks.detection.file_output import (
    DECODED,
    OPERATOR,
    TFLITE,
    detection_output,
    detector_record,
    is_detector,
    object_classes,
)
from keras_hybrid.tasks.instances.file_record import instances_record
from keras_hybrid.tasks.instances.parts import is_mask_rcnn, parts_of
from keras_hybrid.version import __version__
from keras_hybrid.weights.family import Preprocessing
from keras_hybrid.weights.preprocessing import preprocessing_of

PRECISIONS = ("float32", "float16", "dynamic", "int8", "int8_cpu", "int16x8")
TYPES = ("float32", "uint8", "int8")
INTEGER = ("int8", "int8_cpu", "int16x8")


def export_tflite(
    model: keras.Model,
    path: str | bytes | os.PathLike,
    precision: str = "float32",
    preprocessing: bool | Preprocessing = False,
    *,
    target: str | None = None,
    input: str = "float32",
    output: str = "float32",
    representative_data: Any = None,
    input_size: int | tuple[int, int] | None = None,
    labels: Any = None,
    top_k: int | None = None,
    mask_size: str = "head",
    postprocess: str = "raw",
    max_detections: int = 100,
    score_threshold: float | None = None,
    about: About | None = None,
    fused: bool = True,
) -> Path:
    """Converts a model to a `.tflite` file for batch size 1.

    The file is written under a temporary name, run once, and renamed only when it is good. It has
    one signature, "serving_default", with the input "image" (several are named as the model's) and
    outputs named as the model's in every precision, and TFLite metadata that
    `keras_hybrid.export.metadata.read_metadata` reads back.

    Args:
        model: a model of one image input, or of several inputs: a classifier, a backbone without
            head, or one of several outputs such as
            `keras.Model(model.input, keras_hybrid.feature_pyramid(model))`.
        path: of the file to write, ending in `.tflite`.
        precision: "float32"; "float16" for weights of half the size; "dynamic" for weights of a
            quarter of the size, in int8, computed with in int8 where the runtime can; "int8" and
            "int8_cpu" for the profiles of `keras_hybrid.quantize`; "int16x8" for weights in int8
            and activations in int16. A model of `quantize` has its profile's precision.
        preprocessing: whether the file takes RGB images of values 0 to 255 and does what
            `keras_hybrid.preprocess_input` does; a `Preprocessing` for another than the model's.
            Without, an app has to do it, and the file's metadata say how: MediaPipe Tasks can only
            where all channels are alike, which a warning says.
        target: the engine that the file is for, which costs nothing but speed elsewhere: "cpu"
            (XNNPACK), "gpu" (files in float32 and float16) or "npu" (files in int8); None for
            "npu" of precision "int8", and "cpu" of all others.
        input: type of the input: "float32", or "uint8" for camera frames as they come; of a file
            in int8 also "int8", and then "uint8" and "int8" are what the input's scale and zero
            point in the file say.
        output: type of the outputs: "float32", or of a file in int8 also "int8" and "uint8"; or
            what the file of a segmentation network gives: "logits" in float32, "labels" for the
            best class of each pixel in int32 (ARG_MAX, which delegates leave to the CPU), or
            "confidence" for the softmax over the classes in float32.
        representative_data: images, or batches of them, to calibrate a float model with for
            "int8", "int8_cpu" and "int16x8", as for `keras_hybrid.calibrate`: what the model takes,
            whether the file has preprocessing inside or not.
        input_size: height and width of the image in pixels, one number for both; None for the
            model's own input size.
        labels: names of the classes, in order, for the file's metadata: a sequence or array of
            names or numbers, or the path of a text file with a name a line.
        top_k: a classifier's file gives "scores" and "classes" of the best k, not all scores.
        mask_size: of a segmentation network's "logits", "labels" or "confidence": "head" for the
            head's stride, or "image" for the size of the image that the file takes, the logits
            stretched as in the network's published evaluation.
        postprocess: of a detector: "raw" for its outputs as they are, with the anchors' numbers in
            the file's record; "decoded" for boxes x1, y1, x2, y2 as shares of the input's sides and
            scores, of every anchor, in plain operators; "tflite" for the detections themselves, by
            TensorFlow Lite's own operator, which runs on the CPU: "boxes" y1, x1, y2, x2,
            "classes", "scores" and "count".
        max_detections: of postprocess="tflite".
        score_threshold: likewise; None for the published one.
        about: name, author and so on for the metadata.
        fused: whether the model is fused first (`keras_hybrid.fuse`), which a model for inference
            always wants; False to see what fusing brings, or for a model that is not functional.

    Returns: the path.

    Raises:
        ValueError: for an unknown precision or input type, a target that does not fit, a path that
            does not end in `.tflite`, a model of any size without `input_size`, labels, `top_k` or
            a mask's output that do not fit the model,
            preprocessing for a model that scales pixels itself or has several inputs, or another
            backend than TensorFlow.
        RuntimeError: when the converted model needs other than builtin operators, or others than
            TFLite has in the precision: they are named, with the layers that they are in.
    """
    path = Path(os.fsdecode(path))
    for name, value, choices in (
        ("precision", precision, PRECISIONS),
        ("input", input, TYPES),
        ("output", output, (*TYPES, *MASK_OUTPUTS)),
    ):
        if value not in choices:
            raise ValueError(f"`{name}` must be one of {choices}. Received: {name}={value!r}")
    target = _target(model, precision, target)
    if path.suffix != ".tflite":
        raise ValueError(f"`path` must end in '.tflite'. Received: path={str(path)!r}")
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "Conversion needs the TensorFlow backend: save the model, set "
            "KERAS_BACKEND=tensorflow and load it there. "
            f"Received: backend {keras.backend.backend()!r}"
        )
    shapes = input_shapes(model, input_size)
    shape = next(iter(shapes.values()))
    mask = mask_output(model, output, mask_size, shape, in_float=precision == "int8_cpu")
    detector = detection_output(model, postprocess, shape, max_detections, score_threshold)
    output_type = "float32" if mask else output
    labels = label_names(labels)
    _check_classes(model, labels, top_k)
    known = _preprocessing(model, preprocessing)
    normalization, names = left_to_do(model, known), output_names(model)
    order = "RGB" if known else channel_order(model)
    _check_normalization(normalization, order)
    padding = [255 * float(x) for x in known.mean] if known else (0.0, 0.0, 0.0)
    about_detector = detector_record(model, postprocess, shape, padding)
    about_instances = instances_record(model, shape, padding)
    labelled = None
    if about_detector:
        labelled = "scores" if postprocess == DECODED else "classes"
    elif about_instances:
        labelled = "labels"
    segments = mask is not None or is_segmentation(model)
    stretches = later_stretches(model, mask) if segments else None
    types = (input, output_type)
    model, images = _prepare(model, precision, target, representative_data, types, top_k)
    samples, layer_names = _samples(images, known), {layer.name for layer in model.layers}
    with garbage_left(), tempfile.TemporaryDirectory() as folder:
        # What is made for the SavedModel is gone before the converter makes copies of its own.
        input_type = "float32" if precision in INTEGER else input
        ending = mask or detector or top_k
        edits = FILES[precision][target]
        if samples is not None:
            by_images = (
                edit_unit_lengths_for(images),
                edit_int16_kernels(images),
                edit_rounding_for(images),
            )
            edits = (edit_layers_for_int16, *edits) if fused else ()
            edits, fused = (*edits, *by_images), True
        save_for_conversion(model, shapes, names, input_type, known, fused, ending, folder, edits)
        with garbage_taken():
            file = _convert(
                *(folder, precision, target, input, output_type, samples, postprocess), layer_names
            )
    add_metadata(
        file,
        about or About(name=model.name, version=__version__),
        normalization,
        labels,
        {
            "precision": precision,
            "target": target,
            "preprocessing": known is not None,
            "input": input,
            "top_k": top_k,
            "output": output,
            "channel_order": order,
            "stretches": stretches,
            "detector": about_detector,
            "instances": about_instances,
            "package": __version__,
        },
        segmenter_softmax=output != "confidence" if segments and output != "labels" else None,
        labelled=labelled,
        has_detections=postprocess == TFLITE,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with _temporary_beside(path) as temporary:
        file.write(temporary)
        _check(temporary)
        if samples is not None:
            check_sums(temporary, samples, layer_names)
            if ending is None:
                warn_of_differences(temporary, samples, model, images)
        if precision == "int8" and top_k is None and detector is None:
            check_all_int8(model, inspect_tflite(temporary).integer_offenders)
        os.replace(temporary, path)
    return path


def _target(model, precision, target):
    """The engine that the file is for: of a quantised model, the one that it was quantised for."""
    if not is_quantized(model) or precision not in ("int8", "int8_cpu"):
        return check_target(precision, target)
    own = target_of(model)
    if target is not None and check_target(precision, target) != own:
        raise ValueError(
            f"The model was quantised for {own!r}: quantise with target={target!r} for this file. "
            f"Received: target={target!r}, model {model.name!r}"
        )
    return own


def _samples(images, preprocessing):
    """What the converter asks for: what a file takes of each image; None without images."""
    if images is None:
        return None
    if preprocessing is not None:  # the file takes pixels
        images = [_pixels(image, preprocessing) for image in images]
    return lambda: ([image] for image in images)


def _prepare(model, precision, target, data, types, top_k):
    """The model to convert, quantised where that is asked for, and images for the converter."""
    quantized = is_quantized(model)
    if precision == "int16x8" and (types != ("float32", "float32") or top_k is not None):
        raise ValueError(
            "TFLite's int16x8 has float32 at both ends and no operator for the best k: "
            "precision='int16x8' goes with input='float32', output='float32', top_k=None. "
            f"Received: input={types[0]!r}, output={types[1]!r}, top_k={top_k}"
        )
    if precision == "int16x8" and len(model.inputs) != 1:
        raise ValueError(
            "precision='int16x8' is for a model of one input. "
            f"Received: inputs {[x.name for x in model.inputs]}"
        )
    if quantized and precision not in ("int8", "int8_cpu"):
        raise ValueError(
            "A model of `quantize` is converted with precision='int8' or 'int8_cpu'. "
            f"Received: precision={precision!r}, a quantised model {model.name!r}"
        )
    if (
        precision not in INTEGER
        and "int8" in types
        or types[1] != "float32"
        and (precision not in INTEGER)
    ):
        raise ValueError(
            f"Integers at input and output are for precision in {INTEGER}. "
            f"Received: precision={precision!r}, input={types[0]!r}, output={types[1]!r}"
        )
    if quantized:
        check_profile(model, precision)
        if data is not None:
            calibrate(model, data)
        check_calibrated(model)
    if quantized or precision not in INTEGER:
        return model, None
    if data is None:
        raise ValueError(
            "A float model needs `representative_data`, some hundred images, to be converted to "
            f"integers. Received: precision={precision!r}, representative_data=None"
        )
    if precision == "int16x8":
        batches = representative_batches(data, model)
        return model, [image[None] for (batch,) in batches for image in batch]
    return calibrate(quantize(model, precision, target=target), data), None


def _check_classes(model, labels, top_k):
    """Raises a ValueError where labels or `top_k` do not fit the model's output."""
    if labels is None and top_k is None:
        return
    shapes = [tuple(x.shape) for x in model.outputs]
    if top_k is None and is_detector(model):
        shapes = [(None, object_classes(model))]
    elif top_k is None and is_mask_rcnn(model):
        shapes = [(None, parts_of(model).classes)]
    if len(shapes) != 1 or len(shapes[0]) not in ((2, 4) if top_k is None else (2,)):
        raise ValueError(
            "`labels` and `top_k` are for a classifier, with one output (batch, classes); `labels` "
            "for a segmentation network, too, with one output (batch, h, w, classes), and for a "
            "detector or a Mask R-CNN of this package. "
            f"Received: {model.name} with outputs {shapes}"
        )
    classes = shapes[0][-1]
    if labels is not None and len(labels) != classes:
        raise ValueError(
            f"One label a class is expected. Received: {len(labels)} labels for {classes} classes"
        )
    if top_k is not None and (not isinstance(top_k, int) or not 1 <= top_k <= classes):
        raise ValueError(
            f"`top_k` must be an integer from 1 to {classes}. Received: top_k={top_k!r}"
        )


def _preprocessing(model, preprocessing):
    """What goes into the file, or None.

    Raises:
        ValueError: where it cannot, or would be done twice.
    """
    if not preprocessing:
        return None
    if len(model.inputs) != 1:
        raise ValueError(
            "Preprocessing is for a model of one image input. "
            f"Received: preprocessing={preprocessing!r}, inputs {[x.name for x in model.inputs]}"
        )
    scaling = own_scaling(model)
    if scaling is not None:
        raise ValueError(
            f"The model scales pixels itself, in {scaling!r}: with preprocessing they would be "
            "scaled twice. Leave `preprocessing` out: the file takes pixels of 0 to 255. "
            f"Received: preprocessing={preprocessing!r}"
        )
    return preprocessing if isinstance(preprocessing, Preprocessing) else preprocessing_of(model)


def _pixels(images, preprocessing):
    """The RGB images of 0 to 255 that preprocessing made these of."""
    if preprocessing.channel_order == "BGR":
        images = images[..., ::-1]
    mean, std = (np.asarray(x, "float32") for x in (preprocessing.mean, preprocessing.std))
    return 255 * (images * std + mean)


def _check_normalization(normalization, order):
    """Warns where MediaPipe Tasks would not open the file, or give it other colors."""
    if order == "BGR":
        warnings.warn(
            "The file takes images of BGR channels, and apps as a rule have RGB: export with "
            "preprocessing=True, and it takes RGB pixels of 0 to 255.",
            stacklevel=3,
        )
    if normalization is not None and normalization.differs_by_channel:
        warnings.warn(
            "MediaPipe Tasks opens no file whose image is normalized differently by channel, as "
            "this network's is: export with preprocessing=True for it, and the file takes pixels "
            "of 0 to 255. An app that normalizes itself finds mean and std in the file's record "
            "(`keras_hybrid.export.metadata.read_record`).",
            stacklevel=3,
        )


def _convert(folder, precision, target, input_type, output_type, samples, postprocess, layer_names):
    """The converted file, edited."""
    import tensorflow as tf

    def converter_of_float():
        # From a SavedModel: there the converter sees constants, so that it can fold and fuse them.
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        converter.allow_custom_ops = postprocess == TFLITE
        return converter

    converter = converter_of_float()
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if precision in INTEGER:
        converter.inference_input_type = tf.as_dtype(input_type)
        converter.inference_output_type = tf.as_dtype(output_type)
    if samples is not None:
        converter.representative_dataset = samples
        converter.target_spec.supported_ops = [
            tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        ]
    try:
        content = converter.convert()
    except Exception as error:  # of several classes of TensorFlow's, and bare ones
        raise explained(
            error, precision, layer_names, lambda: converter_of_float().convert()
        ) from error
    file = TFLiteFile.parse(content)
    remove_float_guards(file)
    if precision in INTEGER:
        check_steps(file)
        if precision == "int16x8":
            give_steps_to_zeros(file)
        merge_dense(file)
        shorten_names(file, precision == "int8")
    first_names(file)
    if target == "cpu":
        part_attention(file)
    state_runtime_version(file)
    return file


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
    found = inspect_tflite(path)
    lacking = [name for name in (*found.flex_ops, *found.custom_ops) if name != OPERATOR]
    if lacking:
        raise RuntimeError(
            f"The converted model needs operators that LiteRT lacks: {', '.join(lacking)}"
        )
    interpreter = open_interpreter(path)
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
    interpreter.invoke()
