"""Files are whole or absent; a state holds everything that training changes."""

import keras
import numpy as np
import pytest

from keras_hybrid.files import whole_file, write_text
from keras_hybrid.training.run.training_state import load_state, save_state


def compiled(units=4):
    keras.utils.set_random_seed(1)
    image = keras.Input((5,))
    x = keras.layers.Dropout(0.5)(keras.layers.Dense(units)(image))
    model = keras.Model(image, keras.layers.BatchNormalization()(x))
    model.compile(keras.optimizers.AdamW(1e-2, use_ema=True), "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def test_training_goes_on_from_a_state_as_if_nothing_had_happened(tmp_path):
    x, y = np.random.default_rng(0).normal(size=(2, 16, 5)).astype("float32")
    y = y[:, :4]
    model = compiled()
    model.fit(x, y, epochs=2, shuffle=False, verbose=0)
    # `fit` puts the average in place of the weights when it ends; the state is taken after.
    save_state(tmp_path / "state.npz", model, [{"epoch": 1}, {"epoch": 2, "loss": 0.5}])
    model.fit(x, y, epochs=2, shuffle=False, verbose=0)

    other = compiled()
    assert load_state(tmp_path / "state.npz", other) == [{"epoch": 1}, {"epoch": 2, "loss": 0.5}]
    other.fit(x, y, epochs=2, shuffle=False, verbose=0)
    for first, second in zip(model.variables, other.variables, strict=True):
        np.testing.assert_array_equal(first.numpy(), second.numpy())
    assert any("seed" in variable.path for variable in model.variables)


def test_a_state_of_another_model_is_refused(tmp_path):
    save_state(tmp_path / "state.npz", compiled(), [])
    with pytest.raises(ValueError, match="variables that differ, the first: .* found"):
        load_state(tmp_path / "state.npz", compiled(units=3))


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "folder" / "a.weights.h5"
    with whole_file(path) as temporary:
        assert temporary.name.endswith(".weights.h5") and temporary.parent == path.parent
        temporary.write_text("old")
    with pytest.raises(KeyboardInterrupt), whole_file(path) as temporary:
        temporary.write_text("half of the n")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert [file.name for file in path.parent.iterdir()] == ["a.weights.h5"]
    write_text(path, "new")
    assert path.read_text() == "new"
