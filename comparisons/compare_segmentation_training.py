"""Training of DeepLabv3-MobileViT-XXS beside Hugging Face's in PyTorch: the losses, step by step.

    python comparisons/compare_segmentation_training.py

Both start from the same random weights, see the same batches of digits' scenes, and train with
AdamW, without dropout. Losses are to agree within 1 % at each of the first 20 steps and within 5 %
over the last ten of all: where they do not, a gradient, a batch norm, the loss or the optimiser is
another. Prints the losses; exit status 1 where they differ by more. Needs `torch` and
`transformers`; any backend of Keras.
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_integer("steps", 100, "Of both.", lower_bound=20)
flags.DEFINE_integer("batch_size", 8, "Images of a step.", lower_bound=2)
flags.DEFINE_integer("size", 128, "Height and width of the scenes.", lower_bound=64)
flags.DEFINE_float("learning_rate", 5e-4, "Of both.")

CLASSES, FIRST, LAST = 11, 20, 10
FIRST_BAR, LAST_BAR = 0.01, 0.05
WEIGHT_DECAY = 0.01


def hugging_face_model(size):
    """Hugging Face's network of the published XXS's sizes, random weights, without dropout."""
    import torch
    from transformers import MobileViTConfig, MobileViTForSemanticSegmentation

    torch.manual_seed(0)
    config = MobileViTConfig(
        image_size=size,
        hidden_sizes=[64, 80, 96],
        neck_hidden_sizes=[16, 16, 24, 48, 64, 80, 320],
        expand_ratio=2.0,
        output_stride=16,
        num_labels=CLASSES,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        classifier_dropout_prob=0.0,
        aspp_dropout_prob=0.0,
        semantic_loss_ignore_index=255,
    )
    return MobileViTForSemanticSegmentation(config).train()


def own_model(size, state_dict):
    """This project's network with the same weights."""
    import keras_hybrid

    backbone = keras_hybrid.MobileViTXXS(
        include_top=False, weights=None, input_shape=(size, size, 3), output_stride=16
    )
    model = keras_hybrid.deeplabv3(backbone, CLASSES, dropout_rate=0.0, channel_dropout_rate=0.0)
    return keras_hybrid.load_checkpoint(model, state_dict)


def batches(steps, batch_size, size):
    """Pictures from 0 to 1 and masks of digits' scenes, with a border that counts nothing."""
    import numpy as np

    from keras_hybrid.training.data.digit_scenes.scenes import digit_scenes

    scenes = digit_scenes(steps * batch_size, size)
    for start in range(0, len(scenes), batch_size):
        part = scenes[start : start + batch_size]
        masks = np.stack([scene.mask for scene in part]).astype("int32")
        masks[:, :4] = 255
        yield np.stack([scene.image for scene in part]).astype("float32") / 255, masks


def compare(steps=100, batch_size=8, size=128, learning_rate=5e-4):
    """Trains both; returns the losses of each, (steps,)."""
    import numpy as np
    import torch

    import keras_hybrid
    from keras_hybrid.training.optimization.adamw import ScaledAdamW

    theirs = hugging_face_model(size)
    ours = own_model(size, theirs.state_dict())
    optimizer = torch.optim.AdamW(
        theirs.parameters(), lr=learning_rate, weight_decay=WEIGHT_DECAY, eps=1e-8
    )
    ours.compile(
        ScaledAdamW(learning_rate, weight_decay=WEIGHT_DECAY),
        keras_hybrid.SegmentationLoss(),
        jit_compile=False,  # to compile takes longer than the steps
    )
    losses = []
    for images, masks in batches(steps, batch_size, size):
        optimizer.zero_grad()
        pixels = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
        loss = theirs(pixel_values=pixels, labels=torch.from_numpy(masks).long()).loss
        loss.backward()
        optimizer.step()
        losses.append((float(ours.train_on_batch(images, masks)), loss.item()))
    return np.array(losses).T


def differences(ours, theirs):
    """The largest relative difference of the first steps, and that of the last ones' means."""
    import numpy as np

    first = np.abs(ours / theirs - 1)[:FIRST].max()
    return first, abs(ours[-LAST:].mean() / theirs[-LAST:].mean() - 1)


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"what is {argv[1]!r}?")
    ours, theirs = compare(FLAGS.steps, FLAGS.batch_size, FLAGS.size, FLAGS.learning_rate)
    for step in sorted({*range(0, len(ours), max(1, len(ours) // 20)), len(ours) - 1}):
        print(f"step {step + 1:4d}  Keras {ours[step]:.5f}  PyTorch {theirs[step]:.5f}")
    first, last = differences(ours, theirs)
    print(
        f"largest difference of the first {FIRST} steps {first:.4%} (bar {FIRST_BAR:.0%}), of the "
        f"means of the last {LAST} {last:.3%} (bar {LAST_BAR:.0%})"
    )
    if first > FIRST_BAR or last > LAST_BAR:
        sys.exit(1)


if __name__ == "__main__":
    app.run(main)
