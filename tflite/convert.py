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
flags.DEFINE_enum(
    "target",
    None,
    ["cpu", "gpu", "npu"],
    "Engine that the file is for; npu of int8, else cpu, if not set.",
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
    from keras_hybrid.export.metadata import About
    from keras_hybrid.workflows.conversion import convert, open_model

    try:
        model = open_model(FLAGS.model, FLAGS.weights, head=FLAGS.head, input_size=FLAGS.input_size)
        made = convert(
            model,
            FLAGS.output,
            FLAGS.precision,
            target=FLAGS.target,
            data=FLAGS.data,
            limit=FLAGS.limit,
            raw=FLAGS.raw,
            keep_float=tuple(FLAGS.keep_float),
            preprocessing=FLAGS.preprocessing,
            input=FLAGS.input,
            scores=FLAGS.scores,
            input_size=FLAGS.input_size,
            labels=FLAGS.labels,
            top_k=FLAGS.top_k,
            about=About(
                name=model.name,
                description=FLAGS.description,
                author=FLAGS.author,
                licence=FLAGS.licence,
                preset=FLAGS.weights or "",
            ),
        )
    except ValueError as error:
        sys.exit(f"convert.py: {error}")
    print(made.text())


if __name__ == "__main__":
    app.run(main)
