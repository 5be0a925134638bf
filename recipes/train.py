"""Trains a model with a recipe; the same command resumes an interrupted run.

    python recipes/train.py --recipe=digits --variant=MobileFormer26M --data=digits --out=runs/a

Arguments after the flags replace numbers of the recipe, by name and type:

    python recipes/train.py --recipe=digits --data=digits --out=runs/b epochs=3 learning_rate=1e-3

The numbers, steps, learning rates and memory of a published recipe, and one batch, untrained:

    python recipes/train.py --recipe=imagenet/iformer --variant=M --data=imagenet2012 --dry_run

--out gets history.csv, state.npz (to resume from), best.keras and model.keras, with --tensorboard
also a log that `tensorboard --logdir=runs` shows.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_string("recipe", None, "A recipe beside this program, such as digits, or a .py file.")
flags.DEFINE_string("variant", None, "Which model of the recipe; the recipe's default if not set.")
flags.DEFINE_string(
    "data", None, "digits, folder:/path of class folders, or a TFDS set such as imagenet2012."
)
flags.DEFINE_string("data_dir", None, "TFDS' folder of prepared sets; TFDS' default if not set.")
flags.DEFINE_string("out", None, "Folder of the run, such as runs/a.")
flags.DEFINE_bool("dry_run", False, "Print what would be done, and read one batch.")
flags.DEFINE_bool("tensorboard", False, "Write a log for TensorBoard, too.")
flags.mark_flags_as_required(["recipe", "data"])


def main(argv):
    if not FLAGS.out and not FLAGS.dry_run:
        raise app.UsageError("--out names the folder of the run")
    from keras_hybrid.training.callbacks import TrainingDivergedError
    from keras_hybrid.training.dry_run import dry_run
    from keras_hybrid.training.recipe import load_recipe, override
    from keras_hybrid.training.run import train
    from keras_hybrid.training.sources import open_source
    from keras_hybrid.training.startup import prepare_process

    prepare_process()
    path = Path(FLAGS.recipe)
    if path.suffix != ".py":
        path = Path(__file__).parent / f"{FLAGS.recipe}.py"
    try:
        recipe = override(load_recipe(path, FLAGS.variant), argv[1:])
        if FLAGS.dry_run:
            print(dry_run(recipe, open_source(FLAGS.data, FLAGS.data_dir)))
            return
        run = train(
            recipe,
            FLAGS.data,
            FLAGS.out,
            data_dir=FLAGS.data_dir,
            tensorboard=FLAGS.tensorboard,
        )
    except (ValueError, TrainingDivergedError) as error:
        sys.exit(f"train.py: {error}")
    print(f"{run.folder}: accuracy {run.history[-1]['val_accuracy']:.2%} after {recipe.epochs}")


if __name__ == "__main__":
    app.run(main)
