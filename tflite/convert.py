"""Converts a network to a .tflite for an app, and prints what it made.

    python tflite/convert.py --model=MobileFormer294M --weights=imagenet --output=model.tflite
    python tflite/convert.py --model=runs/a/model.keras --precision=float16 \\
        --preprocessing --input=uint8 --labels=labels.txt --output=model.tflite
    python tflite/convert.py --model=IFormerT --head=pyramid --input_size=320 --output=f.tflite
    python tflite/convert.py --model=runs/a/model.keras --precision=int8_cpu --data=images/ \\
        --output=model.tflite

--model is a builder's name or a .keras file, of a quantised model, too. The file takes one image
and has static shapes and builtin operators only; batch norm and the like are folded into the
weights. With --preprocessing --input=uint8 it takes RGB camera frames as they come. A float model
is calibrated for integers with --data: a folder of images (searched in depth), or a .npy or .npz
file of images (n, H, W, 3), RGB, 0 to 255, unless --raw says that they are normalised.

Printed are the operators by kind, the partitions of the XNNPACK delegate, what a GPU delegate would
refuse, in int8 what is in float all the same, size, multiply-adds, and how long the conversion took
and how much memory this process needed at its peak.
"""

import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, flags, logging

FLAGS = flags.FLAGS
flags.DEFINE_string("model", None, "Builder's name, or path of a .keras file.", required=True)
flags.DEFINE_string("output", None, "The .tflite to write.", required=True)
flags.DEFINE_string(
    "weights", None, "For a builder: a published checkpoint's tag or a file; random if not set."
)
flags.DEFINE_enum(
    "precision",
    "float32",
    ["float32", "float16", "dynamic", "int8", "int8_cpu", "int16x8"],
    "Of the weights, and from int8 on of what is computed.",
)
flags.DEFINE_string("data", None, "Images to calibrate with: a folder, .npy or .npz.")
flags.DEFINE_integer("limit", 200, "Use at most this many of them.", lower_bound=1)
flags.DEFINE_bool("raw", False, "The data are what the network takes, not pixels of 0 to 255.")
flags.DEFINE_list("keep_float", [], "Layers to leave in float, by name, of int8 and int8_cpu.")
flags.DEFINE_integer("input_size", None, "Height and width of the image; the model's if not set.")
flags.DEFINE_enum("input", "float32", ["float32", "uint8", "int8"], "Type of the input.")
flags.DEFINE_enum("scores", "float32", ["float32", "uint8", "int8"], "Type of the outputs.")
flags.DEFINE_bool("preprocessing", False, "Take RGB images of 0 to 255 and normalise inside.")
flags.DEFINE_enum(
    "head",
    "classes",
    ["classes", "features", "pyramid"],
    "Class scores, the last feature map, or the maps of strides 2 to 32.",
)
flags.DEFINE_string("labels", None, "Text file with one class name a line.")
flags.DEFINE_integer("top_k", None, "Give the best k scores and classes, not all scores.")
flags.DEFINE_string("author", "", "For the file's metadata.")
flags.DEFINE_string("licence", "", "For the file's metadata.")
flags.DEFINE_string("description", "", "For the file's metadata.")


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"what is {argv[1]!r}?")
    logging.set_verbosity(logging.WARNING)  # TensorFlow tells about every file it writes
    try:
        run()
    except ValueError as error:
        sys.exit(f"convert.py: {error}")


