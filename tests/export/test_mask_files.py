"""Files of segmentation networks: what they give, at which size, and what they say of it."""

import keras
import numpy as np
import pytest
from PIL import Image

import keras_hybrid
from keras_hybrid.export.inspect import inspect_tflite
from keras_hybrid.export.metadata import read_metadata
from keras_hybrid.export.verify import run_tflite, verify_tflite
from keras_hybrid.litert import open_interpreter
from keras_hybrid.tasks.segmentation.protocol import SegmentationProtocol
from keras_hybrid.weights.preprocessing import preprocessing_of

HALF_PIXEL = SegmentationProtocol()
LABELS = ("nothing", "cat", "dog", "bird")


@pytest.fixture(scope="module")
def network():
    """Semantic FPN on five convolutions, with labels in large areas."""
    keras.utils.set_random_seed(3)
    image = x = keras.Input((64, 96, 3), name="image")
    for index in range(5):
        x = keras.layers.Conv2D(
            8, 3, 2, padding="same", activation="relu", name=f"conv{index}", use_bias=False
        )(x)
    model = keras_hybrid.semantic_fpn(
        keras.Model(image, x), len(LABELS), neck_channels=16, head_channels=8
    )
    model.get_layer("logits").kernel.assign(10 * model.get_layer("logits").kernel)
    return model


@pytest.fixture(scope="module")
def images():
    """Smooth pictures, 0 to 1."""
    small = np.random.default_rng(0).uniform(size=(6, 4, 6, 3)).astype("float32")
    return np.asarray(keras.ops.image.resize(small, (64, 96), "bicubic")).clip(0, 1)


@pytest.mark.parametrize("values", ["logits", "labels", "confidence"])
@pytest.mark.parametrize("size", ["head", "image"])
def test_what_a_file_gives(values, size, network, images, tmp_path):
    path = tmp_path / "mask.tflite"
    keras_hybrid.export_tflite(network, path, output=values, mask_size=size, labels=None)
    (name, found), *rest = run_tflite(path, images).items()
    logits = network.predict(images, verbose=0)
    if size == "image":
        logits = np.asarray(keras.ops.image.resize(logits, (64, 96), "bilinear"))
    assert name == values and not rest
    if values == "labels":
        assert found.dtype == np.int32 and np.mean(found == logits.argmax(-1)) > 0.999
        assert set(np.unique(found)) == set(np.unique(logits.argmax(-1)))
    else:
        wanted = logits if values == "logits" else np.asarray(keras.ops.softmax(logits))
        np.testing.assert_allclose(found, wanted, atol=1e-4 * np.abs(wanted).max())
    result = verify_tflite(path, network, images)
    assert result.unit == "pixels" and result.agreement > 0.999
    assert result.total == np.prod(found.shape[:3]) and result.relative_error < 1e-4
    inspected = inspect_tflite(path)
    assert inspected.ops["ARG_MAX"] == (values == "labels")
    assert read_metadata(path).record["output"] == values


@pytest.mark.large
@pytest.mark.parametrize("precision", ["float16", "int8", "int8_cpu"])
def test_in_other_precisions(precision, network, images, tmp_path):
    path = tmp_path / "mask.tflite"
    model = network
    if precision != "float16":
        model = keras_hybrid.calibrate(keras_hybrid.quantize(network, precision), images)
    keras_hybrid.export_tflite(model, path, precision, output="labels", mask_size="image")
    assert verify_tflite(path, model, images).agreement > 0.99
    assert verify_tflite(path, network, images).agreement > 0.97
    if precision == "int8":
        assert not inspect_tflite(path).float_tensors
    if precision == "int8_cpu":  # logits are stretched in float
        tensors = open_interpreter(path, xnnpack=False).get_tensor_details()
        types = {
            x["dtype"]
            for x in tensors
            if tuple(x["shape"]) == (1, 64, 96, network.output.shape[-1])
        }
        assert types == {np.float32}


@pytest.mark.large
def test_a_trained_int8_network_is_what_ships(network, images, tmp_path):
    """Quantisation-aware training on label maps lowers the loss; the file computes its result."""
    labels = network.predict(images, verbose=0).argmax(-1)
    labels = np.roll(labels.repeat(4, 1).repeat(4, 2), 8, axis=2)  # at the image's size, shifted
    model = keras_hybrid.calibrate(keras_hybrid.quantize(network), images, stream=None)
    model.compile(keras.optimizers.Adam(1e-3), keras_hybrid.SegmentationLoss())
    losses = model.fit(images, labels, batch_size=3, epochs=4, verbose=0).history["loss"]
    assert np.isfinite(losses).all() and losses[-1] < losses[0]
    path = keras_hybrid.export_tflite(model, tmp_path / "a.tflite", "int8", output="logits")
    assert verify_tflite(path, model, images).agreement > 0.99


def test_the_later_generation_stretches_corner_on_corner(images, tmp_path):
    image = keras.Input((64, 96, 3))
    x = image
    for index in range(4):
        x = keras.layers.Conv2D(8, 3, 2, padding="same", name=f"conv{index}")(x)
    backbone = keras.Model(image, x)
    model = keras_hybrid.deeplabv3(backbone, 3, aspp_channels=8, rates=(12, 24, 36))
    path = tmp_path / "mask.tflite"
    keras_hybrid.export_tflite(model, path, output="labels", mask_size="image")
    (found,) = run_tflite(path, images).values()
    ours = keras_hybrid.segment(model, 255 * images, preprocessing="mobilevit")
    assert np.mean(found == ours) > 0.999
    half_pixel = keras_hybrid.segment(
        model, 255 * images, preprocessing="mobilevit", protocol=HALF_PIXEL
    )
    assert np.mean(found == half_pixel) < 0.999
    assert verify_tflite(path, model, images).agreement > 0.999


