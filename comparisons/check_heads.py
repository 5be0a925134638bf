"""Every backbone under every segmentation head: built, trained a step, saved, loaded, converted.

    python comparisons/check_heads.py
    python comparisons/check_heads.py --models=IFormerT,MobileFormer26M --heads=semantic_fpn

Prints a line for each pair and exits with status 1 where one fails: a gradient that is missing or
not finite, a network read back that computes something else, a file that does.
"""

import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, flags, logging

HEADS = {
    "deeplabv3": {"aspp_channels": 16},
    "semantic_fpn": {"neck_channels": 16, "head_channels": 8},
}
FLAGS = flags.FLAGS
flags.DEFINE_list("models", [], "Builders' names; all if not set.")
flags.DEFINE_list("heads", list(HEADS), "Functions of `keras_hybrid`.")
flags.DEFINE_integer("size", 64, "Height and width of the image.", 64)


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"what is {argv[1]!r}?")
    logging.set_verbosity(logging.WARNING)  # TensorFlow tells about every file it writes
    import keras

    import keras_hybrid

    failed = []
    for name in FLAGS.models or keras_hybrid.list_models():
        for head in FLAGS.heads:
            found = check(name, head)
            print(f"{name:<16} {head:<12} {found or 'good'}", flush=True)
            failed += [(name, head)] if found else []
            keras.backend.clear_session()
    print(f"{len(failed)} failed" if failed else "all are good")
    sys.exit(bool(failed))


def check(name, head):
    """What is wrong with a backbone under a head; nothing if all is well."""
    import keras
    import numpy as np
    import tensorflow as tf

    import keras_hybrid

    size = (FLAGS.size, FLAGS.size, 3)
    backbone = keras_hybrid.build_model(name, weights=None, include_top=False, input_shape=size)
    model = getattr(keras_hybrid, head)(backbone, 3, **HEADS[head])
    random = np.random.default_rng(0)
    images = random.uniform(size=(2, *size)).astype("float32")
    labels = random.integers(0, 3, (2, *size[:2]))
    with tf.GradientTape() as tape:
        loss = keras_hybrid.SegmentationLoss()(labels, model(images, training=True))
    gradients = tape.gradient(loss, model.trainable_variables)
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        if gradient is None or not np.isfinite(gradient).all():
            return f"gradient of {variable.path}"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.keras")
        model.save(file)
        again = keras.models.load_model(file)
        if not np.allclose(again(images), model(images), atol=1e-5):
            return "another network after saving"
        path = keras_hybrid.export_tflite(again, Path(folder, "model.tflite"), output="logits")
        error = keras_hybrid.verify_tflite(path, model, images).relative_error
    return f"file is {error:.1e} off" if error > 1e-4 else None


if __name__ == "__main__":
    app.run(main)
