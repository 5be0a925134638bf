"""Writes recipes/README.md: the recipes, what was published, their cost, what has been run here.

    python recipes/write_readme.py

A finished run becomes a row of recipes/results.json, with the command that repeats it, and so of
the page; the result of compare_finetuning.py likewise:

    python recipes/write_readme.py --add=runs/a --recipe=imagenet/mobilevit --variant=XXS
    python recipes/write_readme.py --add=runs/comparison

Takes seconds. A test keeps the page up to date.
"""

import datetime
import json
import os
import platform
import re
import runpy
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_string("add", None, "Folder of a run, or of a comparison, to add.")
flags.DEFINE_string("recipe", None, "With a run: its recipe, such as imagenet/mobilevit.")
flags.DEFINE_string("variant", None, "With a run: its recipe's variant.")

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.json"
NAMES = (
    "digits",
    *(f"imagenet/{family}" for family in ("mobile_former", "mobilevit", "iformer")),
    "distill/iformer",
    *(f"finetune/{family}" for family in ("mobile_former", "mobilevit", "iformer")),
    *(f"segment/{name}" for name in ("digits", "mobilevit", "iformer")),
    *(
        f"detect/{name}"
        for name in ("digits", "mobilevit", "mobile_former", "digit_instances", "iformer")
    ),
)
IMAGENET_IMAGES = 1_281_167

