r"""Whether a change of the code changes what users' files hold: checksums of `.tflite` files.

    python comparisons/check_files.py --write=before.json       # on the commit before
    python comparisons/check_files.py --against=before.json     # on the commit after

Converts six structurally different networks in float32, `int8` and `int8_cpu`, with weights as
training leaves them and fixed calibration images, and prints which files differ. What names the
commit or the package's version is not in the files. About ten minutes on two cores; exit status 1
where a file differs, 2 for wrong usage.

`--keras_files=FOLDER` saves the models, float and int8, as `.keras` files with `--write`, and with
`--against` loads those of the commit before and compares what they compute.
"""

import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path

from absl import app, flags

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

NETWORKS = {
    "MobileFormer26M": {},
    "MobileFormer294M": {"num_tokens": 3},
    "MobileViTXXS": {},
    "MobileViTS": {"patch_size": 4},
    "IFormerT": {},
    "IFormerL2": {},
}
PRECISIONS = ("float32", "int8", "int8_cpu")
SIZE = 64

_WRITE = flags.DEFINE_string("write", None, "File to write checksums to.")
_AGAINST = flags.DEFINE_string("against", None, "File of checksums to compare with.")
_KERAS_FILES = flags.DEFINE_string("keras_files", None, "Folder of `.keras` files.")
_MODELS = flags.DEFINE_list("models", list(NETWORKS), "Which of the networks.")


def main(argv):
    if len(argv) > 1 or (_WRITE.value is None) == (_AGAINST.value is None):
        print("Give either --write=FILE or --against=FILE.", file=sys.stderr)
        return 2
    unknown = set(_MODELS.value) - set(NETWORKS)
    if unknown:
        print(f"Unknown networks: {sorted(unknown)}; known: {list(NETWORKS)}", file=sys.stderr)
        return 2
    checksums, differing = {}, []
    before = json.loads(Path(_AGAINST.value).read_text()) if _AGAINST.value else {}
    for name in _MODELS.value:
        for precision, checksum in file_checksums(name).items():
            key = f"{name}/{precision}"
            checksums[key] = checksum
            same = before.get(key) == checksum
            if _AGAINST.value and not same:
                differing.append(key)
            print(f"{key:28}{checksum[:16]}  {'' if not before else same and 'same' or 'DIFFERS'}")
    if _WRITE.value:
        Path(_WRITE.value).write_text(json.dumps(checksums, indent=1))
    print(f"{len(checksums)} files, {len(differing)} differ")
    return 1 if differing else 0


def file_checksums(name):
    """SHA-256 of one network's files, by precision."""
    import keras
    import numpy as np

    import keras_hybrid

    keras.utils.set_random_seed(0)
    keras.backend.clear_session()
    model = keras_hybrid.build_model(
        name, weights=None, classes=10, input_shape=(SIZE, SIZE, 3), **NETWORKS[name]
    )
    random = np.random.default_rng(0)
    for variable in model.variables:
        shape = tuple(variable.shape)
        if variable.path.endswith(("gamma", "moving_variance")):
            variable.assign(random.uniform(0.5, 1.5, shape))
        elif variable.path.endswith(("beta", "moving_mean", "bias")):
            variable.assign(random.normal(0, 0.1, shape))
    images = random.normal(0, 1, (8, SIZE, SIZE, 3)).astype("float32")
    checksums = {}
    for precision in PRECISIONS:
        exported = model
        if precision != "float32":
            exported = keras_hybrid.quantize(model, precision, target="cpu")
            keras_hybrid.calibrate(exported, images)
        with tempfile.TemporaryDirectory() as folder:
            path = keras_hybrid.export_tflite(exported, f"{folder}/a.tflite", precision=precision)
            checksums[precision] = hashlib.sha256(path.read_bytes()).hexdigest()
        if _KERAS_FILES.value:
            check_keras_file(exported, Path(_KERAS_FILES.value) / f"{name}_{precision}", images)
    return checksums


def check_keras_file(model, stem, images):
    """Saves a model and what it computes, or compares with what was saved."""
    import keras
    import numpy as np

    file, outputs = stem.with_suffix(".keras"), stem.with_suffix(".npy")
    if _WRITE.value:
        stem.parent.mkdir(parents=True, exist_ok=True)
        model.save(file)
        np.save(outputs, model.predict(images, verbose=0))
        return
    found = keras.models.load_model(file).predict(images, verbose=0)
    difference = np.abs(found - np.load(outputs)).max()
    print(f"{file.name}: largest difference {difference:.3g}")
    if difference > 1e-5:
        raise SystemExit(f"{file.name} computes something else than before")


if __name__ == "__main__":
    app.run(main)
