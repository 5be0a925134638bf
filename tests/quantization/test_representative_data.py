"""What calibration may be given: forms of images, files, endless data; and what it warns of."""

import itertools

import keras
import numpy as np
import pytest
from keras import layers as L

import keras_hybrid
from keras_hybrid.quantization.ranges.fake_quantize import fake_quantizers
from keras_hybrid.quantization.ranges.representative_data import representative_batches
from keras_hybrid.weights.family import Preprocessing

PHOTOS = Preprocessing(16, 1.0, "bilinear", (0.5,) * 3, (0.5,) * 3)


@pytest.fixture(scope="module")
def model():
    image = keras.Input((16, 16, 3), name="photo")
    return keras.Model(image, L.GlobalAveragePooling2D()(L.Conv2D(4, 3)(image)), name="small")


@pytest.fixture(scope="module")
def pair():
    first, second = keras.Input((16, 16, 3), name="first"), keras.Input((8, 8, 3), name="second")
    pooled = [L.GlobalAveragePooling2D()(L.Conv2D(4, 3)(x)) for x in (first, second)]
    return keras.Model([first, second], L.Add()(pooled), name="pair")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three folders of 6 pictures, each of one level of its own."""
    from PIL import Image

    root = tmp_path_factory.mktemp("photos")
    for number, name in enumerate("abc"):
        (root / name).mkdir()
        for index in range(6):
            color = (60 * number + index,) * 3
            Image.new("RGB", (20, 16), color).save(root / name / f"{index}.png")
    return root


class Sequence(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        return np.full((2, 16, 16, 3), index, "float32"), np.zeros(2)


def values(batches):
    return [tuple(array[:, 0, 0, 0].tolist() for array in arrays) for arrays in batches]


IMAGES = np.arange(6, dtype="float32")[:, None, None, None] * np.ones((1, 16, 16, 3), "float32")
BATCHES = [IMAGES[:4], IMAGES[4:]]


def dataset(structure):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(structure).batch(4)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(lambda: IMAGES, id="array"),
        pytest.param(lambda: BATCHES, id="list of batches"),
        pytest.param(lambda: iter(BATCHES), id="iterator"),
        pytest.param(lambda: lambda: iter(BATCHES), id="function"),
        pytest.param(lambda: lambda: ([x] for x in BATCHES), id="as TensorFlow Lite wants them"),
        pytest.param(lambda: [(x, np.zeros(len(x))) for x in BATCHES], id="with labels"),
        pytest.param(lambda: [{"photo": x, "label": 0} for x in BATCHES], id="by the input's name"),
        pytest.param(lambda: [({"image": x}, 0) for x in BATCHES], id="a dictionary and labels"),
        pytest.param(lambda: {"image": IMAGES}, id="a dictionary"),
        pytest.param(lambda: dataset(IMAGES), id="dataset"),
        pytest.param(lambda: dataset({"image": IMAGES, "label": np.arange(6)}), id="as TFDS does"),
        pytest.param(lambda: dataset((IMAGES, np.arange(6))), id="dataset of pairs"),
    ],
)
def test_every_form_of_the_same_images(model, data):
    found = values(representative_batches(data(), model, 4))
    assert found == [([0, 1, 2, 3],), ([4, 5],)]


def test_sequences_end_where_they_say(model):
    assert values(representative_batches(Sequence(), model)) == [([0, 0],), ([1, 1],), ([2, 2],)]


@pytest.mark.parametrize("kind", ["dataset", "generator"])
def test_endless_data_need_steps(model, kind, monkeypatch):
    monkeypatch.setattr("keras_hybrid.quantization.ranges.representative_data.ENDLESS", 64)

    def data():
        return dataset(IMAGES).repeat() if kind == "dataset" else itertools.cycle(BATCHES)

    with pytest.raises(ValueError, match="`steps`"):
        list(representative_batches(data(), model))
    assert len(list(representative_batches(data(), model, steps=3))) == 3


def test_two_inputs(pair):
    small = np.zeros((6, 8, 8, 3), "float32")
    for data in (
        [IMAGES, small],
        [([IMAGES, small],)],
        [([IMAGES, small], np.zeros(6))],
        [{"first": IMAGES, "second": small}],
        {"first": IMAGES, "second": small},
    ):
        (batch,) = representative_batches(data, pair)
        assert [x.shape for x in batch] == [IMAGES.shape, small.shape]
    with pytest.raises(ValueError, match="takes 2 inputs, .*not one image input"):
        list(representative_batches([(IMAGES, 0, 0)], pair))
    quantized = keras_hybrid.quantize(pair)
    keras_hybrid.calibrate(quantized, [[IMAGES, small + 0.5]], stream=None)
    assert all(x.seen_range is not None for x in fake_quantizers(quantized))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (5, "Representative images are to be .*Received: images=5"),
        ("nowhere", "no image file is there. Received: 'nowhere'"),
        ([{"pixels": IMAGES}], r"keys \['photo'\], or one of .*Received: keys \['pixels'\]"),
        ([()], "must hold images"),
        ([[b"no image"]], "must be numbers.*a batch of type bytes"),
        (np.array([IMAGES[0], IMAGES[0][:8]], dtype=object), "must be numbers"),
        (IMAGES.astype("complex64"), "must be numbers"),
    ],
)
def test_what_cannot_be_taken(model, data, message):
    with pytest.raises(ValueError, match=message):
        list(representative_batches(data, model))
    with pytest.raises(ValueError, match="`steps` must be"):
        list(representative_batches(IMAGES, model, steps=0))


def test_all_folders_of_a_folder_are_sampled_alike(model, folder):
    def chosen(seed):
        (batch,) = representative_batches(
            folder, model, batch_size=6, steps=1, preprocessing=PHOTOS, seed=seed
        )
        return np.round((batch[0][:, 0, 0, 0] + 1) * 127.5).astype(int)

    levels = chosen(0)
    assert np.bincount(levels // 60, minlength=3).tolist() == [2, 2, 2]
    assert chosen(0).tolist() == levels.tolist() != chosen(1).tolist()
    everything = list(representative_batches(folder, model, 7, preprocessing=PHOTOS))
    assert [len(x[0]) for x in everything] == [7, 7, 4]
    with pytest.raises(ValueError, match="`preprocessing="):
        list(representative_batches(folder, model))


def test_files_are_seen_as_in_evaluation(model, tmp_path):
    from PIL import Image

    from keras_hybrid.image_files import decode_image
    from keras_hybrid.weights.evaluation import evaluation_image
    from keras_hybrid.weights.preprocessing import preprocess_input

    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype("uint8")
    exif = Image.Exif()
    exif[0x0112] = 6
    file = tmp_path / "lying.jpg"
    Image.fromarray(pixels).save(file, exif=exif)
    (batch,) = representative_batches([str(file)], model, preprocessing=PHOTOS)
    wanted = evaluation_image(decode_image(file), PHOTOS, 16)
    np.testing.assert_allclose(batch[0][0], preprocess_input(np.asarray(wanted), PHOTOS))
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"lying\.jpg"):
        list(representative_batches([file], model, preprocessing=PHOTOS))


def test_one_image_and_plain_ones_are_warned_of(model):
    quantized = keras_hybrid.quantize(model)
    with pytest.warns(UserWarning, match="Calibrated with 1 image"):
        keras_hybrid.calibrate(quantized, np.random.rand(1, 16, 16, 3), stream=None)
    with pytest.warns(UserWarning, match="values are all 3:"):
        keras_hybrid.calibrate(quantized, np.full((4, 16, 16, 3), 3.0), stream=None)


def test_signals_that_fade_are_warned_of(model, recwarn):
    quantized = keras_hybrid.quantize(model)
    images = np.random.default_rng(0).normal(size=(4, 16, 16, 3))
    keras_hybrid.calibrate(quantized, images, stream=None)
    assert not [w for w in recwarn if "below" in str(w.message)]
    with pytest.warns(UserWarning, match="below 1e-05 for all images, and are 0 in int8, at "):
        keras_hybrid.calibrate(quantized, images * 1e-7, stream=None)


@pytest.mark.large
def test_pixels_that_a_networks_preprocessing_does_not_give_are_warned_of(recwarn):
    model = keras_hybrid.IFormerT(weights=None, classes=3, input_shape=(64, 64, 3))
    quantized = keras_hybrid.quantize(model)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3))
    with pytest.warns(UserWarning, match="from 0 to 255; .* from -2.1.* these seem to be raw"):
        keras_hybrid.calibrate(quantized, pixels, stream=None)
    with pytest.warns(UserWarning, match="from 0 to 1; .* none is dark"):
        keras_hybrid.calibrate(quantized, pixels / 255, stream=None)
    recwarn.clear()
    keras_hybrid.calibrate(quantized, keras_hybrid.preprocess_input(pixels, model), stream=None)
    assert not [w for w in recwarn if "pixels" in str(w.message)]
