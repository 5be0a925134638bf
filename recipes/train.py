"""Trains a model with a recipe; the same command resumes an interrupted run.

    python recipes/train.py --recipe=digits --variant=MobileFormer26M --data=digits --out=runs/a

Arguments after the flags replace numbers of the recipe, by name and type:

    python recipes/train.py --recipe=digits --data=digits --out=runs/b epochs=3 learning_rate=1e-3

Segmentation likewise; a page with the classes' IoU, masks and the worst images joins the run:

    python recipes/train.py --recipe=segment/digits --data=digit_scenes --out=runs/scenes

Detection likewise; its page has average precision, curves, and pictures with misses first:

    python recipes/train.py --recipe=detect/digits --data=digit_scenes --out=runs/detected

Mask R-CNN likewise, on data with a mask for each object:

    python recipes/train.py --recipe=detect/digit_instances --data=digit_scenes --out=runs/masks

The numbers, steps, learning rates and memory of a published recipe, and one batch, untrained:

    python recipes/train.py --recipe=imagenet/iformer --variant=M --data=imagenet2012 --dry_run

Several devices (BUILD.md, "More than one device"): the GPUs of one machine on TensorFlow or JAX,
and on JAX the processes of several hosts, each started with its own --process_id:

    python recipes/train.py ... --distribute=mirrored
    KERAS_BACKEND=jax python recipes/train.py ... --distribute=data_parallel \\
        --coordinator=10.0.0.1:1234 --num_processes=2 --process_id=0

Ctrl-C and SIGTERM end the run after the step, with status 3; the same command goes on from there,
also on another machine, with other accumulation_steps or precision, with the data at another path.

--out gets history.csv, state.npz (to resume from), best.keras and model.keras, with --tensorboard
also a log that `tensorboard --logdir=runs` shows.
"""

import os
import shlex
import sys
import traceback
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, flags

from keras_hybrid.training.recipe.detection import DetectionRecipe
from keras_hybrid.training.recipe.fields import describe_fields
from keras_hybrid.training.recipe.instances import InstanceRecipe
from keras_hybrid.training.recipe.recipe import Recipe
from keras_hybrid.training.recipe.segmentation import SegmentationRecipe

__doc__ += (
    f"\nNumbers of a classifier's recipe, each as name=value:\n\n{describe_fields(Recipe)}\n"
    f"\nNumbers of a recipe for segmentation:\n\n{describe_fields(SegmentationRecipe)}\n"
    f"\nNumbers of a recipe for detection:\n\n{describe_fields(DetectionRecipe)}\n"
    f"\nNumbers of a recipe for Mask R-CNN:\n\n{describe_fields(InstanceRecipe)}\n"
)

FLAGS = flags.FLAGS
flags.DEFINE_string("recipe", None, "A recipe beside this program, such as digits, or a .py file.")
flags.DEFINE_string("variant", None, "Which model of the recipe; the recipe's default if not set.")
flags.DEFINE_string(
    "data",
    None,
    "digits, folder:/path of class folders, or a TFDS set such as imagenet2012. For segmentation "
    "digit_scenes, folder:/path of images and masks, or a TFDS set such as coco/2017_panoptic. For "
    "detection digit_scenes, folder:/path of images with boxes, or a TFDS set such as coco/2017. "
    "For Mask R-CNN digit_scenes, folder:/path of images and COCO's JSON with masks, or a TFDS set "
    "such as coco/2017_panoptic.",
)
flags.DEFINE_string("data_dir", None, "TFDS' folder of prepared sets; TFDS' default if not set.")
flags.DEFINE_string("out", None, "Folder of the run, such as runs/a or gs://bucket/a.")
flags.DEFINE_float(
    "save_minutes", None, "Save the state inside an epoch, too, every so many minutes."
)
flags.DEFINE_integer(
    "keep_states", 2, "States kept until the run ends: the newest, and older ones."
)
flags.DEFINE_bool("dry_run", False, "Print what would be done, and read one batch.")
flags.DEFINE_bool("tensorboard", False, "Write a log for TensorBoard, too.")
flags.DEFINE_enum(
    "distribute",
    "none",
    ["none", "mirrored", "data_parallel"],
    "One device; the devices of one machine on TensorFlow; devices and processes on JAX.",
)
flags.DEFINE_integer(
    "devices", None, "Devices of this process; all of its GPUs or TPUs if not set."
)
flags.DEFINE_string(
    "coordinator",
    None,
    "host:port of process 0. Not set, with the next two: what the cluster's environment says "
    "(KERAS_DISTRIBUTION_*, Slurm, Open MPI, GKE, Cloud TPU), or this process alone.",
)
flags.DEFINE_integer("num_processes", None, "Processes in all.")
flags.DEFINE_integer("process_id", None, "This process, from 0.")
flags.DEFINE_integer("start_timeout", 300, "Seconds to wait for the other processes.")
flags.DEFINE_integer(
    "heartbeat_timeout", 100, "Seconds without a sign of life after which a process is lost."
)
flags.mark_flags_as_required(["recipe", "data"])