TEXT = """# Recipes

Written by `python recipes/write_readme.py`; edit that, not this.

A recipe is a file with `get_recipe(variant)`: literal numbers under a docstring with the command,
the cost and the result to expect. `train.py` runs any of them with `model.fit`; arguments after the
flags replace numbers by name and type.

```
python recipes/train.py --recipe=digits --variant=MobileViTXXS --data=digits --out=runs/a epochs=3
python recipes/train.py --recipe=imagenet/iformer --variant=M --data=imagenet2012 --dry_run
python recipes/train.py --recipe=finetune/mobilevit --variant=XS --data=folder:/my/pictures \\
    --out=runs/pictures
python recipes/train.py --recipe=segment/digits --data=digit_scenes --out=runs/scenes
python recipes/train.py --recipe=detect/digits --data=digit_scenes --out=runs/detected
python recipes/train.py --recipe=detect/digit_instances --data=digit_scenes --out=runs/masks
python recipes/evaluate.py --run=runs/a
python comparisons/compare_finetuning.py --out=runs/comparison
python comparisons/compare_quantizers.py --run=runs/a --out=runs/quantizers \\
    --ai_edge_quantizer=peer/bin/python
```

Data: `digits`, any classification set of TFDS by its name, or `folder:/path` with a folder of
images for each class, or with `train` and `validation` folders of such folders. For segmentation
`digit_scenes`, which needs no download, `coco/2017_panoptic`, or `folder:/path` with pictures in
`images` and a mask for each in `masks` (PNGs of class numbers, with a palette or grey, 255 for
none; or of colors, with a table `colors.json`), VOC's `VOCdevkit/VOC2012` or
`ADEChallengeData2016`. For detection `digit_scenes`, TFDS' `coco/2017` or `voc`, or `folder:/path`
in COCO's JSON, Pascal VOC's XML or YOLO's text files. For Mask R-CNN `digit_scenes`, `folder:/path`
in COCO's JSON with a "segmentation" of each object (COCO's own folder, by which the published mask
AP is), or a TFDS set whose objects have masks: `coco/2017_panoptic`, of which the 80 things are
objects (its masks do not overlap: what lies in front takes the pixels), and `lvis`; `coco/2017` has
boxes alone. Boxes and masks of TFDS are turned along with pictures that EXIF says lie on their
side. With `shorter_side`, as the published recipes for COCO at 800 x 1333 px have it, the images of
a batch of objects are all wide or all upright, so that less is padded than in squares: of 480 x 640
px 22 % of the pixels in place of 53 %. Orientation is that which EXIF says, squares count as wide,
and what fills no batch of its kind is left out of that epoch. The same command resumes a run that
was interrupted: weights, optimiser, moving average, schedule, random states and data order are as
if nothing had happened. Ctrl-C and SIGTERM end it after the step; a killed process goes on from its
last finished epoch, or with --save_minutes from some minutes ago. Other devices, precision,
accumulation and paths of the data are taken and said; docs/scale.md has more.

| recipe | variants | published | cost |
| --- | --- | --- | --- |
{recipes}

## What is published, and what is inferred

| recipe | from the paper or the authors' configuration | inferred |
| --- | --- | --- |
| `imagenet/mobile_former` | epochs, batch, Table 11, RandAugment `m9-mstd0.5` without `inc` | \
what the authors' unpublished program takes from timm 0.3.4's defaults: warm-up of 3 epochs from \
1e-4, floor 1e-5 and 10 epochs of cool-down, the schedule by epoch, label smoothing 0.1, decay \
of the tokens, random interpolation, mixup drawn for each 128 images |
| `imagenet/mobilevit` | epochs, batch, scales, rates, 3,000 steps of warm-up (a later \
configuration has 20,000), decay of all weights, smoothing, moving average, dropout 0.1 in the \
transformers, bilinear crops, 256 of 288 px in evaluation | the cosine by epoch from the end of \
the warm-up |
| `imagenet/iformer` | epochs, batch, rates, augmentation with bicubic moves, drop path (L 0.1, \
H 0.6), decay of H's layer scales | the batch of H's rate of 8e-3, which is not stated: 4,096 \
here, 8,192 would be linear |
| `segment/mobilevit` | epochs, batch, rates with the head's ten times as high, sizes, moving \
average; of S_stride8 augmentation, second head, accumulation | where the cosine starts; VOC's own \
training list in place of 10,582 images with COCO's |
| `segment/iformer` | all of the authors' configuration: rates, poly schedule, decay, sizes, \
frozen statistics, divisor of the loss | 63 epochs in place of 40,000 steps (39,753) |
| `detect/mobilevit` | epochs, batch, rates, decay of all weights, moving average, dropout, crops, \
distortion, size | images in RGB in place of BGR; the best epoch by AP, where the authors' first \
release took the loss |
| `detect/mobile_former` | 12 epochs, "standard settings" | all else is MMDetection's: batch, \
schedule, sizes, frozen statistics, AdamW of its RetinaNet on PVT |
| `detect/iformer` | all of the authors' configuration: rates, steps, decay of all weights, \
samplers, losses, sizes, frozen statistics | batches padded to one of two sizes, in place of \
their largest image's; masks resized between pixels' centers |
| `distill/iformer` | as `imagenet/iformer`, the hard loss and its share | the teacher: \
ConvNeXt-S in place of RegNetY-16GF |

AdamW is PyTorch's for all (epsilon 1e-8, outside of the corrected root), kernels start with the
authors' deviations, and batch norms see all images of a step: the authors' see those of one device
(128; iFormer 512), as `batch_norm_per_device=true` has it on mirrored devices.

## What has been run here

ImageNet has not: the published recipes have been checked against the papers' numbers, dry-run, and
run on digits with fewer epochs and smaller images, as below. Seconds are those of all epochs, with
evaluation, other work on the machine included; a start adds 10 to 20.

| recipe | what | accuracy, mIoU or AP | seconds | machine |
| --- | --- | --- | --- | --- |
{results}

{commands}
"""


def recipe_rows():
    """A row of the table for each recipe, from its docstring and numbers."""
    rows = []
    for name in NAMES:
        module = runpy.run_path(str(HERE / f"{name}.py"))
        variants = module.get("VARIANTS")
        recipe = module["get_recipe"]()
        found = re.search(r"^Published[^:]*: (.+?)\n\n", module["__doc__"] + "\n\n", re.M | re.S)
        published = " ".join(found[1].split()).rstrip(".")
        side = getattr(recipe, "shorter_side", None)
        size = f"{side} x {recipe.resolution}" if side else recipe.resolution
        cost = f"{recipe.epochs} epochs, batches of {recipe.batch_size}, {size} px"
        if name.startswith(("imagenet", "distill")):
            sizes = list(recipe.scale_batch_sizes.values()) or [recipe.batch_size]
            steps = int(IMAGENET_IMAGES / (sum(sizes) / len(sizes))) * recipe.epochs
            cost += f": {steps:,} steps on ImageNet"
        shown = ", ".join(variants) if variants else "any of `list_models()`"
        rows.append(f"| `{name}` | {shown} | {published} | {cost} |")
    return "\n".join(rows)


