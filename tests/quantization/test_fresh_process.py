"""A quantised model that was trained and saved goes on in another process as in its own."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers as L

import keras_hybrid
from keras_hybrid import layers as hybrid


def network(image):
    """A convolution, a gate, attention with layer norm, operations: every kind of twin."""
    x = L.Conv2D(8, 3, strides=2, use_bias=False, name="stem")(image)
    x = L.Activation("silu", name="curve")(L.BatchNormalization(name="stem_norm")(x))
    x = L.DepthwiseConv2D(3, padding="same", activation="hard_sigmoid", name="gate")(x)
    normed = L.LayerNormalization(name="norm")(x)
    projections = [L.Conv2D(8, 1, name=name)(normed) for name in ("query", "key", "value")]
    attended = hybrid.DotProductAttention(2, name="attention")(projections)
    x = L.Concatenate(name="both")([L.Add(name="sum")([x, attended]), x])
    x = x * keras.ops.relu6(x + 3.0)  # names of operations are counted in each process
    return L.Dense(5, name="classes")(L.GlobalAveragePooling2D(name="pool")(x))


@pytest.mark.large
def test_a_trained_model_goes_on(small_network, make_images, tmp_path, root):
    images, labels = make_images(), np.arange(32) % 5
    model = keras_hybrid.quantize(small_network(network))
    keras_hybrid.calibrate(model, images, stream=None)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # Eagerly: tracing the step takes longer than the few steps; the other process does likewise.
    model.compile(keras.optimizers.Adam(0.01), loss, run_eagerly=True)
    model.fit(images, labels, batch_size=32, epochs=1, verbose=0)
    model.save(tmp_path / "q.keras")
    np.savez(tmp_path / "data.npz", images=images, labels=labels)
    exported = keras_hybrid.export_tflite(model, tmp_path / "here.tflite", precision="int8")

    program = root / "tests" / "quantization" / "resume_program.py"
    other = {**os.environ, "PYTHONHASHSEED": "12345"}  # sets are ordered otherwise there
    done = subprocess.run(
        [sys.executable, program, tmp_path], capture_output=True, text=True, env=other
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "again.tflite").read_bytes() == exported.read_bytes()

    found = np.load(tmp_path / "trained.npz")
    assert found["losses"][-1] < found["losses"][0]
    assert found["iterations"] == 1 + 3, "the optimiser went on, it did not start anew"
    trained = [path.rsplit("/", 1)[-1] in ("kernel", "bias") for path in found["paths"]]
    assert np.all(found["moved"][trained])
    assert (tmp_path / "trained.tflite").read_bytes() != exported.read_bytes()

    history = model.fit(images, labels, epochs=3, verbose=0, shuffle=False)
    np.testing.assert_allclose(history.history["loss"], found["losses"], rtol=1e-4)
