"""Run by test_backends.py on each backend: the same weights, the same inputs, outputs."""

import json
import sys
from pathlib import Path

import keras
import numpy as np

import keras_hybrid

folder, precision = sys.argv[1:]
before = keras.mixed_precision.dtype_policy()
keras.mixed_precision.set_dtype_policy(precision)
cases = json.loads(Path(folder, "cases.json").read_text())
for case in cases:
    options = case["options"] | {"weights": f"{folder}/{case['id']}.weights.h5"}
    model = keras_hybrid.build_model(case["name"], **options)
    # Eager where there is a choice: tracing each network takes longer than computing it once.
    eager = keras.backend.backend() == "tensorflow"
    model.compile(keras.optimizers.SGD(1e-3), "mse", run_eagerly=eager)
    images = np.load(f"{folder}/{case['id']}.images.npy")
    outputs = np.asarray(model.predict_on_batch(images), "float32")
    np.save(f"{folder}/{case['id']}.{keras.backend.backend()}.{precision}.npy", outputs)
    if case["train"]:  # the backend's own gradients exist and are finite
        losses = [model.train_on_batch(images, np.zeros(outputs.shape, "float32")) for _ in "12"]
        assert np.isfinite(losses).all(), f"{case['id']}: losses {losses}"
keras.mixed_precision.set_dtype_policy(before)
print("all cases ran")
