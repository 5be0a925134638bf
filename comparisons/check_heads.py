"""Every backbone under every head: built, trained a step, saved, loaded, converted.

    python comparisons/check_heads.py
    python comparisons/check_heads.py --models=IFormerT,MobileFormer26M --heads=semantic_fpn
    python comparisons/check_heads.py --heads=mask_rcnn --nofiles

Segmentation, detection and Mask R-CNN. Prints a line for each pair and exits with status 1 where
one fails: a gradient that is missing or not finite, a network read back that computes something
else, a file that does. --nofiles leaves the files out, which take most of the time.
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
    "ssdlite": {},
    "retinanet": {"channels": 16},
    "mask_rcnn": {
        "channels": 16,
        "box_units": 32,
        "mask_convolutions": 1,
        "max_proposals": 40,
        "max_detections": 10,
    },
}
CLASSES = 3
MOST_ERROR = 1e-4  # of a file, over the greatest value
FLAGS = flags.FLAGS
flags.DEFINE_list("models", [], "Builders' names; all if not set.")
flags.DEFINE_list("heads", list(HEADS), "Functions of `keras_hybrid`.")
flags.DEFINE_integer("size", 64, "Height and width of the image.", 64)
flags.DEFINE_bool("files", True, "Convert each network, too, and compare the file.")


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
    keras.utils.set_random_seed(0)
    backbone = keras_hybrid.build_model(name, weights=None, include_top=False, input_shape=size)
    model = getattr(keras_hybrid, head)(backbone, CLASSES, **HEADS[head])
    if head == "mask_rcnn":
        spread(model)
    images = np.random.default_rng(0).uniform(size=(2, *size)).astype("float32")
    with tf.GradientTape() as tape:
        loss = loss_of(model, head, images)
    gradients = tape.gradient(loss, model.trainable_variables)
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        if gradient is None or not np.isfinite(gradient).all():
            return f"gradient of {variable.path}"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.keras")
        model.save(file)
        again = keras.models.load_model(file)
        expected = keras.tree.flatten(model(images))
        for one, other in zip(keras.tree.flatten(again(images)), expected, strict=True):
            if not np.allclose(one, other, atol=1e-5):
                return "another network after saving"
        if not FLAGS.files:
            return None
        output = "logits" if head in ("deeplabv3", "semantic_fpn") else "float32"
        path = keras_hybrid.export_tflite(again, Path(folder, "model.tflite"), output=output)
        if head == "mask_rcnn":
            return compare_objects(path, model, images)
        if head in ("ssdlite", "retinanet"):
            return compare_outputs(path, model, images)
        error = keras_hybrid.verify_tflite(path, model, images).relative_error
    return f"file is {error:.1e} off" if error > MOST_ERROR else None


def spread(model):
    """Gives objects scores of their own: of fresh heads all are alike, and the order is chance."""
    import keras

    for seed, name in enumerate(("head_rpn_logits", "head_rpn_offsets", "head_box_logits")):
        kernel = model.get_layer(name).kernel
        kernel.assign(keras.random.normal(kernel.shape, stddev=0.5, seed=seed))


def loss_of(model, head, images):
    """The loss of a step on objects or labels by chance."""
    import numpy as np
    import tensorflow as tf

    import keras_hybrid

    random = np.random.default_rng(0)
    if head in ("deeplabv3", "semantic_fpn"):
        labels = random.integers(0, CLASSES, images.shape[:3])
        return keras_hybrid.SegmentationLoss()(labels, model(images, training=True))
    side = images.shape[1]
    boxes = np.array([[[0.1, 0.1, 0.5, 0.6], [0.3, 0.4, 0.9, 0.9]]] * 2, "float32") * side
    objects = {"boxes": boxes, "labels": np.array([[0, 2], [1, -1]], "int32")}
    if head == "mask_rcnn":
        rows = np.arange(side)[:, None] + np.arange(side)
        objects["masks"] = np.broadcast_to(rows < side, (2, 2, side, side)).astype("uint8")
        view = keras_hybrid.InstanceTraining(model, 16, 4, 100, inference_mode=False)
    else:
        view = keras_hybrid.DetectionTraining(model)
    images = tf.constant(images)
    return view.compute_loss(images, objects, view(images, training=True))


def compare_outputs(path, model, images):
    """What is wrong with a detector's file: raw outputs that are off, by the greatest."""
    import numpy as np

    from keras_hybrid.export.verify import run_tflite

    found = run_tflite(path, images)
    for name, values in model(images).items():
        expected = np.asarray(values)
        error = np.abs(found[name] - expected).max() / np.abs(expected).max()
        if not error <= MOST_ERROR:
            return f"{name} of the file is {error:.1e} off"
    return None


def compare_objects(path, model, images):
    """What is wrong with a Mask R-CNN's file: an object of Keras that is not among its own."""
    import numpy as np

    from keras_hybrid.export.verify import run_tflite

    expected = {key: np.asarray(x) for key, x in model(images).items()}
    found = run_tflite(path, images)
    lost = 0
    for image in range(len(images)):
        for place in np.flatnonzero(expected["scores"][image] > 0):
            same = found["labels"][image] == expected["labels"][image, place]
            near = np.abs(found["boxes"][image] - expected["boxes"][image, place]).max(axis=-1)
            masks = np.abs(found["masks"][image] - expected["masks"][image, place])
            lost += not (same & (near < 0.05) & (masks.max(axis=(1, 2)) < 1e-2)).any()
    return f"{lost} objects are not in the file's" if lost else None


if __name__ == "__main__":
    app.run(main)
