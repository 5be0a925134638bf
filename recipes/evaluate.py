"""Evaluates a trained model: a run of train.py, or any Keras file with its recipe.

    python recipes/evaluate.py --run=runs/a
    python recipes/evaluate.py --run=runs/a --best --data=digits --split=test --per_class

Prints top-1 and top-5 accuracy and the number of images.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_string("run", None, "Folder of a finished run.", required=True)
flags.DEFINE_bool("best", False, "The weights of the best epoch in place of the last one's.")
flags.DEFINE_string("data", None, "Another data set of the same classes; the run's if not set.")
flags.DEFINE_string("split", None, "Split; the data set's validation or test split if not set.")
flags.DEFINE_string("data_dir", None, "TFDS' folder of prepared sets; TFDS' default if not set.")
flags.DEFINE_bool("per_class", False, "Print the accuracy of each class, too.")


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"what is {argv[1]!r}?")
    import keras

    from keras_hybrid.training.evaluation import evaluate
    from keras_hybrid.training.pipeline import evaluation_dataset
    from keras_hybrid.training.run import BEST_FILE, load_run
    from keras_hybrid.training.sources import open_source
    from keras_hybrid.training.startup import prepare_process

    prepare_process()
    try:
        run = load_run(FLAGS.run)
        source = open_source(FLAGS.data or run.data, FLAGS.data_dir)
        model = keras.models.load_model(Path(FLAGS.run) / BEST_FILE) if FLAGS.best else run.model
        split = FLAGS.split or source.evaluation_split
        result = evaluate(model, evaluation_dataset(source, run.recipe, split), verbose=1)
    except ValueError as error:
        sys.exit(f"evaluate.py: {error}")
    line = f"{run.recipe.model} on {source.name} {split}, {len(result.labels)} images: "
    line += f"top-1 {result.accuracy:.2%}"
    if len(run.class_names) > 5:
        line += f", top-5 {result.top_accuracy(5):.2%}"
    print(line)
    if FLAGS.per_class:
        for name, accuracy in zip(run.class_names, result.class_accuracy(), strict=True):
            print(f"  {name}: {accuracy:.2%}")


if __name__ == "__main__":
    app.run(main)
