"""Calibration computes what the model computes, and keeps nothing longer than it is needed."""

import gc
import weakref

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_hybrid.quantization.ranges import lean_run
from keras_hybrid.quantization.ranges.lean_run import images_at_a_time, run_leanly
from keras_hybrid.quantization.twins.attention import QuantizedDotProductAttention


@keras.saving.register_keras_serializable("tests")
class Spy(layers.Layer):
    """Remembers what it was shown, and how many of the earlier tensors are still there."""

    def __init__(self, seen, **kwargs):
        super().__init__(**kwargs)
        self.see = seen.append  # Keras would keep a copy of a list
        self.count_alive = lambda: sum(reference() is not None for _, reference in seen)

    def call(self, inputs):
        if not isinstance(inputs, keras.KerasTensor) and hasattr(inputs, "numpy"):
            gc.collect()
            self.alive = self.count_alive()
            self.see((np.array(inputs), weakref.ref(inputs)))
        return inputs + 1


def chain(seen):
    x = image = keras.Input((4, 4, 3))
    spies = [Spy(seen, name=f"spy{number}") for number in range(6)]
    for spy in spies:
        x = spy(x)
    return keras.Model(image, x), spies


@pytest.mark.large
def test_a_value_goes_when_its_last_reader_has_run():
    lean, whole = [], []
    model, spies = chain(lean)
    images = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype("float32")
    run_leanly(model, images)
    assert spies[-1].alive <= 2, "the first values are still there"
    other, kept = chain(whole)
    other(images, training=False)
    assert kept[-1].alive >= 4, "Keras lets go by itself: this module is not needed any more"
    for (found, _), (wanted, _) in zip(lean, whole, strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.large
def test_shared_layers_several_inputs_and_operations_are_computed():
    seen = []
    spy, dense = Spy(seen, name="spy"), layers.Dense(3, name="dense")
    left, right = keras.Input((3,), name="left"), keras.Input((3,), name="right")
    total = ops.concatenate([dense(left) * 2, layers.Dropout(0.5)(dense(right)), left], axis=-1)
    model = keras.Model({"b": right, "a": left}, [spy(total), total])
    random = np.random.default_rng(0)
    arrays = {"a": random.normal(size=(2, 3)), "b": random.normal(size=(2, 3))}
    run_leanly(model, arrays)
    wanted = model({key: value.astype("float32") for key, value in arrays.items()})[1]
    np.testing.assert_allclose(seen[0][0], wanted, rtol=1e-6)


def test_images_at_a_time_are_as_many_as_fit(monkeypatch):
    model, _ = chain([])
    a_call = 4 * 2 * 4 * 4 * 3  # bytes of what one of its calls takes and gives, for an image
    monkeypatch.setattr(lean_run, "BYTES", 10 * a_call + 1)
    assert images_at_a_time(model) == 10
    x = model.output
    assert images_at_a_time(keras.Model(model.input, x + model.layers[1].output)) == 6
    monkeypatch.setattr(lean_run, "BYTES", 1)
    assert images_at_a_time(model) == 1
    any_size = keras.Input((None, None, 3))
    assert images_at_a_time(keras.Model(any_size, any_size + 1)) is None


def test_scores_of_attention_count_too(monkeypatch, require):
    require(module="tensorflow_model_optimization")
    tokens = keras.Input((64, 8))
    attention = QuantizedDotProductAttention(num_heads=2, name="attention")
    model = keras.Model(tokens, attention([tokens, tokens, tokens]))
    scores = 2 * 64 * 64
    monkeypatch.setattr(lean_run, "BYTES", 4 * 9 * scores * 10)
    assert images_at_a_time(model) == pytest.approx(10, abs=1)
