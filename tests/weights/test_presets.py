"""The table of published weights, preprocessing, the evaluation protocol, and class names."""

import os
import subprocess
import sys

import numpy as np
import pytest

import keras_hybrid
from keras_hybrid.weights.families import families
from keras_hybrid.weights.labels import imagenet_classes
from keras_hybrid.weights.preprocessing import preprocessing_of
from keras_hybrid.weights.presets import find_preset, is_tag, list_weights

PRESETS = list_weights()


def test_every_builder_has_published_weights():
    systems = {name for family in families() for name in family.systems}
    assert {preset.model for preset in PRESETS} == {*keras_hybrid.list_models(), *systems}
    assert all(callable(getattr(keras_hybrid, name)) for name in systems)
    for model in keras_hybrid.list_models():
        assert find_preset(model, "imagenet").model == model
    assert len({preset.name for preset in PRESETS}) == len(PRESETS)
    tags = [preset.tag for preset in keras_hybrid.list_weights("IFormerM")]
    assert tags == [
        "imagenet",
        "imagenet_authors",
        "imagenet_distill",
        "imagenet_distill_authors",
    ]


def test_addresses(monkeypatch):
    for variable in ("HF_ENDPOINT", "KERAS_HYBRID_GITHUB_ENDPOINT", "KERAS_HYBRID_DRIVE_ENDPOINT"):
        monkeypatch.delenv(variable, raising=False)
    urls = {preset.name: [home.url for home in preset.homes] for preset in PRESETS}
    assert urls["MobileViTXXS/imagenet"][0] == (
        "https://huggingface.co/timm/mobilevit_xxs.cvnets_in1k/resolve/main/model.safetensors"
    )
    assert urls["MobileViTS/imagenet_apple"] == [
        "https://huggingface.co/apple/mobilevit-small/resolve/main/model.safetensors",
        "https://huggingface.co/apple/mobilevit-small/resolve/main/pytorch_model.bin",
    ]
    assert urls["IFormerL2/imagenet_distill"][0] == (
        "https://huggingface.co/timm/iformer_l2_distilled.in1k/resolve/main/model.safetensors"
    )
    assert urls["IFormerM/imagenet_distill_authors"] == [
        "https://github.com/ChuanyangZheng/iFormer/releases/download/v0.9/iFormer_m_distill.pth",
        "https://huggingface.co/BillionZheng/iFormer/resolve/main/iFormer_m_distill.pth",
    ]
    assert urls["MobileFormer26M/imagenet"] == [
        "https://drive.google.com/uc?export=download&id=15uWYzx2VWWUjacZQHB56vOHzKxQDlp5O"
    ]
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example/")
    assert (
        find_preset("IFormerT", "imagenet")
        .homes[0]
        .url.startswith("https://mirror.example/timm/iformer_t.in1k/resolve/")
    )


@pytest.mark.parametrize(
    ("model", "tag"), [("IFormerT", "imagenet_distill"), ("MobileViTS", "nonsense"), ("X", "a")]
)
def test_unknown_weights(model, tag):
    with pytest.raises(ValueError, match="Received: "):
        find_preset(model, tag)


def test_tags_and_paths():
    assert is_tag("imagenet") and is_tag("imagenet_distill") and is_tag("imagenet_apple")
    assert not is_tag("weights.pth") and not is_tag(None) and not is_tag(3)


def test_preprocessing_of_presets():
    apple = preprocessing_of("MobileViTXS/imagenet_apple")
    assert (apple.channel_order, apple.resolution, apple.interpolation) == ("BGR", 256, "bilinear")
    assert preprocessing_of("MobileViTXS/imagenet").channel_order == "RGB"
    assert preprocessing_of("MobileViTXS").crop_fraction == 0.9
    assert preprocessing_of(find_preset("IFormerL2", "imagenet")).interpolation == "bicubic"
    assert {preset.name for preset in PRESETS if preset.preprocessing.channel_order != "RGB"} == {
        f"{name}MobileViT{variant}/{tag}"
        for variant in ("XXS", "XS", "S")
        for name, tag in (
            ("", "imagenet_apple"),
            ("DeepLabV3", "voc"),
            ("DeepLabV3", "voc_authors"),
            ("SSDLite", "coco"),
        )
    }
    for name in ("MobileNet", "MobileViTS/none", "/"):
        with pytest.raises(ValueError, match="Received: "):
            preprocessing_of(name)


@pytest.mark.parametrize("kind", ["uint8 array", "float tensor"])
def test_preprocess_input(kind):
    import keras

    images = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3)).astype("uint8")
    given = images if kind == "uint8 array" else keras.ops.convert_to_tensor(images, "float32")
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    ours = np.asarray(keras_hybrid.preprocess_input(given, "IFormerT/imagenet"))
    np.testing.assert_allclose(ours, (images / 255 - mean) / std, atol=1e-5)
    ours = np.asarray(keras_hybrid.preprocess_input(given, "MobileViTS/imagenet_apple"))
    np.testing.assert_allclose(ours, images[..., ::-1] / 255, atol=1e-6)
    with pytest.raises(ValueError, match="3 channels"):
        keras_hybrid.preprocess_input(given[..., :2], "IFormerT")


