"""Is fine-tuning worth it? A trunk trained on five digits learns five others from few images.

    python comparisons/compare_finetuning.py --out=runs/comparison
    python comparisons/compare_finetuning.py --model=MobileViTXXS --seeds=1 --out=runs/xxs epochs=8

First recipes/digits.py on the digits 0 to 4. Then, seed by seed, its trunk with a new head by the
family's recipe of recipes/finetune/ on the digits 5 to 9 with 20 images of each, and the same
images from scratch by recipes/digits.py, in as many steps: 24 epochs, 120 steps. Prints both side
by side, on all test images of the digits 5 to 9, and draws them epoch by epoch. Each run is resumed
where it was interrupted. Arguments after the flags replace numbers of the runs on the new digits.
Takes ten minutes on two cores. (Early epochs from scratch are evaluated at chance however much was
learnt: the moving statistics of many batch norms need some fifty steps. Compare the last ones.)
"""

import dataclasses
import json
import os
import sys
from pathlib import Path
from statistics import mean, stdev

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_string("model", "MobileFormer26M", "A builder's name; list_models() has all.")
flags.DEFINE_string("out", None, "Folder of the runs.", required=True)
flags.DEFINE_integer("images", 20, "Training images of each new digit.", lower_bound=1)
flags.DEFINE_integer("seeds", 3, "How many runs of each kind.", lower_bound=1)
flags.DEFINE_string("data_dir", None, "TFDS' folder of prepared sets; TFDS' default if not set.")

# What 100 small images of digits need, fine-tuned or not.
SMALL = (
    "resolution=64",
    "epochs=24",
    "batch_size=20",
    "warmup_epochs=1",
    "flip_probability=0",
    "crop_area=0.7,1",
    "crop_aspect=0.85,1.18",
    "crop_fraction=1",
)
# The recipes of recipes/finetune/ start from ImageNet, not from 700 digits: here the trunk has much
# to learn still, at the rate of training from scratch and in all of its depth.
FINETUNED = (
    "learning_rate=2e-3",
    "layer_decay=none",
    "label_smoothing=0.1",
    "randaugment_magnitude=none",
    "erase_probability=0",
    "ema_momentum=none",
    "new_classifier=true",
)


def main(argv):
    from keras_hybrid.models.catalogue import builder_family
    from keras_hybrid.training.data.sources import open_source
    from keras_hybrid.training.data.subset import subset
    from keras_hybrid.training.pictures import plot_comparison
    from keras_hybrid.training.recipe.recipe import load_recipe, override
    from keras_hybrid.training.run.run import train
    from keras_hybrid.training.run.startup import prepare_process

    prepare_process()
    import keras

    out, recipes = Path(FLAGS.out), Path(__file__).parents[1] / "recipes"
    try:
        family = builder_family(FLAGS.model)  # refuses unknown names
        variant = FLAGS.model[len(family.replace("_", "")) :]
        digits = load_recipe(recipes / "digits.py", FLAGS.model)
        finetuning = load_recipe(recipes / "finetune" / f"{family}.py", variant)
        finetuning = override(
            dataclasses.replace(finetuning, initial_weights=str(out / "pretrained")),
            [*SMALL, *FINETUNED, *argv[1:]],
        )
        scratch = override(digits, [*SMALL, *argv[1:]])
        source = open_source("digits", FLAGS.data_dir)
        old = subset(source, "01234")
        new = subset(source, "56789", FLAGS.images)
        print(f"pretrained: {old.name}", file=sys.stderr)
        train(digits, old, out / "pretrained")
        histories = {"fine-tuned": [], "from scratch": []}
        for seed in range(FLAGS.seeds):
            for (name, rows), recipe in zip(histories.items(), (finetuning, scratch), strict=True):
                print(f"{name}, seed {seed}: {new.name}", file=sys.stderr)
                folder = out / f"{name.replace(' ', '_')}_seed{seed}"
                run = train(dataclasses.replace(recipe, seed=seed), new, folder)
                rows.append(run.history)
                keras.backend.clear_session()
    except ValueError as error:
        sys.exit(f"compare_finetuning.py: {error}")

    plot_comparison(histories, out / "comparison.png")
    half = (len(histories["fine-tuned"][0]) + 1) // 2
    rows = {
        "test accuracy": lambda rows: 100 * rows[-1]["val_accuracy"],
        "test accuracy, best epoch": lambda rows: 100 * max(row["val_accuracy"] for row in rows),
        f"test accuracy, epoch {half}": lambda rows: 100 * rows[half - 1]["val_accuracy"],
        "test loss": lambda rows: rows[-1]["val_loss"],
        "seconds": lambda rows: sum(row["seconds"] for row in rows),
    }
    seeds = "1 seed" if FLAGS.seeds == 1 else f"{FLAGS.seeds} seeds, mean and spread"
    print(f"{FLAGS.model}, {new.name}, {new.sizes['test']} test images, {seeds}")
    print(f"{'':<28}{'fine-tuned':>20}{'from scratch':>20}")
    for label, value in rows.items():
        texts = [mean_and_spread(list(map(value, each))) for each in histories.values()]
        print(f"{label:<28}" + "".join(f"{text:>20}" for text in texts))
    means = {
        name: mean(rows[-1]["val_accuracy"] for rows in each) for name, each in histories.items()
    }
    tuned, fresh = means.values()
    result = {
        "what": f"fine-tuned from digits 0-4 to 5-9, {FLAGS.images} images a class, "
        f"mean of {FLAGS.seeds}: "
        f"{tuned:.2%}; from scratch: {fresh:.2%}",
        "command": f"python comparisons/compare_finetuning.py --model={FLAGS.model} "
        + " ".join([f"--images={FLAGS.images}", f"--seeds={FLAGS.seeds}"])
        + " ".join(["", "--out=runs/comparison", *argv[1:]]),
        "recipe": f"finetune/{family}",
        "accuracy": tuned,
        "seconds": sum(row["seconds"] for row in histories["fine-tuned"][0]),
    }
    (out / "result.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(out / "comparison.png")


def mean_and_spread(values):
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{mean(values):.2f} +- {stdev(values):.2f}"


if __name__ == "__main__":
    app.run(main)
