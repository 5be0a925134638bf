r"""Whether a file computes what its Keras model computes: network by network, in every precision.

    python comparisons/check_precisions.py --out=runs/precisions
    python comparisons/check_precisions.py --out=runs/precisions --models=IFormerT --weights=trained
    python comparisons/check_precisions.py --out=runs/precisions --models=applications \
        --weights=trained --steps=60 --precisions=int8,int8_cpu

Builds each network for ten classes, without softmax: a builder of this package, or one of
`keras.applications` by its name ("published" are this package's sixteen, smallest first,
"applications" one of each architecture, "all_applications" every class there is). Its weights stay
as they are ("fresh"), or are trained on scikit-learn's handwritten digits for some steps
("trained"). Images are digits that training did not see, as 8-bit pixels through the network's own
preprocessing. Each row compares the file with the Keras model that it was made of, the quantised
one for `int8` and `int8_cpu`: signal to noise of the logits in decibels, and the share of images of
the same best class; besides, for these two, the quantised model with float.

Rows are kept in OUT/rows.json with what they were made with, and a row that is there is not made
again. Exit status 1 where a row misses its bar: 30 dB (20 dB for fresh weights that are rounded in
the file alone), and for trained weights the same class for all images in float16, for 99.5 % of
them in the others; an `int8` file has no operator in float.
At 64 px a row of the smallest networks takes half a minute on two cores, of the largest three.
"""

import gc
import json
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, flags, logging

PUBLISHED = (
    *("IFormerT", "MobileFormer26M", "MobileViTXXS", "MobileFormer52M", "MobileViTXS"),
    *("IFormerS", "MobileFormer96M", "IFormerM", "MobileViTS", "MobileFormer151M"),
    *("MobileFormer214M", "IFormerH", "MobileFormer294M", "IFormerL", "MobileFormer508M"),
    "IFormerL2",
)
APPLICATIONS = (
    *("MobileNet", "MobileNetV2", "MobileNetV3Small", "MobileNetV3Large", "EfficientNetB0"),
    *("EfficientNetV2B0", "NASNetMobile", "DenseNet121", "ResNet50", "ResNet50V2", "VGG16"),
    *("Xception", "InceptionV3", "ConvNeXtTiny", "InceptionResNetV2"),
)
PRECISIONS = ("int8", "int8_cpu", "int16x8", "float16", "dynamic")
PROFILES = ("int8", "int8_cpu")
LEAST_DECIBELS = 30.0
LEAST_DECIBELS_FRESH = 20.0  # of what is compared with float: 8 bits for signals that fade
LEAST_AGREEMENT = {"float16": 1.0}
LEAST_AGREEMENT_INT8 = 0.995
SIZES = (71, 75, 96)  # what networks take that do not take the size asked for
TEST_EVERY = 5  # every fifth digit is not trained on

FLAGS = flags.FLAGS
flags.DEFINE_string("out", None, "Folder for rows and trained weights.", required=True)
flags.DEFINE_list("models", ["published"], "Builders' names, 'published', 'applications', ...")
flags.DEFINE_list("precisions", list(PRECISIONS), "Which precisions.")
flags.DEFINE_list("weights", ["fresh"], "'fresh', 'trained', or both.")
flags.DEFINE_integer("size", 64, "Height and width in pixels; 0 for the network's own.", 0)
flags.DEFINE_integer("steps", 360, "Training steps of 32 images.", 1)
flags.DEFINE_integer("images", 359, "How many images to compare on.", 1, 359)
flags.DEFINE_integer("calibration", 100, "How many images to calibrate with.", 1)


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"what is {argv[1]!r}?")
    logging.set_verbosity(logging.WARNING)  # TensorFlow tells about every file it writes
    warnings.filterwarnings("ignore", "MediaPipe")
    for name, given, known in (
        ("precisions", FLAGS.precisions, PRECISIONS),
        ("weights", FLAGS.weights, ("fresh", "trained")),
    ):
        if unknown := set(given) - set(known):
            raise app.UsageError(f"--{name} must be among {known}. Received: {sorted(unknown)}")
    names = []
    for name in FLAGS.models:
        if name == "all_applications":
            names += every_application()
        else:
            names += {"published": PUBLISHED, "applications": APPLICATIONS}.get(name, (name,))
    sys.exit(run(names))


def every_application():
    """Names of all classes of `keras.applications`."""
    import keras

    return [name for name, value in vars(keras.applications).items() if callable(value)]