def render(results):
    """The page, from the rows of results.json."""
    rows = "\n".join(
        f"| `{row['recipe']}` | {row['what']} | {row['accuracy']:.2%} | {row['seconds']:.0f} | "
        f"{row['machine']} |"
        for row in results
    )
    commands = "\n\n".join(
        f"{row['what']} ({row['date']}, {row['versions']}):\n\n```\n{wrap(row['command'])}\n```"
        for row in results
    )
    return TEXT.format(recipes=recipe_rows(), results=rows, commands=commands)


def wrap(command, width=96):
    """A shell command in lines, continued by backslashes."""
    lines = [""]
    for word in command.split():
        if len(lines[-1]) + 1 + len(word) > width:
            lines[-1] += " \\"
            lines.append("   ")
        lines[-1] += f" {word}" if lines[-1] else word
    return "\n".join(lines)


def assignments(recipe, base):
    """The overrides that make the recipe of its base."""

    def text(value):
        if isinstance(value, dict):
            return ",".join(f"{name}={text(part)}" for name, part in value.items())
        if isinstance(value, tuple | list):
            return ",".join(map(text, value))
        return str(value).lower() if value is None or isinstance(value, bool) else str(value)

    from keras_hybrid.training.recipe.common import as_plain

    old = as_plain(base)
    return [f"{name}={text(new)}" for name, new in as_plain(recipe).items() if old[name] != new]


def described_run(folder, name, variant):
    """The row of a finished run.

    Raises:
        ValueError: when the folder holds none, or another model's than the recipe's.
    """
    from keras_hybrid.training.recipe.recipe import load_recipe, override
    from keras_hybrid.training.run.run_folder import load_run
    from keras_hybrid.training.tasks.of_recipe import task_of

    if name is None:
        raise ValueError("--add of a run needs --recipe, and --variant where it has one")
    run = load_run(folder)
    base = load_recipe(HERE / f"{name}.py", variant, type(run.recipe))
    changes = assignments(run.recipe, base)
    if override(base, changes) != run.recipe or run.recipe.model != base.model:
        raise ValueError(
            f"The run's model is {run.recipe.model}. "
            f"Received: --recipe={name} --variant={variant}, whose model is {base.model}"
        )
    words = ["python recipes/train.py", f"--recipe={name}"]
    words += [f"--variant={variant}"] if variant else []
    words += [f"--data={run.data}", f"--out=runs/{folder.name}", *changes]
    epochs = len(run.history)
    return {
        "recipe": name,
        "what": f"{run.recipe.model} on {run.data}, {epochs} epochs at {run.recipe.resolution} px",
        "command": " ".join(words),
        "accuracy": run.history[-1][f"val_{task_of(run.recipe).metric(run.recipe)}"],
        "seconds": sum(row["seconds"] for row in run.history),
    }


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"what is {argv[1]!r}?")
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else []
    from keras_hybrid.files import write_text

    if FLAGS.add:
        import keras

        folder = Path(FLAGS.add).resolve()
        comparison = folder / "result.json"
        try:
            if comparison.exists():
                row = json.loads(comparison.read_text(encoding="utf-8"))
            else:
                row = described_run(folder, FLAGS.recipe, FLAGS.variant)
        except ValueError as error:
            sys.exit(f"write_readme.py: {error}")
        newest = max(path.stat().st_mtime for path in folder.iterdir())
        row |= {
            "machine": f"{os.cpu_count()} cores, {platform.machine()}",
            "versions": f"Keras {keras.__version__} on {keras.backend.backend()}",
            "date": datetime.date.fromtimestamp(newest).isoformat(),
        }
        results = [old for old in results if old["command"] != row["command"]] + [row]
        order = {name: place for place, name in enumerate(NAMES)}
        results.sort(key=lambda row: order.get(row["recipe"], len(order)))
        write_text(RESULTS, json.dumps(results, indent=1) + "\n")
    write_text(HERE / "README.md", render(results))
    print(HERE / "README.md")


if __name__ == "__main__":
    app.run(main)
