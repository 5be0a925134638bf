"""The report of a classifier's run by a recipe."""

import io
import json
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_hybrid.training.data.image_source import ImageSource
from keras_hybrid.training.recipe.recipe import Recipe
from keras_hybrid.training.run.run_folder import Run
from keras_hybrid.workflows.reports.class_rows import class_rows
from keras_hybrid.workflows.reports.classifier_report import write_classifier_report

GREYS = {"dark": (20, 60, 90), "bright": (160, 200, 110, 240)}


@pytest.fixture
def run(tmp_path):
    """A network that says bright where the mean is over a half, on seven grey images."""
    image = keras.Input((64, 64, 3))
    mean = keras.layers.GlobalAveragePooling2D()(image)
    scores = keras.layers.Dense(2, "softmax", name="predictions")(mean)
    model = keras.Model(image, scores)
    kernel = np.array([[-2.0, 2.0]] * 3, "float32")
    model.get_layer("predictions").set_weights([kernel, np.array([3.0, -3.0], "float32")])
    history = [
        {"epoch": 1, "loss": 2.0, "accuracy": 0.4, "val_loss": 1.5, "val_accuracy": 0.5},
        {"epoch": 2, "loss": 1.0, "accuracy": 0.6},  # not evaluated
        {"epoch": 3, "loss": 0.5, "accuracy": 0.8, "val_loss": 0.7, "val_accuracy": 0.86},
    ]
    recipe = Recipe(
        "MobileViTXXS", epochs=3, batch_size=4, learning_rate=1e-3, resolution=64, mixing_group=2
    )
    return Run(tmp_path, recipe, "greys", tuple(GREYS), history, model)


@pytest.fixture
def source():
    def open_split(_):
        files = [
            (tf.io.encode_png(tf.fill([80, 70, 3], tf.constant(grey, tf.uint8))).numpy(), label)
            for label, greys in enumerate(GREYS.values())
            for grey in greys
        ]
        images, labels = zip(*files, strict=True)
        return tf.data.Dataset.from_tensor_slices(
            {"image": list(images), "label": np.array(labels, "int64")}
        )

    sizes = {"train": 7, "test": 7}
    return ImageSource("greys", tuple(GREYS), sizes, open_split, notes=("one file is broken",))


def test_it_shows_what_is_wrong_and_what_is_unsure(run, source):
    report = write_classifier_report(run, source)
    assert report.evaluation.accuracy == pytest.approx(6 / 7)
    assert report.matrix.tolist() == [[3, 0], [1, 3]]
    assert report.wrong.tolist() == [5]  # 110 of 255 is dark to it
    assert report.unsure.tolist()[:2] == [3, 2]  # 160 and 90 lie next to a half of 255
    page = report.path.read_text()
    assert "top-1 85.71% of 7 test images" in page and "one file is broken" in page
    assert page.count("data:image/jpeg;base64,") == 7
    wrong = page.index("Wrong, the surest first")
    assert "is bright" in page[wrong : page.index("Right, but least sure")]
    assert not re.search(r"(src|href)=.?https?:", page)
    text = (run.folder / "report.md").read_text()
    assert "- 5: bright, said dark" in text and "| bright | 4 | 75.0% | 100.0% | dark (1) |" in text
    recipe = json.loads(text[text.index("```\n") + 4 : text.rindex("```")])
    assert recipe["model"] == "MobileViTXXS"


def test_pictures_are_what_the_network_sees(run, source):
    import base64

    from PIL import Image

    page = write_classifier_report(run, source).path.read_text()
    first = re.search(r"data:image/jpeg;base64,([^\"]+)", page).group(1)
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(first))))
    assert shown.shape == (64, 64, 3) and abs(int(shown.mean()) - 110) <= 2


def test_a_class_without_images_has_no_shares():
    rows = class_rows(("a", "b", "c"), np.array([[2, 0, 1], [0, 0, 0], [0, 0, 4]]))
    assert rows[0].taken_for == "c (1)" and rows[0].found == pytest.approx(2 / 3)
    assert rows[1].found is None and rows[1].claims_right is None and rows[1].taken_for == ""
    assert rows[2].claims_right == pytest.approx(0.8)
