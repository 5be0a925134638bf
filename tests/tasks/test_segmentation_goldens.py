"""The published segmentation systems, map by map, and their losses."""

import dense_inputs
import keras
import numpy as np
import pytest
from fill import golden_input

import keras_hybrid
from keras_hybrid.layers.resizing import resize
from keras_hybrid.models.features import feature_maps
from keras_hybrid.tasks.segmentation.deeplabv3 import DeepLabV3MobileViTS, DeepLabV3MobileViTXXS
from keras_hybrid.tasks.segmentation.loss import LabelledMeanIoU, SegmentationLoss
from keras_hybrid.tasks.segmentation.semantic_fpn import SemanticFPNIFormerM

DEEPLABS = {
    "deeplabv3_mobilevit_xxs_hf": (DeepLabV3MobileViTXXS, {}),
    "deeplabv3_mobilevit_s": (DeepLabV3MobileViTS, {}),
    "deeplabv3_mobilevit_s_os8_r320": (
        DeepLabV3MobileViTS,
        {"input_shape": (320, 320, 3), "output_stride": 8, "auxiliary": True},
    ),
}


def trainable_parameters(model):
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


@pytest.mark.large
@pytest.mark.parametrize("name", DEEPLABS)
def test_deeplabv3(name, dense_golden, filled_state, check_tap):
    golden = dense_golden(name)
    builder, options = DEEPLABS[name]
    model = keras_hybrid.load_checkpoint(builder(**options), filled_state(golden))
    assert trainable_parameters(model) == golden["parameters"]

    outputs = dict(feature_maps(model))
    outputs |= {f"aspp{i}": model.get_layer(f"head_aspp{i}_relu").output for i in range(4)}
    outputs["aspp4"] = model.get_layer("head_aspp4_stretch").output
    outputs["aspp_project"] = model.get_layer("head_project_relu").output
    assert set(outputs) | {"logits"} >= set(golden["taps"])
    if "auxiliary" in options:
        outputs |= {"logits": model.output["logits"], "auxiliary_logits": model.output["auxiliary"]}
    else:
        outputs["logits"] = model.output
    size = golden["resolution"]
    found = keras.Model(model.input, outputs)(golden_input(size, 2, golden["seed"]), training=False)

    for tap, expected in golden["taps"].items():
        check_tap(found[tap], expected, tap)
    check_tap(found["logits"], golden["outputs"]["logits"], "logits")
    aligned = "upsampled_logits_align_corners" in golden["outputs"]
    interpolation = "bilinear_aligned" if aligned else "bilinear"
    stretched = resize(found["logits"], size, size, interpolation)
    key = "upsampled_logits_align_corners" if aligned else "upsampled_logits"
    check_tap(stretched, golden["outputs"][key], key)
    mask = np.asarray(stretched).argmax(-1)
    expected = golden["outputs"]["mask"]
    wrong = np.sum(mask.ravel()[expected["indices"]] != np.array(expected["values"]))
    histogram = np.bincount(mask.ravel(), minlength=21)
    assert wrong <= 1 and np.abs(histogram - expected["histogram"]).sum() <= 20

    labels = np.random.default_rng([golden["seed"], size, 21]).integers(0, 24, (2, size, size))
    labels[labels >= 21] = 255
    loss = SegmentationLoss(interpolation=interpolation)
    training = golden["training"]
    main = float(loss(labels, found["logits"]))
    assert main == pytest.approx(training.get("main_loss", training["loss"]), rel=1e-4)
    if aligned:
        check_tap(found["auxiliary_logits"], golden["outputs"]["auxiliary_logits"], "auxiliary")
        auxiliary = float(loss(labels, found["auxiliary_logits"]))
        total = main + training["aux_weight"] * auxiliary
        assert total == pytest.approx(training["loss"], rel=1e-4)


@pytest.mark.large
@pytest.mark.parametrize("case", [0, 1])
def test_semantic_fpn(case, dense_golden, filled_state, check_tap):
    golden = dense_golden("semantic_fpn_iformer_m")
    case = golden["cases"][case]
    height, width, batch = case["height"], case["width"], case["batch"]
    model = SemanticFPNIFormerM(input_shape=(height, width, 3))
    keras_hybrid.load_checkpoint(model, filled_state(golden))
    assert trainable_parameters(model) == golden["parameters"]

    taps = case["taps"]
    outputs = {
        f"backbone.{i}": tensor for i, tensor in enumerate(list(feature_maps(model).values())[1:])
    }
    for index, last in enumerate(("relu0", "double0", "double1", "double2")):
        outputs[f"neck.{index}"] = model.get_layer(f"neck_p{index + 2}_output").output
        layer = model.get_layer(f"head_p{index + 2}_{last}")
        outputs[f"decode_head.scale_heads.{index}"] = layer.output
    outputs["logits"] = model.output
    image = dense_inputs.image(height, width, batch, golden["seed"])
    found = keras.Model(model.input, outputs)(image, training=False)
    for tap, array in found.items():
        check_tap(array, taps[tap], tap)
    resized = resize(found["logits"], height, width, "bilinear")
    check_tap(resized, taps["resized"], "resized")
    classes = np.asarray(resized).argmax(-1).ravel()[:: taps["classes"]["step"]]
    assert np.array_equal(classes, taps["classes"]["values"])

    labels = dense_inputs.labels("segments", (batch, 1, height, width), 150, 0.1)[:, 0]
    loss = SegmentationLoss(divisor="all")
    assert float(loss(labels, found["logits"])) == pytest.approx(taps["loss"], rel=1e-5)
    metric = LabelledMeanIoU(150)
    metric.update_state(labels, found["logits"])
    assert 0 < float(metric.result()) < 0.05
