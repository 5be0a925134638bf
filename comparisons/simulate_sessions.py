"""Do the harness' intervals hold what they promise? Simulated sessions through its own plan.

    python comparisons/simulate_sessions.py

Costs a minute of one core, needs nothing installed. Every session drifts (4% between sessions,
normal, of the logarithm), every process has noise of its own (1 or 3%). A session is planned by the
harness' own rule of how many processes it runs; then it is compared as `--ab` and `--compare` do.
Printed: how often a 95% interval holds the true ratio, how often a true 5% is found (the interval
lies above 1), and how many processes that took. Expected: 93% or more, and 80% or more.
"""

import math
import random

from absl import app, flags

from keras_hybrid.benchmark.plan import Cell, Model, Plan, Repetitions
from keras_hybrid.benchmark.results import comparison
from keras_hybrid.benchmark.rows import Row

FLAGS = flags.FLAGS
flags.DEFINE_integer("trials", 1000, "Simulated comparisons of each kind.")
flags.DEFINE_float("drift", 0.04, "Standard deviation between sessions.")
flags.DEFINE_integer("seed", 0, "Of the draws.")

MODELS = [Model(f"/{name}.tflite", f"{name}.tflite", name, 1) for name in "ab"]


def run_session(generator, cells, centres, noise, repetitions, session, paired):
    """The rows of one session; all its processes share its drift."""
    drift = math.exp(generator.gauss(0, FLAGS.drift))
    plan, rows = Plan(cells, repetitions, seed=generator.randrange(1 << 30), paired=paired), []
    while (following := plan.next()) is not None:
        cell, repetition = following
        ms = centres[cell.model.name] * drift * math.exp(generator.gauss(0, noise))
        row = Row(
            model=cell.model.name,
            num_threads=1,
            target="simulated",
            repetition=repetition,
            median_ms=ms,
            model_sha256=cell.model.sha256,
            session=session,
        )
        plan.record(cell, row)
        rows.append(row)
    return rows


def is_open(rows):
    """The stop rule of --ab."""
    try:
        found = comparison.compare_pairs(rows, "a.tflite", "b.tflite")
    except ValueError:
        return False
    return any(one.verdict == "undecided" for one in found)


def simulate_pairs(generator, true, noise):
    """--ab: the comparison of two files in one session."""
    cells = [Cell(model, 1, "cpu") for model in MODELS]
    centres = {"a.tflite": 10.0, "b.tflite": 10.0 * true}
    rules = Repetitions(10, 20, open_pairs=is_open)
    rows = run_session(generator, cells, centres, noise, rules, "s", True)
    return comparison.compare_pairs(rows, "a.tflite", "b.tflite")[0]


def simulate_sessions(generator, true, noise, sessions):
    """--compare: so many sessions on either side, each with processes of its own."""
    cells, sides = [Cell(MODELS[0], 1, "cpu")], []
    for side, centre in enumerate((10.0, 10.0 * true)):
        rows = []
        for number in range(sessions):
            name = f"{side}-{number}"
            rows += run_session(
                generator, cells, {"a.tflite": centre}, noise, Repetitions(10, 20), name, False
            )
        sides.append([Row(**{**vars(row), "repetition": n}) for n, row in enumerate(rows)])
    return comparison.compare(*sides)[0]


def main(argv):
    del argv
    generator = random.Random(FLAGS.seed)
    print("| comparison | true ratio | noise | interval holds it | above 1 | processes a side |")
    print("| --- | --- | --- | --- | --- | --- |")
    kinds = [("--ab", simulate_pairs, (1.0, 1.02, 1.05))]
    kinds += [
        (
            f"--compare, {count} sessions a side",
            lambda *arguments, count=count: simulate_sessions(*arguments, count),
            (1.0, 1.05),
        )
        for count in (2, 3)
    ]
    for name, simulate, ratios in kinds:
        for true in ratios:
            for noise in (0.01, 0.03):
                found = [simulate(generator, true, noise) for _ in range(FLAGS.trials)]
                holds = sum(one.low <= true <= one.high for one in found) / len(found)
                above = sum(one.low > 1 for one in found) / len(found)
                processes = sum(one.later_rows for one in found) / len(found)
                print(
                    f"| {name} | {true:g} | {noise:.0%} | {holds:.1%} | {above:.1%} | "
                    f"{processes:.1f} |",
                    flush=True,
                )


if __name__ == "__main__":
    app.run(main)
