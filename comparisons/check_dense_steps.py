"""Every backbone with every head for segmentation: a training step with finite gradients.

    python comparisons/check_dense_steps.py
    python comparisons/check_dense_steps.py --models=IFormerT,MobileViTXXS --head=deeplabv3

Gradients are read from what a step of plain descent with rate 1 changes, so that any backend of
Keras does. Prints a line for each network; exit status 1 where a gradient is not finite, or nothing
of it reaches a variable. Takes some ten seconds a network.
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_list("models", [], "Builders' names; all if not set.")
flags.DEFINE_enum("head", "both", ["both", "deeplabv3", "semantic_fpn"], "Which head.")
flags.DEFINE_integer("size", 96, "Height of the images; they are a half wider.", lower_bound=64)

CLASSES = 5


def check_step(name, head, size):
    """Takes a step.

    Returns: the number of trainable variables, those whose gradient is not finite, and those that
        no gradient reaches, by their paths.
    """
    import keras
    import numpy as np

    import keras_hybrid

    keras.utils.set_random_seed(0)
    shape = (size, size * 3 // 2, 3)
    backbone = keras_hybrid.build_model(name, weights=None, include_top=False, input_shape=shape)
    model = getattr(keras_hybrid, head)(backbone, CLASSES)
    random = np.random.default_rng(0)
    images = random.normal(size=(2, *shape)).astype("float32")
    masks = random.integers(0, CLASSES, (2, *shape[:2])).astype("int32")
    masks[:, :8] = 255
    model.compile(keras.optimizers.SGD(1.0), keras_hybrid.SegmentationLoss(), run_eagerly=True)
    variables = model.trainable_variables
    before = [keras.ops.convert_to_numpy(variable).copy() for variable in variables]
    model.fit(images, masks, verbose=0)
    bad, unmoved = [], []
    for variable, old in zip(variables, before, strict=True):
        gradient = old - keras.ops.convert_to_numpy(variable)
        if not np.isfinite(gradient).all():
            bad.append(variable.path)
        elif not gradient.any():
            unmoved.append(variable.path)
    return len(variables), bad, unmoved


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"what is {argv[1]!r}?")
    import keras_hybrid

    heads = ["deeplabv3", "semantic_fpn"] if FLAGS.head == "both" else [FLAGS.head]
    failed = False
    for name in FLAGS.models or keras_hybrid.list_models():
        for head in heads:
            count, bad, unmoved = check_step(name, head, FLAGS.size)
            failed |= bool(bad)
            print(
                f"{head} on {name}: {count} variables, {len(bad)} gradients not finite {bad[:3]}, "
                f"{len(unmoved)} variables unmoved {unmoved[:3]}",
                flush=True,
            )
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    app.run(main)