def run(names):
    """Makes, prints and keeps the rows; returns the exit status."""
    from keras_hybrid.files import write_text

    out = Path(FLAGS.out)
    out.mkdir(parents=True, exist_ok=True)
    kept = out / "rows.json"
    rows = json.loads(kept.read_text()) if kept.is_file() else []
    missed = 0
    print(
        f"{'network':18}{'px':>4} {'weights':8}{'precision':10}{'dB':>7}{'same %':>8}"
        f"{'dB int8':>8}{'right %':>8}{'s':>6}  missed"
    )
    for name in names:
        for weights in FLAGS.weights:
            network = None
            for precision in FLAGS.precisions:
                key = {"network": name, "weights": weights, "precision": precision, **settings()}
                row = next((x for x in rows if key.items() <= x.items()), None)
                if row is None:
                    network = network or Network(name, weights, out)
                    row = {**key, **network.check(precision)}
                    rows.append(row)
                    write_text(kept, json.dumps(rows, indent=1))
                missed += bool(row["missed"])
                show(row)
            if network is not None:
                network.forget()
    print(f"{missed} rows miss a bar" if missed else "every bar is held")
    return int(bool(missed))


def settings():
    """What else a row depends on."""
    return {name: FLAGS[name].value for name in ("size", "steps", "images", "calibration")}


def show(row):
    numbers = [row.get(x) for x in ("decibels", "agreement", "int8_decibels", "accuracy")]
    scaled = [x if x is None or n % 2 == 0 else 100 * x for n, x in enumerate(numbers)]
    words = ["" if x is None else f"{x:.1f}" for x in scaled]
    print(
        f"{row['network'][:17]:18}{row['pixels']:4} {row['weights']:8}{row['precision']:10}"
        f"{words[0]:>7}{words[1]:>8}{words[2]:>8}{words[3]:>8}{row['seconds']:6.0f}"
        f"  {'; '.join(row['missed'])}",
        flush=True,
    )


class Network:
    """One network with its weights and its images.

    Args:
        name: of its builder.
        weights: "fresh" or "trained".
        out: folder of trained weights.
    """

    def __init__(self, name, weights, out):
        import keras
        import numpy as np

        import keras_hybrid

        keras.utils.set_random_seed(0)
        self.weights = weights
        self.model, preprocess = build(name)
        self.pixels = self.model.input_shape[1]
        train, test = digits()
        self.images = preprocess(resized(test[0][: FLAGS.images], self.pixels))
        self.labels = test[1][: FLAGS.images]
        self.calibration = preprocess(resized(train[0][: FLAGS.calibration], self.pixels))
        if weights == "trained":
            file = out / f"{name}_{self.pixels}_{FLAGS.steps}.weights.h5"
            if file.is_file():
                self.model.load_weights(file)
            else:
                fit(self.model, preprocess(resized(train[0], self.pixels)), train[1])
                self.model.save_weights(file)
        elif name not in keras_hybrid.list_models():
            adapt(self.model)
        self.exact = scores(self.model, self.images)
        self.accuracy = float(np.mean(self.exact.argmax(-1) == self.labels))

    def check(self, precision):
        """A row's results."""
        start = time.monotonic()
        found = {"pixels": self.pixels, "accuracy": self.accuracy, "missed": []}
        try:
            found.update(self._compare(precision))
        except Exception as error:  # the table goes on, and says so
            words = " ".join(str(error).split())
            found["missed"].append(f"{type(error).__name__}: {words[:300]}")
        return {**found, "seconds": time.monotonic() - start}

    def _compare(self, precision):
        import numpy as np

        import keras_hybrid
        from keras_hybrid.export.inspect import inspect_tflite
        from keras_hybrid.export.verify import run_tflite

        model, found = self.model, {}
        options = {"representative_data": self.calibration} if precision == "int16x8" else {}
        expected = self.exact
        if precision in PROFILES:
            model = keras_hybrid.quantize(model, precision)
            keras_hybrid.calibrate(model, self.calibration, stream=None)
            expected = scores(model, self.images)
            found["int8_decibels"] = decibels(self.exact, expected)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.tflite"
            keras_hybrid.export_tflite(model, path, precision, **options)
            offenders = inspect_tflite(path).integer_offenders if precision == "int8" else ()
            (actual,) = run_tflite(path, self.images).values()
        found["decibels"] = decibels(expected, actual)
        found["agreement"] = float(np.mean(expected.argmax(-1) == actual.argmax(-1)))
        found["missed"] = [f"in float: {offender}" for offender in offenders[:4]]
        rounded_alone = self.weights == "fresh" and precision in ("int16x8", "dynamic")
        if found["decibels"] < (LEAST_DECIBELS_FRESH if rounded_alone else LEAST_DECIBELS):
            found["missed"].append(f"{found['decibels']:.1f} dB")
        least = LEAST_AGREEMENT.get(precision, LEAST_AGREEMENT_INT8)
        if self.weights == "trained" and found["agreement"] < least:
            found["missed"].append(f"{found['agreement']:.2%} of the images in the same class")
        return found

    def forget(self):
        """Frees the memory that Keras keeps of a model."""
        import keras

        self.model = None
        keras.backend.clear_session()
        gc.collect()