def run():
    import keras_hybrid
    from keras_hybrid.export.engines import check_gpu_delegate
    from keras_hybrid.export.inspect import inspect_tflite
    from keras_hybrid.export.metadata import About

    model = open_model(FLAGS.model, FLAGS.weights, FLAGS.head)
    labels = None
    if FLAGS.labels:
        if not Path(FLAGS.labels).is_file():
            raise ValueError(f"There is no such file. Received: --labels={FLAGS.labels}")
        labels = Path(FLAGS.labels).read_text().splitlines()
    start = time.monotonic()
    multiply_adds = keras_hybrid.count_multiply_adds(model, FLAGS.input_size)
    images = calibration_images(model)
    if FLAGS.keep_float:
        model = calibrated(model, images)
        images = None
    path = keras_hybrid.export_tflite(
        model,
        FLAGS.output,
        FLAGS.precision,
        FLAGS.preprocessing,
        input=FLAGS.input,
        output=FLAGS.scores,
        representative_data=images,
        input_size=FLAGS.input_size,
        labels=labels,
        top_k=FLAGS.top_k,
        about=About(
            name=model.name,
            description=FLAGS.description,
            author=FLAGS.author,
            licence=FLAGS.licence,
            preset=FLAGS.weights or "",
        ),
    )
    seconds, memory = time.monotonic() - start, peak_memory()
    found = inspect_tflite(path)
    gpu = check_gpu_delegate(path)
    print(f"{path}: {found.size_bytes / 1e6:.2f} MB, made in {seconds:.0f} s{memory}")
    print(f"multiply-adds: {multiply_adds / 1e6:.1f} M")
    print(f"operators: {found.num_ops}")
    for name, count in found.ops.most_common():
        print(f"  {count:5d} {name}")
    left = ", ".join(f"{count} {name}" for name, count in found.undelegated.items())
    print(
        f"XNNPACK partitions: {found.partitions}" + (f", outside of them: {left}" if left else "")
    )
    if FLAGS.precision == "int8":
        names = ", ".join(found.integer_offenders)
        print(f"not in integers: {names or 'nothing'}")
    refused = [f"{count} {name}" for name, count in gpu.unsupported_ops.items()]
    refused += [f"{tensor.name} {tensor.shape}" for tensor in gpu.unsupported_shapes]
    print("GPU delegate: " + ("takes all" if gpu.ready else "refuses " + ", ".join(refused)))


def calibration_images(model):
    """What the model takes, made of --data; None without."""
    import keras_hybrid
    from keras_hybrid.export.images import load_images
    from keras_hybrid.quantization.quantize import is_quantized

    integers = FLAGS.precision not in ("float32", "float16", "dynamic")
    if FLAGS.data is None:
        if integers and not is_quantized(model):
            raise ValueError(
                "A float model needs --data, some hundred images, to be converted to integers. "
                f"Received: --precision={FLAGS.precision}"
            )
        return None
    if not integers:
        raise ValueError(
            "Images to calibrate with are for int8, int8_cpu and int16x8. "
            f"Received: --data={FLAGS.data} --precision={FLAGS.precision}"
        )
    size = (FLAGS.input_size,) * 2 if FLAGS.input_size else model.input_shape[1:3]
    if None in size:
        raise ValueError("The model takes images of any size: say which, with --input_size")
    images = load_images(FLAGS.data, (*size, model.input_shape[-1]), FLAGS.limit)
    return images if FLAGS.raw else keras_hybrid.preprocess_input(images, model)


def calibrated(model, images):
    """The model quantised, with the layers of --keep_float in float."""
    import keras_hybrid

    if FLAGS.precision not in ("int8", "int8_cpu") or images is None:
        raise ValueError(
            "--keep_float is for a float model, --precision=int8 or int8_cpu and --data. "
            f"Received: --keep_float={','.join(FLAGS.keep_float)} --precision={FLAGS.precision}"
        )
    quantized = keras_hybrid.quantize(model, FLAGS.precision, keep_float=tuple(FLAGS.keep_float))
    return keras_hybrid.calibrate(quantized, images)


def peak_memory():
    """The most memory that this process has had so far, in words; empty where nobody counts it."""
    try:
        import resource
    except ImportError:  # Windows
        return ""
    unit = 1 if sys.platform == "darwin" else 1024  # kilobytes everywhere else
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return f", memory at its peak {peak / 2**30:.2f} GiB"


def open_model(name, weights, head):
    """The model of a .keras file or a builder, with the outputs that `head` says."""
    import keras

    import keras_hybrid

    if name.endswith(".keras"):
        if not Path(name).is_file():
            raise ValueError(f"There is no such file. Received: --model={name}")
        if weights:
            raise ValueError(f"A .keras file has its weights. Received: --weights={weights}")
        model = keras.saving.load_model(name, compile=False)
    else:
        options = (
            {} if FLAGS.input_size is None else {"input_shape": (FLAGS.input_size,) * 2 + (3,)}
        )
        model = keras_hybrid.build_model(name, weights=weights, **options)
    if head == "classes":
        return model
    pyramid = keras_hybrid.feature_pyramid(model)
    outputs = pyramid["P5"] if head == "features" else pyramid
    return keras.Model(model.input, outputs, name=f"{model.name}_{head}")


if __name__ == "__main__":
    app.run(main)
