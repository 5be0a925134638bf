"""Looks at a folder of photos, or another data set, before anything is trained.

keras-hybrid data photos              classes, splits, what is left out and why
keras-hybrid data digits              a data set of TFDS
keras-hybrid data photos --plan       and what `keras-hybrid train photos` would do
"""

from pathlib import Path

from keras_hybrid.cli.arguments import paths
from keras_hybrid.cli.command import DONE, UsageError, suggestion
from keras_hybrid.cli.models import aligned

FOLDER_PREFIX = "folder:"
KNOWN = "digits"  # a data set that needs no download


def add_arguments(parser):
    parser.add_argument("data", help="folder of photos, or the name of a data set of TFDS")
    parser.add_argument("--plan", action="store_true", help="what training would do, and why")
    parser.add_argument("--model", help="with --plan: the network")
    parser.add_argument("--weights", help="with --plan: what training would start from")
    parser.add_argument("--data_dir", help="TFDS' folder, where verdicts on files are kept, too")


def run(options) -> int:
    """Prints classes by split."""
    name = options.data.removeprefix(FOLDER_PREFIX)
    is_folder = name != options.data or "/" in name or Path(name).is_dir()
    if is_folder or Path(name).exists() or "." in name:
        is_folder = True
        if not paths.existing(name, "a folder of photos").is_dir():
            raise UsageError(f"a folder of photos is expected. Received: {name}, which is a file")
    else:
        near = suggestion(name, [KNOWN, *(item.name for item in Path(".").iterdir())])
    from keras_hybrid.cli.quiet import prepare

    prepare()
    if not is_folder:
        from keras_hybrid.training.data.sources import open_source

        try:
            source = open_source(name, options.data_dir)
        except ValueError as error:
            raise UsageError(
                f"there is no folder {name!r} here, and no data set of that name{near}"
            ) from error
        print(f"{source.name}: {len(source.class_names)} classes, {_sizes(source.sizes)}")
        print(", ".join(source.class_names[:20]) + (" ..." if len(source.class_names) > 20 else ""))
        return DONE
    import tensorflow as tf

    from keras_hybrid.workflows.photos import Wishes, find_start
    from keras_hybrid.workflows.photos_plan import plan_photos
    from keras_hybrid.workflows.photos_set import open_photos, short_sides

    photos = open_photos(name, options.data_dir)
    splits = [split for split in photos.files if split != "all"]
    rows = [("class", *splits)]
    counts = [photos.counts(split) for split in splits]
    rows += [
        (label, *map(str, column))
        for label, *column in zip(photos.source.class_names, *counts, strict=True)
    ]
    rows.append(("all", *(str(sum(column)) for column in counts)))
    print(aligned(rows))
    if options.plan:
        wishes = Wishes(model=options.model)
        plan = plan_photos(
            photos.counts("train"),
            short_sides(photos),
            find_start(options.weights, wishes),
            wishes,
            bool(tf.config.list_physical_devices("GPU")),
        )
        print(plan.describe())
    return DONE


def _sizes(sizes):
    return ", ".join(f"{count:,} {split}" for split, count in sizes.items())
