"""Checks that every layer and model of the package must pass, whatever it computes."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np

_RELOAD = """
import json, sys
import numpy as np
import keras_hybrid
import keras
for line in sys.stdin:
    path, inputs, outputs = json.loads(line)
    arrays = np.load(inputs)
    arrays = [arrays[key] for key in sorted(arrays, key=lambda key: int(key.split("_")[1]))]
    model = keras.models.load_model(path)
    results = keras.tree.flatten(model(arrays if len(arrays) > 1 else arrays[0]))
    np.savez(outputs, *[keras.ops.convert_to_numpy(result) for result in results])
    print("done", flush=True)
"""


class FreshProcess:
    """A Python process that has imported the package and nothing of the test, and loads models."""

    def __init__(self):
        self._process = None

    def run(self, path: Path, inputs: list[np.ndarray]) -> list[np.ndarray]:
        """Loads the `.keras` file in the other process and calls the model on `inputs`."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _RELOAD],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        given, returned = path.with_suffix(".in.npz"), path.with_suffix(".out.npz")
        np.savez(given, *inputs)
        self._process.stdin.write(json.dumps([str(path), str(given), str(returned)]) + "\n")
        self._process.stdin.flush()
        while (line := self._process.stdout.readline()) != "done\n":
            assert line, f"the fresh process died on {path.name}; its error is above"
        arrays = np.load(returned)
        return [arrays[f"arr_{index}"] for index in range(len(arrays))]

    def close(self):
        """Ends the process."""
        if self._process is not None:
            self._process.stdin.close()
            self._process.wait(timeout=30)


def randomise(model, seed=0):
    """The model with no weight at a special value, batch norm's statistics included.

    So that nothing is right by accident.
    """
    random = np.random.default_rng(seed)
    for variable in model.variables:
        if variable.path.endswith(("gamma", "moving_variance")):
            variable.assign(random.uniform(0.5, 1.5, variable.shape))
        elif variable.path.endswith(("beta", "moving_mean", "bias")):
            variable.assign(random.normal(0, 0.3, variable.shape))
    return model


def check_layer(layer, inputs, *, tolerance, tmp_path, fresh_process, gradient=True):
    """Config round trip, eager and symbolic call, gradients, reload in a fresh process.

    Args:
        layer: an unbuilt layer.
        inputs: an array, or a list of arrays, with a batch axis.
        tolerance: largest absolute difference between any two ways to compute the outputs.
        tmp_path: a folder for the saved model.
        fresh_process: the fixture of that name.
        gradient: whether a gradient must reach every trainable variable and float input.

    Returns: the layer's outputs as a list of arrays.
    """
    several = isinstance(inputs, list)
    arrays = inputs if several else [inputs]
    tensors = [keras.ops.convert_to_tensor(array) for array in arrays]
    eager = keras.tree.flatten(layer(tensors if several else tensors[0]))
    eager = [keras.ops.convert_to_numpy(output) for output in eager]

    symbols = [keras.Input(array.shape[1:], dtype=str(array.dtype)) for array in arrays]
    outputs = layer(symbols if several else symbols[0])
    for symbol, output in zip(keras.tree.flatten(outputs), eager, strict=True):
        assert symbol.shape == (None, *output.shape[1:]), "symbolic shape is the eager one"
    model = keras.Model(symbols if several else symbols[0], outputs)
    assert_close(predict(model, arrays), eager, tolerance)

    copy = type(layer).from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()
    copy.build([array.shape for array in arrays] if several else arrays[0].shape)
    copy.set_weights(layer.get_weights())
    copied = keras.tree.flatten(copy(tensors if several else tensors[0]))
    assert_close([keras.ops.convert_to_numpy(output) for output in copied], eager, tolerance)

    if gradient:
        check_gradients(layer, tensors if several else tensors[0])

    path = tmp_path / f"{layer.name}.keras"
    model.save(path)
    assert_close(fresh_process.run(path, arrays), eager, tolerance)
    return eager


def check_model(model, inputs, *, tolerance, tmp_path, fresh_process, zero_in_theory=()):
    """Clone with the same weights, reload in a fresh process, gradients: as for a layer.

    Args:
        model: a built functional model.
        inputs: an array with a batch axis, or a list of such; its first two examples are compared.
        tolerance: largest absolute difference between any two ways to compute the outputs.
        tmp_path: a folder for the saved model.
        fresh_process: the fixture of that name.
        zero_in_theory: of `check_gradients`, which sees the whole batch.

    Returns: the model's outputs as a list of arrays.
    """
    several = isinstance(inputs, list)
    arrays = inputs if several else [inputs]
    check_gradients(model, inputs, zero_in_theory=zero_in_theory)
    arrays = [array[:2] for array in arrays]
    expected = predict(model, arrays)
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    assert_close(predict(clone, arrays), expected, tolerance)
    path = tmp_path / "model.keras"
    model.save(path)
    assert_close(fresh_process.run(path, arrays), expected, tolerance)
    return expected


