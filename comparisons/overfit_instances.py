"""Whether Mask R-CNN learns at all: eight scenes of digits by heart.

    python comparisons/overfit_instances.py
    python comparisons/overfit_instances.py --files=runs/instances

On iFormer-T, from random weights, at 160 px; pyramid and heads are 64 channels wide in place of
256, the box head 256 units in place of 1,024; of an image 128 regions are proposed in place of
1,000, and 64 drawn in place of 512, 16 of them positive in place of 128.
Batch norms stay in inference mode all through, as the authors train, so that their statistics are
measured on the scenes first. Average precision of the masks on the scenes themselves is to reach
0.90 at an overlap of 0.5 within twenty minutes on two cores, and each of the five parts of the loss
is to fall: what falls short of that has a wrong gradient, target or loss somewhere. Measured: AP
and AP50 of boxes and masks 1.00 after 160 steps, in 2.6 minutes of processor time; the five parts
end at 0.00, 0.00, 0.04 (classes), 0.04 (boxes) and 0.05 (masks). Prints a line every
`--report_steps`. With `--files` the network is written there as files for a phone, in float and
with backbone and pyramid in int8, and these are compared with Keras on ten scenes.
"""

import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_integer("steps", 160, "Of eight images each.", lower_bound=60)
flags.DEFINE_integer("report_steps", 40, "Steps from line to line.", lower_bound=1)
flags.DEFINE_string("files", None, "Folder to write files for a phone to, and compare them.")

SCENES, SIZE, CLASSES, WARMUP = 8, 160, 10, 50
LEARNING_RATE, CLIP_NORM = 1e-3, 10.0


def make_model():
    """Mask R-CNN with narrow heads on iFormer-T, with random weights."""
    import keras_hybrid

    backbone = keras_hybrid.IFormerT(
        include_top=False, weights=None, input_shape=(SIZE, SIZE, 3), drop_path_rate=0.0
    )
    return keras_hybrid.mask_rcnn(
        backbone, CLASSES, channels=64, box_units=256, max_proposals=128, max_detections=20
    )


def measure_statistics(model, images):
    """Gives the batch norms the statistics of the images: fresh ones know nothing of them."""
    import keras

    norms = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    for norm in norms:
        norm.momentum = 0.0
    trunk = keras.Model(model.inputs[0], norms[-1].output)
    trunk(images, training=True)
    for norm in norms:
        norm.momentum = 0.9


def overfit(steps, report_steps):
    """Trains on eight scenes; returns the network, the last AP of masks, and the losses."""
    import keras
    import numpy as np

    import keras_hybrid
    from keras_hybrid.tasks.detection.objects import padded
    from keras_hybrid.training.data.digit_scenes.scenes import digit_scenes

    keras.utils.set_random_seed(0)
    scenes = digit_scenes(SCENES, SIZE)
    model = make_model()
    pictures = [scene.image for scene in scenes]
    images = keras_hybrid.preprocess_input(np.stack(pictures), model)
    objects = [
        keras_hybrid.Objects(scene.boxes, scene.labels, masks=scene.instances) for scene in scenes
    ]
    targets = padded(objects)
    measure_statistics(model, images)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps - WARMUP, alpha=0.01, warmup_target=LEARNING_RATE, warmup_steps=WARMUP
    )
    training = keras_hybrid.InstanceTraining(model, regions=64, positive_regions=16, candidates=256)
    training.compile(keras.optimizers.AdamW(schedule, weight_decay=1e-4, global_clipnorm=CLIP_NORM))
    began = time.process_time()
    first = None
    for start in range(0, steps, report_steps):
        count = min(report_steps, steps - start)
        history = training.fit(images, targets, SCENES, epochs=count, verbose=0).history
        first = first or {kind: values[0] for kind, values in history.items()}
        last = {kind: values[-1] for kind, values in history.items()}
        found = keras_hybrid.detect(model, pictures)
        boxes = keras_hybrid.average_precision(found, objects, CLASSES)
        masks = keras_hybrid.average_precision(found, objects, CLASSES, of="masks")
        losses = ", ".join(f"{kind} {value:.3f}" for kind, value in sorted(last.items()))
        print(
            f"{start + count} steps: boxes AP {boxes.ap:.3f}, AP50 {boxes.ap50:.3f}; masks AP "
            f"{masks.ap:.3f}, AP50 {masks.ap50:.3f}; {losses}; "
            f"{time.process_time() - began:.0f} s of processor time",
            flush=True,
        )
    return model, masks, first, last


