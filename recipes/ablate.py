"""Trains the rows of a paper's ablation table on a data set; writes the table beside the paper's.

    python recipes/ablate.py --table=mobile_former/table5 --data=digits --model=MobileFormer26M \\
        --out=recipes/ablations/mobile_former_table5_digits epochs=6

Every row is trained --seeds times with --recipe; arguments after the flags replace its numbers, as
for train.py. A finished run is a line of OUT/rows.jsonl before the next one starts, and the same
command goes on where it was interrupted, inside a run too (OUT/runs). At the end OUT gets table.md:
mean and spread of the accuracy after the last epoch, parameters, multiply-adds and latency on this
machine, beside the paper's figures. Tables: mobile_former/table5 to table9, iformer/table1 (types
of attention), iformer/table6, iformer/table7, mobilevit/patch_size.
"""

import os
import shlex
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_string("table", None, "Which table, such as mobile_former/table5.")
flags.DEFINE_string("data", None, "digits, or the name of a TFDS set such as imagenet2012.")
flags.DEFINE_string("data_dir", None, "TFDS' folder of prepared sets; TFDS' default if not set.")
flags.DEFINE_string("model", None, "Builder to vary; the paper's if not set.")
flags.DEFINE_string("recipe", "digits", "A recipe beside this program, or a .py file.")
flags.DEFINE_integer("seeds", 3, "How often each row is trained.", lower_bound=1)
flags.DEFINE_string("out", None, "Folder of the results, such as runs/table5.")
flags.DEFINE_integer("at_most", None, "Train so many runs, then stop; to share a machine.")
flags.DEFINE_bool("latency", True, "Time each row's .tflite on this machine, in turns.")
flags.mark_flags_as_required(["table", "data", "out"])


def main(argv):
    # Imported here, so that --help answers at once.
    from keras_hybrid.training.data.sources import open_source
    from keras_hybrid.training.recipe.recipe import load_recipe, override
    from keras_hybrid.training.run.callbacks import TrainingDivergedError
    from keras_hybrid.training.run.startup import prepare_process
    from keras_hybrid.workflows.ablation import ablate

    prepare_process()
    path = Path(FLAGS.recipe)
    if path.suffix != ".py":
        path = Path(__file__).parent / f"{FLAGS.recipe}.py"
    try:
        text = ablate(
            FLAGS.table,
            open_source(FLAGS.data, FLAGS.data_dir),
            override(load_recipe(path), argv[1:]),
            FLAGS.out,
            model=FLAGS.model,
            seeds=FLAGS.seeds,
            at_most=FLAGS.at_most,
            latency=FLAGS.latency,
            command=f"python {shlex.join(sys.argv)}",
        )
    except (ValueError, TrainingDivergedError) as error:
        sys.exit(f"ablate.py: {error}")
    if text:
        print(text)


if __name__ == "__main__":
    app.run(main)
