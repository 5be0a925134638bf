"""Float16 and dynamic files: every kernel small, and the same digits told apart."""

import keras
import numpy as np
import pytest

import keras_hybrid
from keras_hybrid.export.flatbuffer.file import TFLiteFile
from keras_hybrid.export.verify import run_tflite

SIZE = 64
NUM_TRAINING, NUM_IMAGES = 400, 600
# Elements of the largest constant in float32: biases, and kernels that the converter calls small.
LARGEST_FLOAT = {"float16": 0, "dynamic": 1024}
# Of the file's size over float32's; root mean square error over the scores' standard deviation;
# agreeing top classes, where the two best scores are further apart than rounding moves them.
LIMITS = {"float16": (0.52, 0.02, 0.985), "dynamic": (0.29, 0.2, 0.97)}


def load_images(number):
    """Digits as float32 (number, SIZE, SIZE, 3) of -1 to 1, and their classes."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.kron(digits.images[:number] / 8 - 1, np.ones((1, SIZE // 8, SIZE // 8)))
    return np.repeat(images[..., None], 3, axis=-1).astype("float32"), digits.target[:number]


def learn_digits(model):
    """Statistics of the norms and a least-squares head: without, all images look the same."""
    images, classes = load_images(NUM_TRAINING)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(images[:100], training=True)
    head = model.layers[-1]
    features = keras.Model(model.input, head.input).predict(images, batch_size=100, verbose=0)
    mean, std = features.mean(axis=0), features.std(axis=0)
    x = (features - mean) / std
    targets = 2 * np.eye(10)[classes] - 1
    kernel = np.linalg.solve(x.T @ x + 100 * np.eye(x.shape[1]), x.T @ targets) / std[:, None]
    head.set_weights([kernel, -mean @ kernel])


@pytest.mark.large
@pytest.mark.parametrize("name", ["MobileFormer26M", "MobileViTXXS", "IFormerT"])
def test_half_and_a_quarter_of_the_size_for_the_same_classes(
    network, exported, require, tmp_path, name
):
    require(module="sklearn")
    model = network(name, size=SIZE, classifier_activation=None)
    learn_digits(model)
    _, full = exported(name)  # at another size of image: the weights are as large
    images = load_images(NUM_IMAGES)[0][NUM_TRAINING:]
    expected = model.predict(images, batch_size=100, verbose=0)
    assert len(np.unique(expected.argmax(-1))) >= 5, "nothing to agree about"
    for precision, (factor, error, agreement) in LIMITS.items():
        path = keras_hybrid.export_tflite(model, tmp_path / f"{precision}.tflite", precision)
        assert path.stat().st_size <= factor * full.stat().st_size, precision
        assert largest_float(path) <= LARGEST_FLOAT[precision], precision
        (actual,) = run_tflite(path, images).values()
        moved = np.sqrt(np.mean((actual - expected) ** 2))
        assert moved <= error * expected.std(), precision
        told_apart = lead(expected) > 2 * moved
        assert told_apart.mean() >= 0.6, "nothing to agree about"
        same = actual.argmax(-1) == expected.argmax(-1)
        assert np.mean(same[told_apart]) >= agreement, precision


def lead(scores):
    """Of each image, how far its best score is above the second."""
    second, best = np.sort(scores, axis=-1)[:, -2:].T
    return best - second


def largest_float(path):
    """Number of elements of the largest constant in float32, 0 without one."""
    from ai_edge_litert.schema_py_generated import TensorType

    model = TFLiteFile.read(path).model
    return max(
        (
            int(np.prod(tensor.shape))
            for tensor in model.subgraphs[0].tensors
            if tensor.type == TensorType.FLOAT32 and model.buffers[tensor.buffer].data is not None
        ),
        default=0,
    )
