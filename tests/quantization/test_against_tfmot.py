"""MobileNetV2 through `quantize`, and as `tf_keras` through TFMOT's own `quantize_model`.

What can be compared, and what cannot:
- Activations: TFMOT rounds where we do (behind ReLU6, folded batch norms, sums, pooling, the last
  layer), with the same moving average, so every range must be the same. It rounds the kernels of
  depthwise and dense layers with one scale a layer, we with one a channel. So that the noise of it
  does not run through the network, these kernels lie on a grid here, and the greatest value of
  each channel is the layer's: then both roundings leave them alone.
- Input: TFMOT takes the least and greatest value of all batches, we the average. Ours is set so.
- Kernels: TFMOT rounds them before batch norm is folded, we after; ranges are compared after
  folding. Of depthwise and dense kernels, the layer's range is the channels' greatest.
- Softmax: TFMOT leaves its range to the converter, which takes the fixed one that we round to.
"""

import tempfile
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from harness import randomise

import keras_hybrid
from keras_hybrid.quantization.ranges import tfmot
from keras_hybrid.quantization.ranges.fake_quantize import fake_quantizers
from keras_hybrid.quantization.twins.kernels import QuantizedKernel

pytestmark = pytest.mark.large

DECAY = 0.999  # TFMOT's
START = np.array([-6.0, 6.0])
BATCHES = 4


def on_a_grid(layer, random):
    """Gives every channel of the kernel the same greatest value, and whole steps of it."""
    steps = random.integers(-127, 128, layer.kernel.shape)
    steps[0] = 127
    layer.kernel.assign(steps * float(np.std(layer.kernel)) / 64)


@pytest.fixture(scope="module")
def both(require):
    """The float model, ours and TFMOT's, calibrated with the same batches."""
    require(module="tensorflow_model_optimization")
    require(module="tf_keras")
    tfmot.quantizers()  # imports TFMOT with the environment put back
    import tensorflow_model_optimization
    import tf_keras

    keras.utils.clear_session()  # layers without a name are counted from here in both
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    options = dict(input_shape=(64, 64, 3), alpha=0.35, weights=None, classes=10)
    model = randomise(keras.applications.MobileNetV2(**options))
    for layer in model.layers:
        if isinstance(layer, keras.layers.DepthwiseConv2D | keras.layers.Dense):
            on_a_grid(layer, random)
    legacy = tf_keras.applications.MobileNetV2(**options)
    for layer in legacy.layers:
        if layer.weights:
            layer.set_weights(model.get_layer(layer.name).get_weights())
    batches = random.uniform(-1, 1, (BATCHES, 4, 64, 64, 3)).astype("float32")
    np.testing.assert_allclose(model(batches[0]), legacy(batches[0]), atol=1e-6)
    ours = keras_hybrid.quantize(model)
    theirs = tensorflow_model_optimization.quantization.keras.quantize_model(legacy)
    for wrapper in theirs.layers:
        if isinstance(getattr(wrapper, "layer", None), tf_keras.layers.BatchNormalization):
            wrapper.layer.trainable = False  # statistics as they are, which we have folded
    image, *_ = fake_quantizers(ours)
    image.frozen = True
    for count, batch in enumerate(batches, 1):
        image.set_range(batches[:count].min(), batches[:count].max())
        ours(batch, training=True)
        theirs(batch, training=True)
    return SimpleNamespace(model=model, ours=ours, theirs=theirs, images=batches[0])


@pytest.fixture(scope="module")
def their_weights(both):
    """Ranges of TFMOT's model by name, such as "quant_Conv1/kernel"."""
    values = {weight.name.split(":")[0]: weight.numpy() for weight in both.theirs.weights}
    return {
        name.removesuffix("_min"): np.array([low, values[f"{name.removesuffix('_min')}_max"]])
        for name, low in values.items()
        if name.endswith("_min")
    }