def test_verification_names_the_pixel_that_differs(network, images, tmp_path):
    path = tmp_path / "mask.tflite"
    keras_hybrid.export_tflite(network, path, output="labels")
    other = keras.models.clone_model(network)
    other.set_weights(network.get_weights())
    bias = other.get_layer("logits").bias
    bias.assign(bias + [5.0, 0, 0, 0])
    result = verify_tflite(path, other, images)
    assert result.agreement < 1 and result.differing
    assert all(x.keras_class == 0 != x.tflite_class and x.margin > 0 for x in result.differing)


def with_auxiliary(model):
    """The network with another head beside its own, as DeepLab's in training."""
    x = keras.layers.Conv2D(2, 1, name="auxiliary")(model.get_layer("conv3").output)
    return keras.Model(model.input, {"logits": model.output, "auxiliary": x})


@pytest.mark.large
def test_of_several_outputs_the_logits_are_taken(network, images, tmp_path):
    path = tmp_path / "mask.tflite"
    both = with_auxiliary(network)
    keras_hybrid.export_tflite(both, path, output="logits")
    (found,) = run_tflite(path, images).values()
    np.testing.assert_allclose(found, network.predict(images, verbose=0), atol=1e-4)
    assert verify_tflite(path, both, images).agreement > 0.999
    keras_hybrid.export_tflite(both, path)
    assert set(run_tflite(path, images)) == {"logits", "auxiliary"}


def classifier():
    image = keras.Input((64, 96, 3))
    return keras.Model(image, keras.layers.GlobalAveragePooling2D()(image))


def one_class():
    image = keras.Input((64, 96, 3))
    return keras.Model(image, keras.layers.Conv2D(1, 1, name="logits")(image))


@pytest.mark.parametrize(
    "model, options, message",
    [
        (classifier, {"output": "labels"}, "for a segmentation network"),
        (classifier, {"mask_size": "image"}, "mask_size='image', output='float32'"),
        (one_class, {"output": "labels"}, "classes=1"),
        (one_class, {"output": "confidence"}, "classes=1"),
        (one_class, {"output": "mask"}, "output='mask'"),
        (one_class, {"output": "labels", "mask_size": 3}, "Received: 3"),
        (one_class, {"labels": ["a", "b"]}, "2 labels for 1 classes"),
        (one_class, {"top_k": 1}, "top_k"),
    ],
)
def test_bad_input_is_named(model, options, message, tmp_path):
    with pytest.raises(ValueError) as raised:
        keras_hybrid.export_tflite(model(), tmp_path / "x.tflite", **options)
    assert message in str(raised.value)


# Runs in MediaPipe's own environment: label maps and names of a picture, file by file.
SEGMENTER = """
import json, sys
import mediapipe
import numpy as np
from mediapipe.tasks.python import BaseOptions, vision
picture, found = mediapipe.Image.create_from_file(sys.argv[1]), []
for path in sys.argv[2:]:
    options = vision.ImageSegmenterOptions(
        base_options=BaseOptions(model_asset_path=path),
        output_category_mask=True,
        output_confidence_masks=True,
    )
    with vision.ImageSegmenter.create_from_options(options) as segmenter:
        result = segmenter.segment(picture)
        np.save(path + ".npy", np.squeeze(result.category_mask.numpy_view()))
        sums = sum(mask.numpy_view() for mask in result.confidence_masks)
        low, high = float(sums.min()), float(sums.max())
        found.append({"labels": segmenter.labels, "low": low, "high": high})
print(json.dumps(found))
"""


@pytest.mark.large
def test_mediapipe_opens_the_file_and_gives_our_mask(network, images, tmp_path, mediapipe):
    picture = (255 * images[0]).round().astype("uint8")
    Image.fromarray(picture).save(tmp_path / "picture.png")
    ours = {}
    for size, interpolation in (("image", "bilinear"), ("head", "bilinear_aligned")):
        protocol = SegmentationProtocol(stretches=(("image", interpolation),))
        ours[size] = keras_hybrid.segment(
            network, picture, protocol=protocol, preprocessing="mobilevit"
        )
    assert len(np.unique(ours["image"])) > 1
    files = []
    for values, size in (("logits", "head"), ("confidence", "head"), ("logits", "image")):
        files.append(tmp_path / f"{values}_{size}.tflite")
        keras_hybrid.export_tflite(
            network,
            files[-1],
            preprocessing=preprocessing_of("mobilevit"),
            output=values,
            mask_size=size,
            labels=LABELS,
        )
    answers = mediapipe(SEGMENTER, tmp_path / "picture.png", *files)
    for file, answer in zip(files, answers, strict=True):
        assert tuple(answer["labels"]) == LABELS
        assert answer["low"] > 0.999 and answer["high"] < 1.001  # probabilities
        values, _, size = file.stem.partition("_")
        same = np.mean(np.load(f"{file}.npy") == ours[size])
        # It stretches masks corner on corner; stretched probabilities give other borders.
        assert same >= (0.999 if values == "logits" else 0.95), file.name
