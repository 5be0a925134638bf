"""Converts weights: any published or Keras file to one for our models, and back.

The authors' pickle, once, to a file that loads without PyTorch:

    python recipes/convert_weights.py --model=IFormerM --source=iFormer_m_distill.pth \\
        --out=iformer_m.weights.h5

A model fine-tuned here, back to the names that the authors' code loads:

    python recipes/convert_weights.py --model=MobileViTS --classes=37 \\
        --source=runs/pets/best.keras --out=pets.safetensors --naming=hugging_face

--source takes .safetensors, .pth, .pt, .bin (read as tensors only, never executed), .weights.h5,
.keras, or a tag of published weights such as imagenet, which is downloaded. --out takes
.weights.h5, .keras, .safetensors, .pth, .pt, .bin. The file appears whole or not at all; nothing
is overwritten unless --overwrite is set. Takes seconds; the largest networks, a minute.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_string("model", None, "Name of the builder, such as IFormerM.", required=True)
flags.DEFINE_string("source", None, "File to convert, or a tag such as imagenet.", required=True)
flags.DEFINE_string("out", None, "File to write; its suffix says the format.", required=True)
flags.DEFINE_integer("classes", 1000, "Number of classes of the file.", lower_bound=1)
flags.DEFINE_bool("distillation", False, "Keep an iFormer's distillation head, not merged.")
flags.DEFINE_string(
    "naming",
    None,
    "Published names to write: authors (Mobile-Former, iFormer), timm (MobileViT, iFormer) or "
    "hugging_face (MobileViT); the first that the family has if not set.",
)
flags.DEFINE_string(
    "nesting",
    None,
    "Key of a pickle under which the weights go; where the authors' code looks if not set.",
)
flags.DEFINE_bool("ema", True, "Of a file with both: the moving average, or the last step.")
flags.DEFINE_bool(
    "swap_channels",
    False,
    "Turn the first convolution from BGR to RGB input, or back: Apple's MobileViT files take BGR.",
)
flags.DEFINE_bool("overwrite", False, "Replace --out where it exists.")


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"what is {argv[1]!r}?")
    import keras_hybrid
    from keras_hybrid.weights.checkpoints.save import swap_input_channels, write_checkpoint
    from keras_hybrid.weights.presets import is_tag

    out = Path(FLAGS.out)
    try:
        if out.exists() and not FLAGS.overwrite:
            raise ValueError(f"{out} exists; --overwrite replaces it.")
        named = is_tag(FLAGS.source)
        options = {"distillation": True} if FLAGS.distillation else {}
        model = keras_hybrid.build_model(
            FLAGS.model,
            classes=FLAGS.classes,
            weights=FLAGS.source if named else None,
            **options,
        )
        if not named:
            keras_hybrid.load_checkpoint(model, FLAGS.source, prefer_ema=FLAGS.ema)
        if FLAGS.swap_channels:
            swap_input_channels(model)
        write_checkpoint(model, out, FLAGS.naming, FLAGS.nesting)
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"convert_weights.py: {error}")
    print(f"{out}: {FLAGS.model}, {model.count_params():,} numbers, {out.stat().st_size:,} bytes")


if __name__ == "__main__":
    app.run(main)