INCOMPLETE = 3  # status of a run that was told to end


def main(argv):
    if not FLAGS.out and not FLAGS.dry_run:
        raise app.UsageError("--out names the folder of the run")
    from keras_hybrid.training.distribution.cluster import (
        ProcessLostError,
        cluster_from_flags,
        end_process,
    )
    from keras_hybrid.training.distribution.opening import open_distribution
    from keras_hybrid.training.recipe.common import CommonRecipe
    from keras_hybrid.training.recipe.recipe import load_recipe, override
    from keras_hybrid.training.run.callbacks import TrainingDivergedError
    from keras_hybrid.training.run.dry_run import dry_run
    from keras_hybrid.training.run.interruption import TrainingStoppedError
    from keras_hybrid.training.run.run import train
    from keras_hybrid.training.run.startup import prepare_process
    from keras_hybrid.training.tasks.of_recipe import task_of
    from keras_hybrid.workflows.reports.classifier_report import write_classifier_report
    from keras_hybrid.workflows.reports.detection_report import write_detection_report
    from keras_hybrid.workflows.reports.segmentation_report import write_segmentation_report

    prepare_process()
    path = Path(FLAGS.recipe)
    if path.suffix != ".py":
        path = Path(__file__).parent / f"{FLAGS.recipe}.py"
    expected = (ValueError, TrainingDivergedError, ProcessLostError, OSError, ImportError)
    distribution = None
    try:
        recipe = override(load_recipe(path, FLAGS.variant, CommonRecipe), argv[1:])
        task = task_of(recipe)
        if FLAGS.dry_run:
            print(dry_run(recipe, task.open_source(FLAGS.data, FLAGS.data_dir)))
            return
        cluster = cluster_from_flags(
            FLAGS.coordinator,
            FLAGS.num_processes,
            FLAGS.process_id,
            start_timeout=FLAGS.start_timeout,
            heartbeat_timeout=FLAGS.heartbeat_timeout,
        )
        distribution = open_distribution(FLAGS.distribute, FLAGS.devices, cluster)
        run = train(
            recipe,
            FLAGS.data,
            FLAGS.out,
            data_dir=FLAGS.data_dir,
            tensorboard=FLAGS.tensorboard,
            save_minutes=FLAGS.save_minutes,
            keep_states=FLAGS.keep_states,
            distribution=distribution,
        )
    except TrainingStoppedError as stopped:
        print(
            f"train.py: {stopped} Again: {shlex.join([sys.executable, *sys.argv])}", file=sys.stderr
        )
        sys.exit(INCOMPLETE)
    except BaseException as error:
        text = f"train.py: {error}" if isinstance(error, expected) else traceback.format_exc()
        if distribution is not None and distribution.share.processes > 1:
            end_process(text)  # the others would wait for this one
        if isinstance(error, expected):
            sys.exit(text)
        raise
    if run is None:  # another process writes and prints
        return
    found = run.history[-1][f"val_{task.metric(recipe)}"]
    print(f"{run.folder}: {task.title} {found:.2%} after {recipe.epochs}")
    write = {
        "classification": write_classifier_report,
        "segmentation": write_segmentation_report,
        "detection": write_detection_report,
        "instances": write_detection_report,
    }
    source = task.prepared_source(task.open_source(FLAGS.data, FLAGS.data_dir), recipe)
    print(write[task.name](run, source).path)


if __name__ == "__main__":
    app.run(main)
