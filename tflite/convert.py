"""Converts a network to a .tflite for an app, and prints what it made.

    python tflite/convert.py --model=MobileFormer294M --weights=imagenet --output=model.tflite
    python tflite/convert.py --model=runs/a/model.keras --precision=float16 \\
        --preprocessing --input=uint8 --labels=labels.txt --output=model.tflite
    python tflite/convert.py --model=IFormerT --head=pyramid --input_size=320 --output=f.tflite

--model is a builder's name or a .keras file. The file takes one image and has static shapes and
builtin operators only; batch norm and the like are folded into the weights. With --preprocessing
--input=uint8 it takes RGB camera frames as they come. Printed are the operators by kind, the
partitions of the XNNPACK delegate, what a GPU delegate would refuse, size, multiply-adds, and how
long the conversion took and how much memory this process needed at its peak.
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
flags.DEFINE_enum("precision", "float32", ["float32", "float16", "dynamic"], "Of the weights.")
flags.DEFINE_integer("input_size", None, "Height and width of the image; the model's if not set.")
flags.DEFINE_enum("input", "float32", ["float32", "uint8"], "Type of the input.")
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
    from keras_hybrid.export.gpu_delegate import check_gpu_delegate
    from keras_hybrid.export.inspect import inspect_tflite
    from keras_hybrid.export.metadata import About

    model = open_model(FLAGS.model, FLAGS.weights, FLAGS.head)
    labels = None
    if FLAGS.labels:
        if not Path(FLAGS.labels).is_file():
            raise ValueError(f"There is no such file. Received: --labels={FLAGS.labels}")
        labels = Path(FLAGS.labels).read_text().splitlines()
    start = time.monotonic()
    path = keras_hybrid.export_tflite(
        model,
        FLAGS.output,
        FLAGS.precision,
        FLAGS.preprocessing,
        input=FLAGS.input,
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
    multiply_adds = keras_hybrid.count_multiply_adds(model, FLAGS.input_size)
    print(f"{path}: {found.size_bytes / 1e6:.2f} MB, made in {seconds:.0f} s{memory}")
    print(f"multiply-adds: {multiply_adds / 1e6:.1f} M")
    print(f"operators: {found.num_ops}")
    for name, count in found.ops.most_common():
        print(f"  {count:5d} {name}")
    left = ", ".join(f"{count} {name}" for name, count in found.undelegated.items())
    print(
        f"XNNPACK partitions: {found.partitions}" + (f", outside of them: {left}" if left else "")
    )
    refused = [f"{count} {name}" for name, count in gpu.unsupported_ops.items()]
    refused += [f"{tensor.name} {tensor.shape}" for tensor in gpu.unsupported_shapes]
    print("GPU delegate: " + ("takes all" if gpu.ready else "refuses " + ", ".join(refused)))


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
