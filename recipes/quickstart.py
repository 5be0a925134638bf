"""From nothing to a trained, converted, verified and timed model, in minutes on a laptop.

    python recipes/quickstart.py
    python recipes/quickstart.py --model=MobileViTXXS --name=my_run epochs=10

Trains on scikit-learn's handwritten digits, evaluates, converts to a float32 .tflite, compares it
with the Keras model on every test image, quantises to int8, calibrated alone and trained on, times
all files together on this machine, and writes runs/<name>/report.html, whole in itself, and
report.md. An interrupted run goes on where it ended. Arguments after the flags replace numbers of
recipes/digits.py; those of int8 are in recipes/qat/digits.py, but for its epochs (--int8_epochs).
"""

import os
import shlex
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_string("model", "MobileFormer26M", "A builder's name; list_models() has all.")
flags.DEFINE_string("name", None, "Name of the run's folder in runs/; quickstart_<model> if unset.")
flags.DEFINE_string("runs", "runs", "Folder of runs.")
flags.DEFINE_bool("preprocessing", True, "The .tflite takes RGB from 0 to 255.")
flags.DEFINE_integer("threads", 1, "Threads that the .tflite is timed with.", lower_bound=1)
flags.DEFINE_bool("int8", True, "Quantise to int8, too.")
flags.DEFINE_integer("int8_epochs", 2, "Of training in int8; 0 for none.", lower_bound=0)
flags.DEFINE_string("data_dir", None, "TFDS' folder of prepared sets; TFDS' default if not set.")


def main(argv):
    # Imported here, so that --help answers at once.
    from keras_hybrid.training.data.sources import open_source
    from keras_hybrid.training.recipe.recipe import load_recipe, override
    from keras_hybrid.training.run.startup import prepare_process
    from keras_hybrid.workflows.int8_recipe import QuantizedRecipe
    from keras_hybrid.workflows.quickstart import quickstart

    prepare_process()
    here = Path(__file__).parent
    try:
        int8 = None
        if FLAGS.int8:
            int8 = load_recipe(here / "qat" / "digits.py", kind=QuantizedRecipe)
            int8 = override(int8, [f"epochs={FLAGS.int8_epochs}"])
        made = quickstart(
            override(load_recipe(here / "digits.py", FLAGS.model), argv[1:]),
            open_source("digits", FLAGS.data_dir),
            Path(FLAGS.runs) / (FLAGS.name or f"quickstart_{FLAGS.model}"),
            preprocessing=FLAGS.preprocessing,
            threads=FLAGS.threads,
            int8=int8,
            command=f"python {shlex.join(sys.argv)}",
        )
    except ValueError as error:
        sys.exit(f"quickstart.py: {error}")
    print(made.text())


if __name__ == "__main__":
    app.run(main)
