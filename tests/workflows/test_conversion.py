"""Networks by name and by file, and what is refused before anything is computed."""

import numpy as np
import pytest

from keras_hybrid.workflows.conversion import calibration_images, convert, open_model


@pytest.mark.parametrize(("head", "strides"), [("features", [32]), ("pyramid", [2, 4, 8, 16, 32])])
def test_a_builder_is_opened_with_the_head_that_is_asked_for(head, strides):
    model = open_model("IFormerT", head=head, input_size=64)
    assert model.input_shape == (None, 64, 64, 3) and model.name.endswith(f"_{head}")
    assert [64 // output.shape[1] for output in model.outputs] == strides
    assert model.outputs[-1].shape == (None, 2, 2, 256)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "missing.keras"}, "There is no such file.*missing.keras"),
        ({"name": "MobileFormer27M"}, "Did you mean"),
        ({"name": "IFormerT", "head": "boxes"}, "`head` must be one of.*'boxes'"),
    ],
)
def test_what_cannot_be_opened_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        open_model(**options)


def test_a_file_keeps_its_weights(tmp_path):
    (tmp_path / "a.keras").touch()
    with pytest.raises(ValueError, match="has its weights.*imagenet"):
        open_model(str(tmp_path / "a.keras"), "imagenet")


def test_images_are_asked_for_and_used_where_integers_are(classifier, tmp_path):
    images = np.random.default_rng(0).normal(size=(3, 16, 16, 3)).astype("float32")
    np.save(tmp_path / "images.npy", images)
    found = calibration_images(classifier, "int8", tmp_path / "images.npy", limit=2, raw=True)
    np.testing.assert_array_equal(found, images[:2])
    assert calibration_images(classifier, "float16", None) is None
    with pytest.raises(ValueError, match="needs `data`.*precision=int8"):
        calibration_images(classifier, "int8", None)
    with pytest.raises(ValueError, match="are for int8.*precision=float32"):
        calibration_images(classifier, "float32", tmp_path / "images.npy")
    with pytest.raises(ValueError, match="There is no such file.*none.txt"):
        convert(classifier, tmp_path / "a.tflite", labels=tmp_path / "none.txt")
    with pytest.raises(ValueError, match="`keep_float` is for a float model"):
        convert(classifier, tmp_path / "a.tflite", keep_float=("stem",))
    assert not (tmp_path / "a.tflite").exists()