@pytest.mark.large
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_preprocessing_with_other_backends(backend, require):
    """Their own tensors, and TensorFlow's inside `tf.data`."""
    require(module=backend)
    program = (
        "import keras, numpy as np, tensorflow as tf, keras_hybrid\n"
        "preset = 'MobileViTS/imagenet_apple'\n"
        "image = np.arange(48 * 3).reshape(6, 8, 3).astype('uint8')\n"
        "ours = keras_hybrid.preprocess_input(keras.ops.convert_to_tensor(image), preset)\n"
        "ours = keras.ops.convert_to_numpy(ours)\n"
        "np.testing.assert_allclose(ours, image[..., ::-1] / 255, atol=1e-6)\n"
        "def prepare(x):\n"
        "    x = keras_hybrid.evaluation_image(x, preset, resolution=4)\n"
        "    return keras_hybrid.preprocess_input(x, preset)\n"
        "(piped,) = tf.data.Dataset.from_tensors(image).map(prepare)\n"
        "assert piped.shape == (4, 4, 3) and keras.backend.backend() == %r\n"
    )
    environment = {**os.environ, "KERAS_BACKEND": backend}
    command = [sys.executable, "-c", program % backend]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def photograph(height, width):
    """Edges, gradients and noise in uint8 (height, width, 3)."""
    rng = np.random.default_rng(height)
    y, x = np.mgrid[0:height, 0:width]
    channels = (np.sin(x / 17) * np.cos(y / 9), 2 * x / width - 1, np.sign(np.sin(x * y / 9000)))
    image = 127.5 + 127.5 * np.stack(channels, -1) + rng.normal(0, 20, (height, width, 3))
    return np.clip(image, 0, 255).astype("uint8")


@pytest.mark.parametrize(
    "name", ["MobileFormer26M/imagenet", "MobileViTS/imagenet", "MobileViTS/imagenet_apple"]
)
@pytest.mark.parametrize("size", [(375, 500), (500, 333), (224, 224), (90, 301), (1200, 900)])
def test_evaluation_image_is_pils_and_torchvisions(name, size, require):
    require(module="PIL")
    from PIL import Image

    preprocessing = preprocessing_of(name)
    image = photograph(*size)
    ours = np.asarray(keras_hybrid.evaluation_image(image, name))

    # torchvision's Resize of the shorter side and CenterCrop, on PIL.
    shorter = {224: 256, 256: 288 if "apple" in name else 284}[preprocessing.resolution]
    height, width = size
    if width <= height:
        target = shorter, int(shorter * height / width)
    else:
        target = int(shorter * width / height), shorter
    method = {"bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC}[preprocessing.interpolation]
    resized = Image.fromarray(image).resize(target, method)
    left = int(round((target[0] - preprocessing.resolution) / 2.0))
    top = int(round((target[1] - preprocessing.resolution) / 2.0))
    side = preprocessing.resolution
    theirs = np.asarray(resized.crop((left, top, left + side, top + side)), "float32")
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
    difference = np.abs(ours - theirs)
    assert difference.max() <= 2
    assert (difference > 1).mean() < 1e-4
    assert difference.mean() < 0.1


def test_evaluation_image_in_a_pipeline_and_at_another_resolution():
    import tensorflow as tf

    image = photograph(120, 90)
    data = tf.data.Dataset.from_tensors(image).map(
        lambda x: keras_hybrid.evaluation_image(x, "IFormerT", resolution=64)
    )
    (found,) = data
    assert data.element_spec.shape == (64, 64, 3)
    np.testing.assert_array_equal(
        found, keras_hybrid.evaluation_image(image, "IFormerT", resolution=64)
    )


@pytest.mark.parametrize(
    ("shape", "resolution"),
    [((8, 8), None), ((2, 8, 8, 3), None), ((8, 8, 1), None), ((8, 8, 3), 0)],
)
def test_evaluation_image_refuses(shape, resolution):
    with pytest.raises(ValueError, match="Received: "):
        keras_hybrid.evaluation_image(np.zeros(shape, "uint8"), "IFormerT", resolution)


def test_class_names(require):
    classes = imagenet_classes()
    assert len(classes) == 1000
    assert classes[0] == ("n01440764", "tench, Tinca tinca")
    assert classes[281][1].startswith("tabby") and classes[999][0] == "n15075141"
    synsets = [synset for synset, _ in classes]
    assert synsets == sorted(set(synsets))
    require(module="tensorflow_datasets")
    from importlib import resources

    labels = resources.files("tensorflow_datasets") / "datasets/imagenet2012/labels.txt"
    assert labels.read_text().split() == synsets  # TFDS's label i is output i


def test_decode_predictions():
    predictions = np.zeros((2, 1000))
    predictions[0, [281, 0]] = 0.7, 0.2
    predictions[1, 999] = 1.0
    best = keras_hybrid.decode_predictions(predictions, top=2)
    assert best[0] == [("n02123045", "tabby", 0.7), ("n01440764", "tench", 0.2)]
    assert best[1][0][0] == "n15075141" and len(best[1]) == 2
    for bad in (np.zeros((2, 10)), np.zeros(1000)):
        with pytest.raises(ValueError, match="Received: shape"):
            keras_hybrid.decode_predictions(bad)
    for top in (0, 1001, 2.5):
        with pytest.raises(ValueError, match="Received: top"):
            keras_hybrid.decode_predictions(predictions, top=top)
