"""Run by test_backends.py in a process per backend: the same weights, the same inputs, outputs."""

import json
import sys
from pathlib import Path

import keras
import numpy as np

import keras_hybrid

folder, precision = sys.argv[1:]
keras.mixed_precision.set_dtype_policy(precision)
cases = json.loads(Path(folder, "cases.json").read_text())
for case in cases:
    options = case["options"] | {"weights": f"{folder}/{case['id']}.weights.h5"}
    model = keras_hybrid.build_model(case["name"], **options)
    images = np.load(f"{folder}/{case['id']}.images.npy")
    outputs = np.asarray(model.predict_on_batch(images), "float32")
    np.save(f"{folder}/{case['id']}.{keras.backend.backend()}.{precision}.npy", outputs)
    if case["train"]:  # the backend's own gradients exist and are finite
        model.compile(keras.optimizers.SGD(1e-3), "mse")
        losses = [model.train_on_batch(images, np.zeros(outputs.shape, "float32")) for _ in "12"]
        assert np.isfinite(losses).all(), f"{case['id']}: losses {losses}"
print("all cases ran")