def compare_files(model, folder):
    """Writes the files of both precisions and prints what they find on ten scenes, and cost."""
    import numpy as np

    import keras_hybrid
    from keras_hybrid.export.inspect import inspect_tflite
    from keras_hybrid.export.instances import export_instances
    from keras_hybrid.tasks.instances.host_loop import FILES, InstanceFiles
    from keras_hybrid.training.data.digit_scenes.scenes import digit_scenes

    scenes = digit_scenes(10, SIZE)  # the eight, and two more
    objects = [keras_hybrid.Objects(x.boxes, x.labels, masks=x.instances) for x in scenes]
    pictures = [scene.image for scene in scenes]
    expected = keras_hybrid.detect(model, pictures)
    images = keras_hybrid.preprocess_input(np.stack(pictures), model)
    for precision in ("float32", "int8"):
        path = os.path.join(folder, precision)
        data = images if precision == "int8" else None
        export_instances(model, path, precision, representative_data=data)
        files = InstanceFiles(path)
        files.detect(images[0])
        began = time.perf_counter()
        found = [keras_hybrid.Detections(**files.detect(image)) for image in images]
        seconds = (time.perf_counter() - began) / len(images)
        lost = sum(
            count_lost(a, b) + count_lost(b, a) for a, b in zip(found, expected, strict=True)
        )
        total = sum(map(len, expected))
        known = keras_hybrid.average_precision(
            found[:SCENES], objects[:SCENES], CLASSES, of="masks"
        )
        print(
            f"{precision}: {total} objects of Keras, {lost} without an equal on either side; masks "
            f"on the eight AP {known.ap:.3f}, AP50 {known.ap50:.3f}; {seconds * 1e3:.0f} ms a "
            "picture, one thread, host loop included"
        )
        for name in FILES:
            seen = inspect_tflite(os.path.join(path, name))
            left = ", ".join(sorted(seen.undelegated)) or "nothing"
            print(
                f"  {name}: {seen.size_bytes / 1e6:.2f} MB, {seen.num_ops} operators of "
                f"{len(seen.ops)} kinds, {seen.partitions} partitions; left by XNNPACK: {left}"
            )


def count_lost(found, expected):
    """How many expected objects have none of the same label, place, score and mask."""
    import numpy as np

    lost = 0
    for box, score, label, mask in zip(
        expected.boxes, expected.scores, expected.labels, expected.masks, strict=True
    ):
        same = (found.labels == label) & (np.abs(found.scores - score) <= 1e-3)
        same &= np.abs(found.boxes - box).max(axis=1, initial=0) <= 0.05
        same &= (found.masks != mask).sum(axis=(1, 2)) <= 4  # pixels
        lost += not same.any()
    return lost


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"what is {argv[1]!r}?")
    model, masks, first, last = overfit(FLAGS.steps, FLAGS.report_steps)
    if FLAGS.files:
        compare_files(model, FLAGS.files)
    if not masks.ap50 >= 0.9:
        raise SystemExit(f"AP50 of the masks {masks.ap50:.3f}: 0.90 was to be had")
    if risen := [kind for kind in first if not last[kind] < first[kind]]:
        raise SystemExit(f"Every part of the loss was to fall: {risen} did not")


if __name__ == "__main__":
    app.run(main)
