"""From a trained float model to int8: post-training and trained, side by side in a report.

    python recipes/qat.py --run=runs/digits --out=runs/digits_int8
    python recipes/qat.py --run=runs/digits --out=runs/digits_cpu profile=int8_cpu epochs=0

--run is a folder of recipes/train.py. --out gets float.tflite, post_training.tflite,
trained.tflite, the Keras models behind them, and report.md: accuracy on all test images (average
precision of a detector, mIoU of a network for segmentation), agreement with Keras, size, latency on
this machine, the layers that int8 hurts most, and those left in float.
Arguments after the flags replace numbers of the recipe, by name and type; `keep_float=a,b` leaves
layers in float. The same command goes on with an interrupted run.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_string("run", None, "Folder of a finished run of recipes/train.py.")
flags.DEFINE_string("out", None, "Folder of the new run.")
flags.DEFINE_string(
    "recipe", None, "Of recipes/qat/, or a .py file; digits for those, or else the family's."
)
flags.DEFINE_string("data_dir", None, "TFDS' folder of prepared sets; TFDS' default if not set.")
flags.DEFINE_integer("worst", 15, "How many layers the report lists.", lower_bound=1)
flags.mark_flags_as_required(["run", "out"])


def main(argv):
    from keras_hybrid.models.catalogue import builder_family
    from keras_hybrid.training.recipe.recipe import load_recipe, override
    from keras_hybrid.training.run.callbacks import TrainingDivergedError
    from keras_hybrid.training.run.run_folder import load_run
    from keras_hybrid.training.run.startup import prepare_process
    from keras_hybrid.training.tasks.of_recipe import task_of
    from keras_hybrid.workflows.int8_recipe import QuantizedRecipe
    from keras_hybrid.workflows.int8_report import quantized_report
    from keras_hybrid.workflows.int8_run import train_quantized

    prepare_process()
    try:
        run = load_run(FLAGS.run)
        digits = run.data.startswith(("digits", "digit_scenes"))
        path = Path(FLAGS.recipe or ("digits" if digits else builder_family(run.recipe.model)))
        if path.suffix != ".py":
            path = Path(__file__).parent / "qat" / f"{path}.py"
        recipe = override(load_recipe(path, kind=QuantizedRecipe), argv[1:])
        source = task_of(run.recipe).open_source(run.data, FLAGS.data_dir)
        quantized = train_quantized(run, recipe, FLAGS.out, source=source)
        report = quantized_report(run, quantized, source, worst=FLAGS.worst)
    except (ValueError, OSError, TrainingDivergedError) as error:
        sys.exit(f"qat.py: {error}")
    print(report.table(short=True))
    print(report.path)


if __name__ == "__main__":
    app.run(main)
