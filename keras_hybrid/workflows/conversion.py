"""From a network, by name or file, to a `.tflite` for an app, and back to compare the two."""

import time
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from keras_hybrid.analysis.cost import count_multiply_adds
from keras_hybrid.engines.check import EnginesReport, check_engines
from keras_hybrid.export.convert import export_tflite
from keras_hybrid.export.images import load_images
from keras_hybrid.export.inspect import Inspection, inspect_tflite
from keras_hybrid.export.instances import export_instances
from keras_hybrid.export.metadata import About, read_record
from keras_hybrid.export.verify import Verification, verify_tflite
from keras_hybrid.models.catalogue import build_model
from keras_hybrid.models.features import feature_pyramid
from keras_hybrid.quantization.quantize import is_quantized, quantize
from keras_hybrid.quantization.ranges.calibration import calibrate
from keras_hybrid.weights.family import Preprocessing
from keras_hybrid.weights.preprocessing import preprocess_input, preprocessing_of
from keras_hybrid.workflows.memory import peak_memory

PRECISIONS = ("float32", "float16", "dynamic", "int8", "int8_cpu", "int16x8")
CALIBRATED = ("int8", "int8_cpu", "int16x8")
HEADS = ("classes", "features", "pyramid")
NOISE_IMAGES = 16


@dataclass(frozen=True)
class Conversion:
    """A file and what is to be known of it.

    Attributes:
        path: of the `.tflite`.
        precision: it was asked for in.
        inspection: of the file.
        engines: what XNNPACK takes, and what the GPU delegate's list has.
        multiply_adds: of the network on one image.
        seconds: that making it took.
        peak_memory: most bytes that this process has had so far; None where nobody counts them.
    """

    path: Path
    precision: str
    inspection: Inspection
    engines: EnginesReport
    multiply_adds: int
    seconds: float
    peak_memory: int | None

    def text(self) -> str:
        """The lines that tell it to a user."""
        found, memory = self.inspection, ""
        if self.peak_memory is not None:
            memory = f", memory at its peak {self.peak_memory / 2**30:.2f} GiB"
        lines = [
            f"{self.path}: {found.size_bytes / 1e6:.2f} MB, made in {self.seconds:.0f} s{memory}",
            f"multiply-adds: {self.multiply_adds / 1e6:.1f} M",
            f"operators: {found.num_ops}",
            *(f"  {count:5d} {name}" for name, count in found.ops.most_common()),
        ]
        if self.precision == "int8":
            lines.append(f"not in integers: {', '.join(found.integer_offenders) or 'nothing'}")
        lines += [answer.text() for answer in self.engines.answers.values()]
        return "\n".join(lines)


def open_model(
    name: str,
    weights: str | None = None,
    *,
    head: str = "classes",
    input_size: int | tuple[int, int] | None = None,
) -> keras.Model:
    """The model of a `.keras` file or a builder.

    Args:
        name: path of the file, or the builder's name.
        weights: for a builder: a published checkpoint's tag or a file; random if None.
        head: "classes" for class scores, "features" for the last feature map, "pyramid" for the
            maps of strides 2 to 32.
        input_size: for a builder: height and width of the image, or one number for both; the
            published if None.

    Raises:
        ValueError: when there is no such file or builder, or a file is to get weights.
    """
    if head not in HEADS:
        raise ValueError(f"`head` must be one of {HEADS}. Received: head={head!r}")
    if name.endswith(".keras"):
        if not Path(name).is_file():
            raise ValueError(f"There is no such file. Received: model={name!r}")
        if weights:
            raise ValueError(f"A .keras file has its weights. Received: weights={weights!r}")
        model = keras.saving.load_model(name, compile=False)
    else:
        size = (input_size,) * 2 if isinstance(input_size, int) else input_size
        options = {} if size is None else {"input_shape": (*size, 3)}
        model = build_model(name, weights=weights, **options)
    if head == "classes":
        return model
    pyramid = feature_pyramid(model)
    outputs = pyramid["P5"] if head == "features" else pyramid
    return keras.Model(model.input, outputs, name=f"{model.name}_{head}")