def build(name):
    """A network for ten classes that ends in its logits, and its preprocessing of pixels."""
    import keras

    import keras_hybrid

    options = {"weights": None, "classes": 10, "classifier_activation": None}
    if name in keras_hybrid.list_models():
        if FLAGS.size:
            options["input_shape"] = (FLAGS.size, FLAGS.size, 3)
        model = keras_hybrid.build_model(name, **options)
        return model, lambda pixels: as_float32(keras_hybrid.preprocess_input(pixels, model))
    builder = getattr(keras.applications, name, None)
    if builder is None:
        known = "a builder's name, 'published', 'applications' or 'all_applications'"
        raise app.UsageError(f"--models must be {known}. Received: {name}")
    module = getattr(keras.applications, builder.__module__.rsplit(".", 1)[-1])
    refused = None
    for size in (FLAGS.size or 224, *SIZES):
        try:
            model = builder(input_shape=(size, size, 3), **options)
        except ValueError as error:  # smaller than it takes
            refused = error
            continue
        return model, lambda pixels: as_float32(module.preprocess_input(pixels.copy()))
    raise refused


def as_float32(images):
    import numpy as np

    return np.asarray(images, "float32")


def adapt(model):
    """Gives normalizations inside, which take published statistics, some."""
    import keras
    import numpy as np

    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization) and layer.input_mean is None:
            layer.set_weights([np.full(3, 0.5), np.full(3, 0.06), np.array(1)])
            layer.finalize_state()


def digits():
    """(images of 8 x 8 bytes, labels) to train with, and to compare on; shuffled."""
    import numpy as np
    from sklearn.datasets import load_digits

    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    images = np.rint(data.images * (255 / 16)).astype("uint8")[order]
    labels, tests = data.target[order], np.arange(len(order)) % TEST_EVERY == TEST_EVERY - 1
    return (images[~tests], labels[~tests]), (images[tests], labels[tests])


def resized(images, size):
    """RGB images of 8-bit values, as float32: (n, size, size, 3)."""
    import numpy as np
    from PIL import Image

    found = [
        np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))
        for image in images
    ]
    return np.repeat(np.stack(found)[..., None], 3, -1).astype("float32")


def fit(model, images, labels):
    """Trains a network; the statistics of batch norms follow within the few steps there are."""
    import keras
    import numpy as np

    adapt(model)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = min(layer.momentum, 0.9)
    random, batches = np.random.default_rng(0), []
    while len(batches) < FLAGS.steps:
        order = random.permutation(len(images))
        batches += [order[n : n + 32] for n in range(0, len(order) - 31, 32)]
    warmup = max(1, FLAGS.steps // 10)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, FLAGS.steps - warmup, warmup_target=1e-3, warmup_steps=warmup
    )
    model.compile(
        keras.optimizers.AdamW(rate, weight_decay=0.05, clipnorm=1.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    for chosen in batches[: FLAGS.steps]:
        model.train_on_batch(images[chosen], labels[chosen])
    model.compile()  # without the optimizer's moments: of the largest networks, gigabytes


def scores(model, images):
    """A model's logits."""
    import numpy as np

    parts = [images[n : n + 32] for n in range(0, len(images), 32)]
    return np.concatenate([np.asarray(model(part, training=False)) for part in parts])


def decibels(signal, other):
    """Signal to noise of `other` against `signal`; infinite where they are equal."""
    import numpy as np

    if np.array_equal(signal, other):
        return float("inf")
    noise = np.sum((np.asarray(signal, "float64") - other) ** 2)
    signal = np.sum(np.asarray(signal, "float64") ** 2)
    return float(10 * np.log10(max(signal, 1e-30) / max(noise, 1e-30)))


if __name__ == "__main__":
    app.run(main)
