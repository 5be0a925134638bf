"""Whether a head learns at all: sixteen scenes of digits by heart, head by head.

    python comparisons/overfit_scenes.py --head=semantic_fpn
    python comparisons/overfit_scenes.py --head=deeplabv3

Each head on its family's smallest backbone, from random weights. mIoU of the eleven classes, on the
scenes themselves, is to reach 0.95 within ten minutes on two cores: what falls short of that has a
wrong gradient, label or loss somewhere. Prints mIoU, loss and the processor's seconds as it goes.
"""

import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_enum("head", "semantic_fpn", ["semantic_fpn", "deeplabv3"], "Which head.")
flags.DEFINE_integer("steps", 480, "Of four images each.", lower_bound=32)
flags.DEFINE_integer("size", None, "Of the scenes, in px; the head's own if not set.")
flags.DEFINE_integer("reports", 6, "Lines to print.", lower_bound=1)
flags.DEFINE_float("learning_rate", 2e-3, "Its peak.")

SCENES, BATCH_SIZE, CLASSES = 16, 4, 11
# Of backbone and head, without dropout; scenes are at least ten times as large as a head's stride.
SIZES = {"semantic_fpn": 128, "deeplabv3": 160}


def make_model(head, size):
    """The head on its smallest backbone, with random weights."""
    import keras_hybrid

    options = {"include_top": False, "weights": None, "input_shape": (size, size, 3)}
    if head == "deeplabv3":
        return keras_hybrid.deeplabv3(
            keras_hybrid.MobileViTXXS(output_stride=8, **options),
            CLASSES,
            dropout_rate=0.0,
            channel_dropout_rate=0.0,
        )
    return keras_hybrid.semantic_fpn(
        keras_hybrid.IFormerT(**options),
        CLASSES,
        neck_channels=64,
        head_channels=64,
        dropout_rate=0.0,
    )


def overfit(head, size=None, steps=480, learning_rate=2e-3, reports=6):
    """Trains on sixteen scenes; returns the last mIoU on them."""
    import keras
    import numpy as np

    import keras_hybrid
    from keras_hybrid.training.data.digit_scenes.scenes import digit_scenes

    size = size or SIZES[head]
    keras.utils.set_random_seed(0)
    scenes = digit_scenes(SCENES, size)
    model = make_model(head, size)
    images = np.stack([scene.image for scene in scenes])
    images = keras_hybrid.preprocess_input(images, model)
    masks = np.stack([scene.mask for scene in scenes]).astype("int32")
    warmup = steps // 16
    schedule = keras.optimizers.schedules.CosineDecay(
        learning_rate / 20,
        steps - warmup,
        alpha=0.01,
        warmup_target=learning_rate,
        warmup_steps=warmup,
    )
    model.compile(
        keras.optimizers.AdamW(schedule, weight_decay=1e-4),
        keras_hybrid.SegmentationLoss(),
        metrics=[keras_hybrid.LabelledMeanIoU(CLASSES)],
        jit_compile=False,
    )
    began, wall = time.process_time(), time.monotonic()
    for part in np.array_split(np.arange(steps // (SCENES // BATCH_SIZE)), reports):
        history = model.fit(images, masks, BATCH_SIZE, epochs=len(part), verbose=0).history
        found = model.evaluate(images, masks, BATCH_SIZE, verbose=0, return_dict=True)
        print(
            f"{head} on {model.name}, {size} px, {(part[-1] + 1) * SCENES // BATCH_SIZE} steps: "
            f"loss {history['loss'][-1]:.3f}, mIoU {found['mean_iou']:.3f}, "
            f"{time.process_time() - began:.0f} s of processor time, "
            f"{time.monotonic() - wall:.0f} s",
            flush=True,
        )
    return found["mean_iou"]


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"what is {argv[1]!r}?")
    reached = overfit(FLAGS.head, FLAGS.size, FLAGS.steps, FLAGS.learning_rate, FLAGS.reports)
    print(f"{FLAGS.head}: mIoU {reached:.3f} on {SCENES} scenes, 0.95 is to be reached")


if __name__ == "__main__":
    app.run(main)
