"""Run by test_fresh_process.py: a quantised model goes on where only the package is imported."""

import sys

import numpy as np

import keras_hybrid  # registers the layers that the file holds

import keras  # isort: skip

folder = sys.argv[1]
model = keras.models.load_model(f"{folder}/q.keras")
keras_hybrid.export_tflite(model, f"{folder}/again.tflite", precision="int8")
data = np.load(f"{folder}/data.npz")
before = model.get_weights()
history = model.fit(data["images"], data["labels"], epochs=3, verbose=0, shuffle=False)
moved = [bool(np.any(a != b)) for a, b in zip(before, model.get_weights(), strict=True)]
np.savez(
    f"{folder}/trained.npz",
    losses=history.history["loss"],
    moved=moved,
    paths=[weight.path for weight in model.weights],
    iterations=int(model.optimizer.iterations),
)
keras_hybrid.export_tflite(model, f"{folder}/trained.tflite", precision="int8")
