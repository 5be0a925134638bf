"""What building a model costs, and that it leaves nothing changed in the process."""

import gc

import keras
import pytest
from keras import layers

from keras_hybrid.surgery.editable_model import EditableModel
from keras_hybrid.surgery.garbage import garbage_left, garbage_taken


def test_variables_keep_their_names_in_keras_and_share_one_in_tensorflow():
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="stem")(image)
    model = keras.Model(image, layers.BatchNormalization(name="norm")(x))
    built = EditableModel(model).to_model()
    assert [x.path for x in built.variables] == [x.path for x in model.variables]
    assert "stem/kernel" in [x.path for x in built.variables]
    if keras.backend.backend() == "tensorflow":
        assert {x.value.name for x in built.variables} == {"variable:0"}
        assert keras.Variable(0.0, name="own").value.name == "own:0"


def test_garbage_is_left_for_a_while_only():
    assert gc.isenabled()
    with pytest.raises(KeyError), garbage_left():
        with garbage_left():
            assert not gc.isenabled()
        assert not gc.isenabled()
        raise KeyError
    assert gc.isenabled()


def test_what_was_there_is_looked_through_once():
    assert not gc.get_freeze_count()
    with garbage_taken():
        kept = gc.get_freeze_count()
        assert kept > 0
        with garbage_taken():
            pass
        assert gc.get_freeze_count() >= kept  # whoever froze it thaws it
    assert not gc.get_freeze_count()
