"""Compares a .tflite with the Keras model that it was made from, image by image.

    python tflite/verify.py model.tflite --against=model.keras --data=images/
    python tflite/verify.py model.tflite --against=MobileFormer26M --weights=a.weights.h5

--data is a folder of images (searched in depth), or a .npy or .npz file of images (n, H, W, 3);
without it, 16 images of noise. Values are RGB, 0 to 255: for a file without preprocessing inside
they are normalised as the model expects, unless --raw says that they are already. Exits with
status 1 when fewer than --agreement of the images get the same class, or when the scores differ by
more than --tolerance.
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, flags, logging

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "against", None, "The Keras model: a .keras file or a builder's name.", required=True
)
flags.DEFINE_string("weights", None, "For a builder's name: its weights.")
flags.DEFINE_string("data", None, "Folder of images, .npy or .npz; noise if not set.")
flags.DEFINE_integer("limit", 200, "Use at most this many images.")
flags.DEFINE_bool("raw", False, "The data are what the network takes, not pixels of 0 to 255.")
flags.DEFINE_float("agreement", 1.0, "Least share of images of the same class.")
flags.DEFINE_float("tolerance", 1e-4, "Largest difference of scores, relative to the largest.")


def main(argv):
    if len(argv) != 2:
        raise app.UsageError("name one .tflite file")
    logging.set_verbosity(logging.WARNING)  # TensorFlow tells about every file it writes
    from keras_hybrid.workflows.conversion import verify

    try:
        result = verify(
            argv[1],
            FLAGS.against,
            FLAGS.weights,
            data=FLAGS.data,
            limit=FLAGS.limit,
            raw=FLAGS.raw,
        )
    except ValueError as error:
        sys.exit(f"verify.py: {error}")
    print(result.text())
    sys.exit(0 if result.passes(FLAGS.agreement, FLAGS.tolerance) else 1)


if __name__ == "__main__":
    app.run(main)