def check_tflite(
    model,
    images,
    path,
    *,
    tolerance=None,
    least_decibels=None,
    partitions=1,
    undelegated=(),
    precision="float32",
    **options,
):
    """Conversion, builtin operators with static shapes, engines, agreement with the Keras model.

    Args:
        model: a Keras model, quantised or not.
        images: what it takes, (n, H, W, 3).
        path: of the file to write.
        tolerance: largest difference of an output, in times of its largest value; None where
            `least_decibels` is given.
        least_decibels: least signal to noise of the file's outputs against the model's.
        partitions: of XNNPACK at most.
        undelegated: names of operators that may stand outside of it.
        precision: of `export_tflite`, as are the options.

    Returns: the file's `Inspection`.
    """
    from keras_hybrid.export.convert import export_tflite
    from keras_hybrid.export.inspect import inspect_tflite
    from keras_hybrid.export.verify import run_tflite

    export_tflite(model, path, precision=precision, **options)
    found = inspect_tflite(path)
    assert not found.flex_ops and not found.custom_ops
    assert found.partitions <= partitions
    assert set(found.undelegated) <= set(undelegated)
    if precision == "int8":
        assert found.integer_offenders == ()
    outputs = list(run_tflite(path, images).values())
    expected = predict(model, [images])
    assert len(outputs) == len(expected)
    for actual, wanted in zip(outputs, expected, strict=True):
        assert actual.shape == wanted.shape
        if tolerance is not None:
            assert relative_error(actual, wanted) <= tolerance
        if least_decibels is not None:
            assert decibels(wanted, actual) >= least_decibels
    assert tolerance is not None or least_decibels is not None, "agreement has to be asked for"
    return found


def check_gradients(layer, inputs, *, zero_in_theory=()):
    """A finite gradient reaches every trainable variable, and none is zero throughout.

    `zero_in_theory` names (by the end of their path) variables whose gradient vanishes
    mathematically; they must be connected and finite all the same.
    """
    import tensorflow as tf

    with tf.GradientTape() as tape:
        outputs = keras.tree.flatten(
            layer(inputs, training=True) if _takes_training(layer) else layer(inputs)
        )
        # A fixed random projection: no variable's effect cancels as it might in a plain sum.
        random = np.random.default_rng(0)
        loss = sum(
            tf.reduce_sum(output * random.standard_normal(output.shape).astype("float32"))
            for output in outputs
        )
    variables = layer.trainable_variables
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    for variable, gradient in zip(variables, gradients, strict=True):
        assert gradient is not None, f"{variable.path} gets no gradient"
        gradient = tf.convert_to_tensor(gradient).numpy()
        assert np.isfinite(gradient).all(), f"{variable.path} gets a gradient that is not finite"
        if not variable.path.endswith(tuple(zero_in_theory) or ("\0",)):
            assert np.abs(gradient).max() > 0, f"{variable.path} gets a gradient of zero"


def predict(model, arrays):
    """A model's outputs for arrays, as a list of arrays, without `predict`'s tracing."""
    outputs = model(arrays if len(arrays) > 1 else arrays[0], training=False)
    return [keras.ops.convert_to_numpy(output) for output in keras.tree.flatten(outputs)]


def assert_close(actual, expected, tolerance):
    """Lists of arrays of equal shapes, nowhere further apart than `tolerance`."""
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected, strict=True):
        assert a.shape == b.shape
        assert np.abs(np.asarray(a, "float64") - np.asarray(b, "float64")).max() <= tolerance


def relative_error(actual, expected):
    """Largest absolute difference over the largest absolute expected value."""
    actual, expected = np.asarray(actual, "float64"), np.asarray(expected, "float64")
    return np.abs(actual - expected).max() / np.abs(expected).max()


def decibels(signal, other):
    """Signal to noise of `other` against `signal`."""
    noise = np.sum((np.asarray(signal, "float64") - other) ** 2)
    return 10 * np.log10(np.sum(np.asarray(signal, "float64") ** 2) / max(noise, 1e-30))


def _takes_training(layer):
    return getattr(layer, "_call_has_training_arg", False) or isinstance(layer, keras.Model)
