"""Evaluates a trained model: a run of train.py, or published weights by name.

    python recipes/evaluate.py --run=runs/a
    python recipes/evaluate.py --run=runs/a --best --data=digits --split=test --per_class
    python recipes/evaluate.py --run=runs/a --data=folder:/my/pictures --split=all

Published weights under their published protocol (size, crop, interpolation, channel order), on
ImageNet-1k from TFDS or from a folder with one folder a synset, beside the published figure:

    python recipes/evaluate.py --model=MobileViTS --weights=imagenet --data=imagenet2012
    python recipes/evaluate.py --model=IFormerM --weights=imagenet_distill --data=imagenet/val

Prints top-1 and top-5 accuracy and the number of images; of a network for segmentation mIoU, from
one confusion matrix over the split at the images' own sizes; of a detector average precision.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_string("run", None, "Folder of a finished run.")
flags.DEFINE_string("model", None, "With --weights: name of the builder, such as MobileViTS.")
flags.DEFINE_string("weights", None, "Tag of published weights, such as imagenet, not a run.")
flags.DEFINE_integer("batch_size", 64, "With --weights: images at once.", lower_bound=1)
flags.DEFINE_bool("best", False, "The weights of the best epoch in place of the last one's.")
flags.DEFINE_string(
    "data",
    None,
    "Another data set of the same classes, a name or folder:/path; the run's if not set. With "
    "--weights: a TFDS set such as imagenet2012, or a folder of synsets.",
)
flags.DEFINE_string("split", None, "Split; the data set's validation or test split if not set.")
flags.DEFINE_string("data_dir", None, "TFDS' folder of prepared sets; TFDS' default if not set.")
flags.DEFINE_bool("per_class", False, "Print the accuracy of each class, too.")


def evaluate_weights():
    """Published weights under their protocol."""
    import keras_hybrid
    from keras_hybrid.training.data.sources import open_source
    from keras_hybrid.weights.evaluation import evaluate_published, synset_examples
    from keras_hybrid.weights.presets import find_preset

    preset = find_preset(FLAGS.model, FLAGS.weights)
    split = None
    folder = FLAGS.data.removeprefix("folder:")
    if Path(folder).is_dir():
        examples, count = synset_examples(folder)
    else:
        source = open_source(FLAGS.data, FLAGS.data_dir)
        split = FLAGS.split or source.evaluation_split
        examples, count = source.split(split), source.sizes[split]
    model = keras_hybrid.build_model(preset.model, weights=preset.tag)
    found = evaluate_published(model, preset, examples, count, FLAGS.batch_size)
    print(
        f"{preset.name} on {FLAGS.data}{f' {split}' if split else ''}, {found.images} images: "
        f"top-1 {found.top1:.2%} (published {preset.score:.1f}%), top-5 {found.top5:.2%}"
    )


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"what is {argv[1]!r}?")
    if (FLAGS.run is None) == (FLAGS.weights is None):
        raise app.UsageError("give either --run or --weights")
    if FLAGS.weights is not None:
        if FLAGS.model is None or FLAGS.data is None:
            raise app.UsageError("--weights needs --model and --data")
        try:
            return evaluate_weights()
        except (ValueError, OSError, ImportError) as error:
            sys.exit(f"evaluate.py: {error}")
    import keras

    from keras_hybrid.training.run.run import BEST_FILE, load_run
    from keras_hybrid.training.run.startup import prepare_process
    from keras_hybrid.workflows.answers.run_evaluation import evaluate_run, open_run_source

    prepare_process()
    try:
        run = load_run(FLAGS.run)
        source = open_run_source(run, FLAGS.data, FLAGS.data_dir)
        model = keras.models.load_model(Path(FLAGS.run) / BEST_FILE) if FLAGS.best else run.model
        split = FLAGS.split or source.evaluation_split
        result = evaluate_run(run, model, source, split, verbose=1)
    except (ValueError, ImportError) as error:
        sys.exit(f"evaluate.py: {error}")
    network = run.recipe.model
    if head := getattr(run.recipe, "head", None):
        network += f" with {head}"
    print(f"{network} on {source.name} {split}, {result.images} images: {result.line}")
    if FLAGS.per_class:
        for name, *figures in result.rows:
            print(f"  {name}: {' '.join(figures)}")


if __name__ == "__main__":
    app.run(main)
