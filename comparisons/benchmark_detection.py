"""SSDLite beside its backbone: what the head costs on a CPU, over its convolutions alone.

    python comparisons/benchmark_detection.py
    python comparisons/benchmark_detection.py --models=SSDLiteMobileViTXS --size=320

Three files in turns on one thread: the network with raw outputs, the backbone up to the maps that
the head takes, and the head's convolutions alone, each on its own. Prints the CPU time of each, the
network's over the backbone's, and over the sum of the two others: beyond that lies what the head
spends on anything but convolutions. Exits with status 1 where that is above --bar.

Measured on one x86 core with AVX-512, random weights: SSDLiteMobileViTXXS takes 12.7 ms, 1.16 times
its backbone, and 1.02 of the sum.
"""

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, flags, logging

FLAGS = flags.FLAGS
flags.DEFINE_multi_enum(
    "models",
    ["SSDLiteMobileViTXXS"],
    ["SSDLiteMobileViTXXS", "SSDLiteMobileViTXS", "SSDLiteMobileViTS"],
    "Builders' names.",
)
flags.DEFINE_integer("size", 320, "Height and width of the image.", 64)
flags.DEFINE_string("folder", "runs/detection_cost", "Where files go.")
flags.DEFINE_integer("rounds", 25, "How many turns each file gets.", 1)
flags.DEFINE_float("seconds", 0.3, "Least length of a turn.", 0.001)
flags.DEFINE_float("bar", 1.05, "Most of the sum of backbone and convolutions.", 0)
LEVELS = ("P4", "P5")  # of the pyramid, which the head takes


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"what is {argv[1]!r}?")
    logging.set_verbosity(logging.WARNING)  # TensorFlow tells about every file it writes
    folder = Path(FLAGS.folder)
    folder.mkdir(parents=True, exist_ok=True)
    ratios = [compare(name, folder) for name in FLAGS.models]
    if max(ratios) > FLAGS.bar:
        raise SystemExit(f"{max(ratios):.3f} is above {FLAGS.bar}")


def compare(name, folder):
    """Times a detector and its parts; returns its time over the sum of theirs."""
    import keras

    import keras_hybrid
    from keras_hybrid.export.bare_graph import export_bare_graph
    from keras_hybrid.export.interleaved import time_interleaved
    from keras_hybrid.export.random_weights import randomize_norms

    size = FLAGS.size
    model = getattr(keras_hybrid, name)(input_shape=(size, size, 3))
    randomize_norms(model)
    paths = [folder / f"{name}_{size}_{part}.tflite" for part in ("whole", "backbone", "bare")]
    keras_hybrid.export_tflite(model, paths[0])
    maps = keras_hybrid.feature_pyramid(model)
    taken = {level: maps[level] for level in LEVELS}
    keras_hybrid.export_tflite(keras.Model(model.input, taken), paths[1])
    multiply_adds = export_bare_graph(model, paths[2], ("neck", "head"))
    whole, backbone, bare = time_interleaved(paths, FLAGS.rounds, FLAGS.seconds)
    ratio = 1 / (backbone.ratio + bare.ratio)
    print(
        f"{name} at {size} px: {whole.median_ms:.2f} ms; backbone {backbone.median_ms:.2f} ms, "
        f"{1 / backbone.ratio:.3f} times it; the head's convolutions "
        f"({multiply_adds / 1e6:.1f} M multiply-adds) {bare.median_ms:.2f} ms; "
        f"{ratio:.3f} of the sum",
        flush=True,
    )
    keras.backend.clear_session()
    return ratio


if __name__ == "__main__":
    app.run(main)
