"""The inspector against files whose contents are known, and the comparison with Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_hybrid
from keras_hybrid.export.engines import check_gpu_delegate
from keras_hybrid.export.inspect import inspect_tflite
from keras_hybrid.export.verify import run_tflite, verify_tflite


def write_tflite(path, function, shape, flex=False):
    concrete = tf.function(function, input_signature=[tf.TensorSpec(shape)])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete.get_concrete_function()])
    if flex:
        converter.target_spec.supported_ops = [
            tf.lite.OpsSet.TFLITE_BUILTINS,
            tf.lite.OpsSet.SELECT_TF_OPS,
        ]
    path.write_bytes(converter.convert())
    return path


def test_operators_and_partitions_are_counted(tmp_path):
    # XNNPACK takes no cumulative sum: what is before and after it are partitions of their own.
    path = write_tflite(
        tmp_path / "a.tflite",
        lambda x: tf.exp(tf.cumsum(tf.exp(x), axis=1)),
        (1, 4, 8),
    )
    found = inspect_tflite(path)
    assert found.ops == {"EXP": 2, "CUMSUM": 1} and found.num_ops == 3
    assert found.partitions == 2
    assert found.undelegated == {"CUMSUM": 1}
    assert found.size_bytes == path.stat().st_size
    assert check_gpu_delegate(path).unsupported_ops == {"CUMSUM": 1}


def test_shapes_that_gpus_refuse_are_named(tmp_path):
    path = write_tflite(
        tmp_path / "a.tflite",
        lambda x: tf.transpose(tf.exp(x), (1, 0, 2)) + 1.0,
        (1, 4, 8),
    )
    found = inspect_tflite(path)
    assert {tensor.shape for tensor in found.gpu_shape_offenders} == {(4, 1, 8)}
    assert found.leading_dimensions[4] == len(found.gpu_shape_offenders)
    assert sum(found.ranks.values()) == len(found.activations)
    assert not check_gpu_delegate(path).ready


def test_a_clean_file_is_ready_for_gpus(tmp_path):
    path = write_tflite(tmp_path / "a.tflite", lambda x: tf.exp(x), (1, 4, 8))
    assert check_gpu_delegate(path).ready


def test_files_that_are_none_are_refused(tmp_path):
    (tmp_path / "text.tflite").write_text("not a model")
    for name in ("text.tflite", "missing.tflite"):
        for function in (inspect_tflite, check_gpu_delegate):
            with pytest.raises(ValueError, match=f"Received.*{name}"):
                function(tmp_path / name)


def test_differing_classes_are_listed_with_their_margin(classifier, noise, tmp_path):
    path = keras_hybrid.export_tflite(classifier, tmp_path / "a.tflite")
    images = noise(20)
    other = keras.models.clone_model(classifier)
    other.set_weights(classifier.get_weights())
    # The class with the fewest images gets just what it lacks in half of them.
    logits = np.log(classifier.predict(images, verbose=0))
    rare = np.bincount(logits.argmax(-1), minlength=5).argmin()
    lack = np.sort(logits.max(-1) - logits[:, rare])
    kernel, bias = other.get_layer("classes").get_weights()
    bias[rare] += (lack[9] + lack[10]) / 2
    other.get_layer("classes").set_weights([kernel, bias])
    result = verify_tflite(path, other, images)
    expected, actual = (m.predict(images, verbose=0) for m in (other, classifier))
    indices = np.flatnonzero(expected.argmax(-1) != actual.argmax(-1))
    assert 0 < len(indices) < 20, "the example must be of use"
    assert [item.index for item in result.differing] == indices.tolist()
    assert result.agreeing == 20 - len(indices) and result.total == 20
    assert result.agreement == result.agreeing / 20
    for item in result.differing:
        row = expected[item.index]
        assert item.margin == pytest.approx(row[item.keras_class] - row[item.tflite_class])
        assert item.margin > 0
    error = np.abs(expected - actual).max() / expected.max()
    assert result.relative_error == pytest.approx(error, rel=1e-3)


def test_images_that_do_not_fit_are_refused(classifier, noise, tmp_path):
    path = keras_hybrid.export_tflite(classifier, tmp_path / "a.tflite")
    for images in (noise(2, size=8), noise(0), noise(1)[0]):
        with pytest.raises(ValueError, match="Received"):
            verify_tflite(path, classifier, images)
    with pytest.raises(ValueError, match=r"\(16, 16, 3\).*Received"):
        run_tflite(path, noise(2, size=8))


def test_models_that_do_not_fit_are_refused(classifier, noise, tmp_path):
    path = keras_hybrid.export_tflite(classifier, tmp_path / "a.tflite")
    image = keras.Input((16, 16, 3))
    features = keras.Model(image, layers.Conv2D(2, 3)(image))
    with pytest.raises(ValueError, match="One output"):
        verify_tflite(path, features, noise(1))
    fewer = keras.Model(image, layers.Dense(3)(layers.Flatten()(image)))
    with pytest.raises(ValueError, match=r"\(1, 5\) from the file, \(1, 3\)"):
        verify_tflite(path, fewer, noise(1))