def test_activations_have_the_same_ranges(both, their_weights):
    theirs = {name: value for name, value in their_weights.items() if "kernel" not in name}
    compared = set()
    for layer in fake_quantizers(both.ours):
        if layer.fixed_range is not None:
            assert layer.name == "predictions_softmax_rounded"
            continue
        name = layer.name.removesuffix("_rounded")
        if layer is fake_quantizers(both.ours)[0]:
            partner = "quantize_layer/quantize_layer"
        else:
            (partner,) = theirs.keys() & {
                f"quant_{name}/output",
                f"quant_{name}_BN/output",
                f"quant_{name}_bn/output",
                f"quant_{name}/pre_activation",
            }
        compared.add(partner)
        np.testing.assert_allclose(layer.range, theirs[partner], atol=1e-3, err_msg=name)
        if partner.startswith("quant_"):
            # What the batches had on average: the start at -6 and 6 would hide it.
            kept = DECAY**BATCHES
            mine, other = ((x - kept * START) / (1 - kept) for x in (layer.range, theirs[partner]))
            assert np.ptp(other) > 0.05
            np.testing.assert_allclose(mine, other, atol=1e-3 * np.ptp(other), err_msg=name)
    assert compared == theirs.keys(), "TFMOT rounds nowhere else"


def test_kernels_have_the_same_ranges(both, their_weights):
    layers = [layer for layer in both.ours.layers if isinstance(layer, QuantizedKernel)]
    kernels = {name for name in their_weights if name.endswith("kernel")}
    assert len(layers) == len(kernels) == 53
    for layer in layers:
        factor = folded_factor(both.model, layer.name)
        mine = np.array([layer.kernel_range["min_var"], layer.kernel_range["max_var"]]) / factor
        kind = "depthwise_kernel" if "depthwise" in layer.name else "kernel"
        theirs = their_weights[f"quant_{layer.name}/{kind}"].reshape(2, -1)
        if theirs.shape[1] == 1:
            mine = np.stack([mine[0].min(), mine[1].max()])[:, None]
        assert mine.shape == theirs.shape
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, err_msg=layer.name)


def folded_factor(model, name):
    """What folding multiplied the output channels of a convolution by, without sign."""
    layers = {layer.name: layer for layer in model.layers}
    for norm in (f"bn_{name}", f"{name}_BN", f"{name}_bn"):
        if norm in layers:
            norm = layers[norm]
            return np.abs(norm.gamma) / np.sqrt(norm.moving_variance + norm.epsilon)
    return 1.0


def test_files_have_the_same_int8_operators(both, tmp_path):
    from keras_hybrid.export.inspect import inspect_tflite

    ours = keras_hybrid.export_tflite(both.ours, tmp_path / "ours.tflite", precision="int8")
    theirs = tmp_path / "theirs.tflite"
    theirs.write_bytes(converted(both.theirs))
    ours, theirs = inspect_tflite(ours), inspect_tflite(theirs)

    def int8(inspection, *kinds):
        return sum(x.dtype == "INT8" and x.producer in kinds for x in inspection.activations)

    # A dense layer is a convolution of one pixel in our files.
    for kinds, count in ((("CONV_2D", "FULLY_CONNECTED"), 36), (("DEPTHWISE_CONV_2D",), 17)):
        assert int8(ours, *kinds) == int8(theirs, *kinds) == count
    assert len(ours.float_tensors) <= len(theirs.float_tensors)
    assert ours.integer_offenders == ()


def converted(model):
    """TFMOT's model as a `.tflite`."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    signature = [tf.TensorSpec((1, 64, 64, 3))]

    @tf.function(input_signature=signature, autograph=False)
    def call(image):
        return model(image, training=False)

    # Frozen first: with live variables, conversion takes ten times as long.
    frozen = convert_variables_to_constants_v2(call.get_concrete_function())

    class Servable(tf.Module):
        @tf.function(input_signature=signature, autograph=False)
        def serve(self, image):
            return {"scores": frozen(image)[0]}

    with tempfile.TemporaryDirectory() as folder:
        servable = Servable()
        tf.saved_model.save(servable, folder, signatures={"serving_default": servable.serve})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        return converter.convert()
