"""Either head for segmentation on networks of other structure, and of other packages."""

import keras
import numpy as np
import pytest

import keras_hybrid


@pytest.mark.large
@pytest.mark.parametrize(
    ("models", "head"),
    [("MobileFormer52M,IFormerH", "semantic_fpn"), ("MobileViTXS", "deeplabv3")],
)
def test_a_step_reaches_every_variable_with_finite_gradients(programs, models, head):
    done = programs(
        "comparisons/check_dense_steps.py", f"--models={models}", f"--head={head}", "--size=64"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(" 0 gradients not finite") == len(models.split(","))


@pytest.mark.large
@pytest.mark.parametrize("head", ["deeplabv3", "semantic_fpn"])
def test_a_network_of_keras_applications_is_a_backbone(head, tmp_path):
    backbone = keras.applications.MobileNetV2(
        alpha=0.35, include_top=False, weights=None, input_shape=(64, 96, 3)
    )
    options = {"deeplabv3": {"aspp_channels": 8}, "semantic_fpn": {"neck_channels": 8}}[head]
    model = getattr(keras_hybrid, head)(backbone, 3, **options)
    stride = {"deeplabv3": 32, "semantic_fpn": 4}[head]
    assert model.output_shape == (None, 64 // stride, 96 // stride, 3)
    random = np.random.default_rng(0)
    images = random.normal(size=(2, 64, 96, 3)).astype("float32")
    masks = random.integers(0, 3, (2, 64, 96))
    model.compile("sgd", keras_hybrid.SegmentationLoss(), jit_compile=False)
    assert np.isfinite(model.fit(images, masks, verbose=0).history["loss"][0])
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again(images), model(images), atol=1e-5)


@pytest.mark.parametrize(
    ("head", "strides"),
    [("semantic_fpn", "4, 8, 16, 32"), ("ssdlite", "16, 32"), ("retinanet", "8, 16, 32")],
)
def test_a_backbone_without_the_maps_of_a_head_is_named(head, strides):
    image = x = keras.Input((64, 64, 3))
    for _ in range(3):
        x = keras.layers.Conv2D(4, 3, strides=2, padding="same")(x)
    shallow = keras.Model(image, x, name="shallow")
    with pytest.raises(ValueError, match=f"strides {strides} is expected. Received: shallow"):
        getattr(keras_hybrid, head)(shallow, 3)
