"""From nothing to a trained, converted, verified and timed model, in minutes on a laptop.

    python recipes/quickstart.py
    python recipes/quickstart.py --model=MobileViTXXS --name=my_run epochs=10

Trains on scikit-learn's handwritten digits, evaluates, converts to a float32 .tflite, compares it
with the Keras model on every test image, times it on this machine, quantises to int8, calibrated
alone and trained on, and writes runs/<name>/report.md with pictures. An interrupted run goes on
where it ended. Arguments after the flags replace numbers of recipes/digits.py; those of int8 are
in recipes/qat/digits.py.
"""

import os
import platform
import shlex
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_string("model", "MobileFormer26M", "A builder's name; list_models() has all.")
flags.DEFINE_string("name", None, "Name of the run's folder in runs/; quickstart_<model> if unset.")
flags.DEFINE_string("runs", "runs", "Folder of runs.")
flags.DEFINE_bool("preprocessing", False, "The .tflite takes RGB from 0 to 255.")
flags.DEFINE_integer("threads", 1, "Threads that the .tflite is timed with.", lower_bound=1)
flags.DEFINE_bool("int8", True, "Quantise to int8, too.")
flags.DEFINE_integer(
    "int8_epochs", None, "Of training in int8, 0 for none; the recipe's if unset.", lower_bound=0
)
flags.DEFINE_string("data_dir", None, "TFDS' folder of prepared sets; TFDS' default if not set.")

STEPS = ("train", "evaluate", "convert", "verify", "time", "quantise", "report")


def say(step):
    print(f"[{STEPS.index(step) + 1}/{len(STEPS)}] {step}", file=sys.stderr)


def quantise(run, source, folder):
    """The report of the run's model in int8."""
    from keras_hybrid.training.recipe.recipe import load_recipe, override
    from keras_hybrid.workflows.int8_recipe import QuantizedRecipe
    from keras_hybrid.workflows.int8_report import quantized_report
    from keras_hybrid.workflows.int8_run import train_quantized

    recipe = load_recipe(Path(__file__).parent / "qat" / "digits.py", kind=QuantizedRecipe)
    if FLAGS.int8_epochs is not None:
        recipe = override(recipe, [f"epochs={FLAGS.int8_epochs}"])
    return quantized_report(run, train_quantized(run, recipe, folder, source=source), source)


def main(argv):
    started = time.monotonic()
    # Imported here, so that --help answers at once.
    import keras
    import numpy as np

    import keras_hybrid
    from keras_hybrid.benchmark import benchmark_host
    from keras_hybrid.export.inspect import inspect_tflite
    from keras_hybrid.export.verify import verify_tflite
    from keras_hybrid.files import write_text
    from keras_hybrid.training.data.pipeline import evaluation_dataset
    from keras_hybrid.training.data.sources import open_source
    from keras_hybrid.training.evaluation import evaluate
    from keras_hybrid.training.pictures import plot_history, plot_predictions
    from keras_hybrid.training.recipe.recipe import load_recipe, override
    from keras_hybrid.training.run.run import train
    from keras_hybrid.training.run.startup import prepare_process

    prepare_process()
    folder = Path(FLAGS.runs) / (FLAGS.name or f"quickstart_{FLAGS.model}")
    say("train")
    try:
        recipe = load_recipe(Path(__file__).parent / "digits.py", FLAGS.model)
        recipe = override(recipe, argv[1:])
        source = open_source("digits", FLAGS.data_dir)
        run = train(recipe, source, folder)
    except ValueError as error:
        sys.exit(f"quickstart.py: {error}")

    say("evaluate")
    split = source.evaluation_split
    result = evaluate(run.model, evaluation_dataset(source, recipe, split))
    images = np.concatenate(
        [batch for batch, _ in evaluation_dataset(source, recipe, split, preprocess=False)]
    )

    say("convert")
    tflite = keras_hybrid.export_tflite(
        run.model, folder / "model.tflite", preprocessing=FLAGS.preprocessing
    )
    inspection = inspect_tflite(tflite)

    say("verify")
    inputs = images if FLAGS.preprocessing else keras_hybrid.preprocess_input(images, run.model)
    verification = verify_tflite(tflite, run.model, inputs, preprocessing=FLAGS.preprocessing)

    say("time")
    row = benchmark_host(tflite, FLAGS.threads)
    if row.status != "ok":
        sys.exit(f"quickstart.py: timing failed: {'; '.join(row.notes)}")

    int8 = None
    if FLAGS.int8:
        say("quantise")
        int8 = quantise(run, source, folder / "int8")

    say("report")
    plot_history(run.history, folder / "curves.png")
    plot_predictions(
        images, result.labels, result.scores, run.class_names, folder / "predictions.png"
    )
    size = recipe.resolution
    differing = "\n".join(
        f"- Test image {item.index}: class {item.keras_class} in Keras, {item.tflite_class} in the "
        f"file; Keras prefers its own by {item.margin:.2g}."
        for item in verification.differing
    )
    numbers = {
        "test accuracy": f"{result.accuracy:.2%} of {len(result.labels)} images",
        "parameters": f"{run.model.count_params():,}",
        f"multiply-adds at {size} x {size}": f"{keras_hybrid.count_multiply_adds(run.model):,}",
        "size of the .tflite": f"{inspection.size_bytes / 1e6:.2f} MB",
        "input of the .tflite": f"(1, {size}, {size}, 3) float32, "
        + ("RGB from 0 to 255" if FLAGS.preprocessing else "preprocessed"),
        "operators": f"{inspection.num_ops}, {inspection.custom_ops or 'none'} custom",
        "same class as Keras": f"{verification.agreeing} of {verification.total} images",
        "largest relative difference": f"{verification.relative_error:.1e}",
        "latency, median": f"{row.median_ms:.3f} ms",
        "latency, 5 % to 95 %": f"{row.p5_ms:.3f} to {row.p95_ms:.3f} ms, {row.runs} runs, "
        f"{FLAGS.threads} thread{'s' if FLAGS.threads > 1 else ''}",
        "seconds of training": f"{sum(epoch['seconds'] for epoch in run.history):.0f}",
        "seconds of this command": f"{time.monotonic() - started:.0f}",
    }
    versions = {
        "keras-hybrid": keras_hybrid.__version__,
        "Python": platform.python_version(),
        "Keras": f"{keras.__version__} on {keras.backend.backend()}",
        "LiteRT": row.binary["version"],
        "machine": f"{row.device['soc']}, {row.device['cores']} cores, {platform.system()}",
    }
    report = f"""# {recipe.model} on handwritten digits

Command: `python {shlex.join(sys.argv)}`

| what | result |
| --- | --- |
{table(numbers)}

{differing or "Keras and the file agree on every test image."}
{int8_section(int8, folder)}
![Training curves](curves.png)

![Predictions on test images](predictions.png)

| part | version |
| --- | --- |
{table(versions)}

Recipe:

```
{recipe.describe()}
```
"""
    write_text(folder / "report.md", report)
    width = max(map(len, numbers))
    for name, value in numbers.items():
        print(f"{name:<{width}}  {value}")
    if int8 is not None:
        print(int8.table())
    print(f"{folder / 'report.md'}")


def int8_section(report, folder):
    if report is None:
        return ""
    return f"""
## In int8

{report.table()}

Post-training is calibrated alone, trained is calibrated and trained on; latencies were measured in
turns. [Layer by layer]({report.path.relative_to(folder).as_posix()})
"""


def table(rows):
    return "\n".join(f"| {name} | {value} |" for name, value in rows.items())


if __name__ == "__main__":
    app.run(main)
