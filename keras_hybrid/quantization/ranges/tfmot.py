"""TFMOT's quantisers in Keras 3 layers: the one place that imports TFMOT."""

import functools
import importlib
import os

import keras

LEGACY_SWITCH = "TF_USE_LEGACY_KERAS"


@functools.cache
def quantizers():
    """TFMOT's module of quantisers, imported with the environment put back as it was.

    Importing TFMOT tells TensorFlow to use legacy Keras from then on; who imports `tf.keras` later
    in the process shall not notice. TensorFlow decides which Keras that is when `tf.keras` is first
    used, which TFMOT does, so that it is used here before.

    Raises:
        ImportError: where TFMOT is not installed, or no longer has the quantisers.
    """
    before = os.environ.get(LEGACY_SWITCH)
    hasattr(importlib.import_module("tensorflow").keras, "layers")  # a use, which decides
    try:
        importlib.import_module("tensorflow_model_optimization")
        module = importlib.import_module(
            "tensorflow_model_optimization.python.core.quantization.keras.quantizers"
        )
        for name in ("Quantizer", "LastValueQuantizer", "MovingAverageQuantizer", "FixedQuantizer"):
            getattr(module, name)
    except (ImportError, AttributeError) as error:
        raise ImportError(
            "Quantisation needs tensorflow-model-optimization 0.8 with its quantisers: "
            f"pip install 'tensorflow-model-optimization>=0.8,<0.9'. Received: {error}"
        ) from error
    finally:
        if before is None:
            os.environ.pop(LEGACY_SWITCH, None)
        else:
            os.environ[LEGACY_SWITCH] = before
    return module


def per_channel_weights():
    """TFMOT's quantiser of kernels: per channel of the last axis, symmetric, narrow range."""
    return quantizers().LastValueQuantizer(
        num_bits=8, per_axis=True, symmetric=True, narrow_range=True
    )


def moving_average(symmetric: bool = False):
    """TFMOT's quantiser of activations: moving average of the batches' ranges."""
    return quantizers().MovingAverageQuantizer(
        num_bits=8, per_axis=False, symmetric=symmetric, narrow_range=False
    )


def learned(quantizer, symmetric: bool = False):
    """The quantiser of activations to use: the user's, or TFMOT's moving average.

    Args:
        quantizer: a `Quantizer`, or None.
        symmetric: whether the range is to be symmetric, where the quantiser has such a setting.
    """
    if quantizer is None:
        return moving_average(symmetric)
    config = dict(quantizer.get_config())
    if symmetric and "symmetric" in config:
        config["symmetric"] = True
    return type(quantizer).from_config(config)


def fixed(low: float, high: float):
    """TFMOT's quantiser of one range for ever."""
    return quantizers().FixedQuantizer(
        num_bits=8, init_min=float(low), init_max=float(high), narrow_range=False
    )


def serialize(quantizer) -> dict:
    """A quantiser as plain data, for a layer's configuration.

    A user's own class is to be registered with `keras.saving.register_keras_serializable`.
    """
    if type(quantizer).__module__ == quantizers().__name__:
        return {"tfmot": type(quantizer).__name__, "config": quantizer.get_config()}
    return keras.saving.serialize_keras_object(quantizer)


def deserialize(data):
    """The quantiser that `serialize` described; a quantiser is returned as it is."""
    if isinstance(data, quantizers().Quantizer):
        return data
    if not isinstance(data, dict):
        raise ValueError(f"A TFMOT `Quantizer` is expected. Received: {data!r}")
    if "tfmot" in data:
        return getattr(quantizers(), data["tfmot"]).from_config(data["config"])
    return keras.saving.deserialize_keras_object(data)


class WeightsOf:
    """A Keras 3 layer as TFMOT's quantisers expect a layer: `add_weight` in their convention.

    Args:
        layer: the Keras 3 layer that the variables shall belong to.
    """

    def __init__(self, layer: keras.layers.Layer):
        self._layer = layer
        self.variables = {}

    def add_weight(self, name, shape=None, initializer=None, trainable=False, dtype=None, **_):
        """A variable of the layer, as TensorFlow's variable.

        Arguments of legacy Keras that say nothing about the value are left out.
        """
        shape = () if shape is None else (shape,) if isinstance(shape, int) else tuple(shape)

        def initial(shape, dtype):
            if initializer is None:
                return keras.ops.zeros(shape, dtype)
            return keras.ops.convert_to_tensor(initializer(shape), dtype)

        variable = self._layer.add_weight(
            name=name,
            shape=shape,
            initializer=initial,
            trainable=trainable,
            dtype=dtype or "float32",
            autocast=False,
        )
        self.variables[id(variable.value)] = variable
        return variable.value


def build(quantizer, layer: keras.layers.Layer, name: str, shape) -> dict:
    """Creates the quantiser's variables in a Keras 3 layer; returns them by its names for them.

    Raises:
        ValueError: for another backend than TensorFlow.
    """
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "Quantised layers need the TensorFlow backend: set KERAS_BACKEND=tensorflow. "
            f"Received: backend {keras.backend.backend()!r}, layer {layer.name!r}"
        )
    import tensorflow as tf

    owner = WeightsOf(layer)
    weights = quantizer.build(tf.TensorShape(shape), name, owner) or {}
    return {key: owner.variables.get(id(value), value) for key, value in weights.items()}


def apply(quantizer, values, weights: dict, update: bool):
    """Rounds values; with `update` the quantiser may change its range first."""
    import tensorflow as tf

    weights = dict(zip(weights, tensors(weights, *weights), strict=True))
    values = tf.convert_to_tensor(values)
    if not update and _is_of_one_range(quantizer) and _are_constants_of_graph(weights):
        # One operator in place of three: a quarter of what is traced, saved, loaded and converted.
        low, high = (float(weights[name]) for name in ("min_var", "max_var"))
        return tf.quantization.fake_quant_with_min_max_args(
            values, low, high, quantizer.num_bits, quantizer.narrow_range
        )
    return tf.convert_to_tensor(quantizer(values, update, weights))


def _is_of_one_range(quantizer):
    """Whether it is one of TFMOT's that has one range, and does nothing but round by it."""
    kinds = (quantizers().MovingAverageQuantizer, quantizers().LastValueQuantizer)
    return type(quantizer) in kinds and not quantizer.per_axis


def _are_constants_of_graph(weights):
    """Whether a graph is traced, and values are known to it (those that a conversion put there)."""
    import tensorflow as tf

    return not tf.executing_eagerly() and not any(
        isinstance(x, tf.Variable) or tf.is_symbolic_tensor(x) for x in weights.values()
    )


def tensors(weights: dict, *names) -> list:
    """Some of a quantiser's variables, by name, as TensorFlow's.

    Values of Keras' variables: constants where a conversion put constants in their place.
    """
    found = [weights[name] for name in names]
    return [x.value if isinstance(x, keras.Variable) else x for x in found]


def num_steps(quantizer) -> int:
    """From one end of a quantiser's range to the other."""
    return 2**quantizer.num_bits - (2 if quantizer.narrow_range else 1)