def convert(
    model: keras.Model,
    output: str | Path,
    precision: str = "float32",
    *,
    target: str | None = None,
    data: str | Path | None = None,
    limit: int = 200,
    raw: bool = False,
    keep_float: tuple[str, ...] = (),
    preprocessing: bool | Preprocessing = False,
    input: str = "float32",
    scores: str = "float32",
    input_size: int | None = None,
    labels: str | Path | None = None,
    top_k: int | None = None,
    postprocess: str = "raw",
    about: About | None = None,
) -> Conversion:
    """Converts a model with images from disk to calibrate with, and looks at the file.

    Args:
        model: of `open_model`; quantised or not.
        output: the `.tflite` to write.
        precision: one of `PRECISIONS`.
        target: of `export_tflite`: the engine that the file is for.
        data: images to calibrate a float model's integers with: a folder, `.npy` or `.npz`.
        limit: use at most this many of them.
        raw: whether they are what the network takes, not pixels of 0 to 255.
        keep_float: names of layers to leave in float, of int8 and int8_cpu.
        preprocessing: of `export_tflite`, as are input, input_size, top_k and postprocess.
        scores: type of the outputs.
        labels: text file with one class name a line.
        about: for the file's metadata.

    Raises:
        ValueError: when images are missing, or not wanted, or the model cannot be converted.
    """
    names = None
    if labels is not None:
        if not Path(labels).is_file():
            raise ValueError(f"There is no such file. Received: labels={str(labels)!r}")
        names = Path(labels).read_text(encoding="utf-8-sig").splitlines()
    start = time.monotonic()
    multiply_adds = count_multiply_adds(model, input_size)
    images = calibration_images(model, precision, data, limit, raw, input_size)
    if keep_float:
        if precision not in ("int8", "int8_cpu") or images is None:
            raise ValueError(
                "`keep_float` is for a float model in int8 or int8_cpu, with `data`. "
                f"Received: keep_float={','.join(keep_float)} precision={precision}"
            )
        model = calibrate(quantize(model, precision, target=target, keep_float=keep_float), images)
        images = None
    path = export_tflite(
        model,
        output,
        precision,
        preprocessing,
        target=target,
        input=input,
        output=scores,
        representative_data=images,
        input_size=input_size,
        labels=names,
        top_k=top_k,
        postprocess=postprocess,
        about=about or About(name=model.name),
    )
    return Conversion(
        path,
        precision,
        inspect_tflite(path),
        check_engines(path, ()),
        multiply_adds,
        time.monotonic() - start,
        peak_memory(),
    )


def convert_parts(
    model: keras.Model,
    folder: str | Path,
    precision: str = "float32",
    *,
    data: str | Path | None = None,
    limit: int = 200,
    raw: bool = False,
    preprocessing: bool | Preprocessing = False,
    input: str = "float32",
    labels: str | Path | None = None,
) -> str:
    """Converts a Mask R-CNN to three files for accelerators, with images from disk to calibrate.

    Args:
        model: of `open_model`, with images of one size.
        folder: to write to.
        precision: of the first file, backbone and pyramid; the heads are float32.
        data: as of `convert`, likewise all others.
        limit: likewise.
        raw: likewise.
        preprocessing: likewise.
        input: likewise.
        labels: likewise.

    Returns: the lines that tell it to a user.

    Raises:
        ValueError: as of `convert`, and for a model that is no Mask R-CNN.
    """
    images = calibration_images(model, precision, data, limit, raw)
    made = export_instances(
        model,
        folder,
        precision,
        preprocessing,
        input=input,
        representative_data=images,
        labels=labels,
    )
    return "\n".join(f"{path}: {path.stat().st_size / 1e6:.2f} MB" for path in made)


def calibration_images(
    model: keras.Model,
    precision: str,
    data: str | Path | None,
    limit: int = 200,
    raw: bool = False,
    input_size: int | None = None,
) -> np.ndarray | None:
    """What the model takes, (n, H, W, 3), made of `data`; None without.

    Raises:
        ValueError: when a precision needs images that are not there, or gets some in vain.
    """
    integers = precision in CALIBRATED
    if data is None:
        if integers and not is_quantized(model):
            raise ValueError(
                "A float model needs `data`, some hundred images, to be converted to integers. "
                f"Received: precision={precision}"
            )
        return None
    if not integers:
        raise ValueError(
            "Images to calibrate with are for int8, int8_cpu and int16x8. "
            f"Received: data={data} precision={precision}"
        )
    size = (input_size,) * 2 if input_size else model.input_shape[1:3]
    if None in size:
        raise ValueError(
            "The model takes images of any size: say which, with `input_size`. "
            f"Received: input_shape={model.input_shape}"
        )
    images = load_images(data, (*size, model.input_shape[-1]), limit, _known(model))
    return images if raw else preprocess_input(images, model)


def verify(
    path: str | Path,
    against: str,
    weights: str | None = None,
    *,
    data: str | Path | None = None,
    limit: int = 200,
    raw: bool = False,
) -> Verification:
    """Compares a `.tflite` with the model that it was made from, image by image.

    Args:
        path: of the file.
        against: the Keras model: a `.keras` file or a builder's name.
        weights: for a builder's name: its weights.
        data: images (n, H, W, 3): a folder, `.npy` or `.npz`; noise if None. Pixels of 0 to 255
            are normalised as the model expects, unless the file does so itself.
        limit: use at most this many.
        raw: whether the data are what the network takes.

    Raises:
        ValueError: when there is no such file or model.
    """
    image_tensor = next(t for t in inspect_tflite(path).activations if t.producer == "INPUT")
    shape = image_tensor.shape[1:]
    model = open_model(against, weights, input_size=tuple(shape[:2]))
    if data is None:
        images = np.random.default_rng(0).uniform(0, 255, (NOISE_IMAGES, *shape)).astype("float32")
    else:
        images = load_images(data, shape, limit, _known(model))
    inside = read_record(path).get("preprocessing", False)
    if not inside and not raw:
        images = preprocess_input(images, model)
    return verify_tflite(path, model, images, preprocessing=inside)


def _known(model):
    """The model's preprocessing; None for a network of others."""
    try:
        return preprocessing_of(model)
    except ValueError:
        return None
