"""How a folder of many images is read in training: in which order, in what memory, how soon.

    python comparisons/shuffle_folder.py
    python comparisons/shuffle_folder.py --files=200000

The order is that of 100 classes of 1,000 images, which a folder's listing has class by class, in
batches of 128: how many classes a batch holds, and whether where an image comes in an epoch depends
on its place in the listing (chi-square of ten parts by ten, over all epochs). Memory and the first
batch are those of a list of as many files as ImageNet has, hard links of one small photograph in a
temporary folder: what the list and a training pipeline add to the process, and the seconds from
making the pipeline to its first batch. About two minutes on two cores, most of it for the links.

Exit status 1 where a batch holds fewer than 55 classes (72 are expected), the probability of such
an order by chance is below 1 %, the list takes over 400 MiB, or the first batch over 5 s.
"""

import gc
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_integer("files", 1_280_000, "Files of the long list.", lower_bound=1000)
flags.DEFINE_integer("epochs", 3, "Epochs of the order.", lower_bound=1)

CLASSES, PER_CLASS, BATCH, PARTS = 100, 1000, 128, 10
LEAST_CLASSES, LEAST_CHANCE, MOST_MEBIBYTES, MOST_SECONDS = 55, 0.01, 400, 5.0
LINKS = 60_000  # of one file, of which file systems allow no more


def recipe(epochs):
    from keras_hybrid.training.recipe.recipe import Recipe

    return Recipe(
        model="MobileViTXXS", epochs=epochs, batch_size=BATCH, learning_rate=1e-3, resolution=64
    )


def order_of_epochs():
    """(epochs, images): the place in the listing of each image, as the batches bring them."""
    import numpy as np

    from keras_hybrid.training.data.epoch_order import examples_in_order
    from keras_hybrid.training.data.process_share import Share

    count = CLASSES * PER_CLASS
    steps = count // BATCH
    examples = examples_in_order(count, recipe(FLAGS.epochs), steps, 0, 0, Share(0, 1, 1))
    places = [x["place"] for x in examples.batch(BATCH).as_numpy_iterator()]
    return np.concatenate(places).reshape(FLAGS.epochs, steps * BATCH)


def check_order():
    """Prints what the batches hold; returns whether it is as by chance."""
    import numpy as np
    from scipy.stats import chi2_contingency

    order = order_of_epochs()
    labels = (order // PER_CLASS).reshape(-1, BATCH)
    classes = [len(np.unique(batch)) for batch in labels]
    expected = CLASSES * (1 - (1 - 1 / CLASSES) ** BATCH)
    times = np.arange(order.shape[1]) * PARTS // order.shape[1]
    table = np.zeros((PARTS, PARTS), int)
    for epoch in order:
        np.add.at(table, (epoch * PARTS // (CLASSES * PER_CLASS), times), 1)
    chance = chi2_contingency(table).pvalue
    left_out = [set(range(CLASSES * PER_CLASS)) - set(epoch) for epoch in order.tolist()]
    differs = len({frozenset(x) for x in left_out}) == len(left_out)
    print(
        f"{len(classes)} batches of {BATCH}: {min(classes)} to {max(classes)} of {CLASSES} "
        f"classes, {np.mean(classes):.1f} on average ({expected:.1f} by chance); chi-square of "
        f"places: {chance:.3f}; what is left out differs by epoch: {differs}",
        flush=True,
    )
    return min(classes) >= LEAST_CLASSES and chance >= LEAST_CHANCE and differs


def link_photos(folder):
    """Class folders of links to small photographs; returns the names and labels of them."""
    import numpy as np
    import tensorflow as tf

    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype("uint8")
    photo = tf.io.encode_jpeg(noise).numpy()
    names, labels, per_class = [], [], FLAGS.files // 1000
    for number in range(1000 * per_class):
        if number % LINKS == 0:
            source = Path(folder, f"{number}.jpg")
            source.write_bytes(photo)
        label, index = divmod(number, per_class)
        name = f"n{label:08d}/n{label:08d}_{index:05d}.JPEG"
        if not index:
            Path(folder, name).parent.mkdir()
        os.link(source, f"{folder}/{name}")
        names.append(name.encode())
        labels.append(label)
    return names, labels


def resident():
    """Bytes of the process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def check_long_list():
    """Prints memory and time of the long list; returns whether both are within their bars."""
    from keras_hybrid.training.data.file_list import FileList
    from keras_hybrid.training.data.image_source import ImageSource
    from keras_hybrid.training.data.pipeline import training_dataset

    def first_batch(files):
        source = ImageSource(
            "folder:links",
            tuple(map(str, range(1000))),
            {"train": len(files)},
            open_reader=lambda split: files.reader(),
        )
        start = time.perf_counter()
        images, _ = next(iter(training_dataset(source, recipe(2))))
        assert len(images) == BATCH
        return time.perf_counter() - start

    with tempfile.TemporaryDirectory() as folder:
        names, labels = link_photos(folder)
        first_batch(FileList.of(os.fsencode(folder), names[:BATCH], labels[:BATCH]))  # warm-up
        gc.collect()
        before = resident()
        files = FileList.of(os.fsencode(folder), names, labels)
        seconds = first_batch(files)
        added = (resident() - before) / 2**20
    print(
        f"{len(names):,} files: {added:.0f} MiB for the list and a pipeline, first batch after "
        f"{seconds:.1f} s",
        flush=True,
    )
    return added <= MOST_MEBIBYTES and seconds <= MOST_SECONDS


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"what is {argv[1]!r}?")
    held = [check_order(), check_long_list()]
    sys.exit(int(not all(held)))


if __name__ == "__main__":
    app.run(main)
