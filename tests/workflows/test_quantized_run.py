"""From a float run to int8: what is written, what is refused, and what an interruption costs."""

import dataclasses
import io
import json
import shutil

import keras
import numpy as np
import pytest
import small_training

from keras_hybrid.quantization.quantize import is_quantized
from keras_hybrid.quantization.ranges.fake_quantize import fake_quantizers
from keras_hybrid.training.data.pipeline import evaluation_dataset
from keras_hybrid.training.recipe.recipe import load_recipe, override
from keras_hybrid.training.run import run
from keras_hybrid.workflows.int8_recipe import QuantizedRecipe
from keras_hybrid.workflows.int8_report import quantized_report
from keras_hybrid.workflows.int8_run import calibration_images, train_quantized

NUMBERS = QuantizedRecipe(epochs=3, calibration_images=20, learning_rate=1e-3)


@pytest.fixture(autouse=True, scope="module")
def quantisers(require):
    require(module="tensorflow_model_optimization")


@pytest.fixture(scope="module")
def float_run(source, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "new_network", small_training.make_tiny_network)
        folder = tmp_path_factory.mktemp("float") / "run"
        return run.train(small_training.RECIPE, source, folder, stream=io.StringIO())


@pytest.fixture(scope="module")
def quantized(float_run, source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("int8") / "run"
    return train_quantized(float_run, NUMBERS, folder, source=source, stream=io.StringIO())


def copy_of(run, folder):
    """The run in a folder of its own, for what writes into it."""
    shutil.copytree(run.folder, folder)
    return dataclasses.replace(run, folder=folder)


class Interrupted(keras.callbacks.Callback):
    """Stops the process's work at a step, as Ctrl-C does."""

    def __init__(self, epoch, batch):
        super().__init__()
        self.moment, self.epoch = (epoch, batch), None

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == self.moment:
            raise KeyboardInterrupt


def test_a_run_writes_its_files_and_trains(quantized, float_run):
    names = {path.name for path in quantized.folder.iterdir()}
    assert names == {
        "run.json",
        "calibrated.keras",
        "state.npz",
        "history.csv",
        "best.keras",
        "model.keras",
    }
    assert [row["epoch"] for row in quantized.history] == [1, 2, 3]
    assert is_quantized(quantized.post_training) and is_quantized(quantized.trained)
    before, after = quantized.post_training.get_weights(), quantized.trained.get_weights()
    assert any((old != new).any() for old, new in zip(before, after, strict=True))
    best = max(row["val_accuracy"] for row in quantized.history)
    assert best >= float_run.history[-1]["val_accuracy"]


@pytest.mark.large
def test_ranges_stop_moving_when_they_are_frozen(float_run, source, tmp_path):
    """Frozen from the first step, ranges are the calibrated ones; kernels train all the same."""
    numbers = dataclasses.replace(NUMBERS, freeze_after=0.0, epochs=1)
    made = train_quantized(float_run, numbers, tmp_path / "a", source=source, stream=io.StringIO())

    def ranges(model):
        return [layer.range for layer in fake_quantizers(model)]

    assert ranges(made.trained) == ranges(made.post_training)
    kernels = [model.get_layer("fc").kernel.numpy() for model in (made.trained, made.post_training)]
    assert (kernels[0] != kernels[1]).any()

    moving = dataclasses.replace(numbers, freeze_after=1.0)
    made = train_quantized(float_run, moving, tmp_path / "b", source=source, stream=io.StringIO())
    assert ranges(made.trained) != ranges(made.post_training)


@pytest.mark.large
def test_batch_norm_trains_beside_the_kernels_where_the_recipe_says_so(float_run, source, tmp_path):
    numbers = dataclasses.replace(NUMBERS, batch_norm="frozen", epochs=2)

    def run(**options):
        options |= {"source": source, "stream": io.StringIO()}
        return train_quantized(float_run, numbers, tmp_path / "a", **options)

    with pytest.raises(KeyboardInterrupt):
        run(callbacks=(Interrupted(1, 0),))
    made = run()
    before, now = (
        model.get_layer("conv").batch_norm.get_weights()
        for model in (made.post_training, made.trained)
    )
    moved = [(old != new).any() for old, new in zip(before, now, strict=True)]
    assert moved == [True, True, False, False], "gamma and beta, and no statistics"
    network = float_run.model  # whose convolution has a bias
    mean = network.get_layer("norm").moving_mean.numpy() - network.get_layer("conv").bias.numpy()
    np.testing.assert_array_equal(now[2], mean)


def test_without_epochs_it_is_post_training_alone(float_run, source, tmp_path):
    numbers = dataclasses.replace(NUMBERS, epochs=0)
    made = train_quantized(float_run, numbers, tmp_path / "a", source=source, stream=io.StringIO())
    assert made.trained is None and made.history == []
    assert {path.name for path in made.folder.iterdir()} == {"run.json", "calibrated.keras"}
    images = calibration_images(source, float_run.recipe, 8)
    exact, rounded = (
        model.predict(images, verbose=0) for model in (float_run.model, made.post_training)
    )
    np.testing.assert_allclose(rounded, exact, atol=0.1)
    assert (rounded != exact).any()


@pytest.mark.large
@pytest.mark.parametrize("moment", [(0, 1), (1, 0), (2, 3)])
def test_an_interrupted_run_goes_on_as_if_it_had_not_been(
    quantized, float_run, source, tmp_path, moment
):
    """In the first epoch; just after a state was written; in the last, with frozen ranges."""
    folder = tmp_path / "interrupted"
    with pytest.raises(KeyboardInterrupt):
        train_quantized(
            float_run,
            NUMBERS,
            folder,
            source=source,
            stream=io.StringIO(),
            callbacks=(Interrupted(*moment),),
        )
    stream = io.StringIO()
    resumed = train_quantized(float_run, NUMBERS, folder, source=source, stream=stream)
    assert (f"resuming {folder} after epoch {moment[0]}" in stream.getvalue()) == (moment[0] > 0)
    for name in ("best.keras", "model.keras"):
        found, expected = (
            keras.models.load_model(made.folder / name).get_weights()
            for made in (resumed, quantized)
        )
        for now, wanted in zip(found, expected, strict=True):
            np.testing.assert_array_equal(now, wanted)


def test_a_finished_run_is_not_trained_again(quantized, float_run, source):
    stream = io.StringIO()
    again = train_quantized(float_run, NUMBERS, quantized.folder, source=source, stream=stream)
    assert "finished run" in stream.getvalue() and again.history == quantized.history


def test_a_folder_of_another_run_is_refused(quantized, float_run, source):
    other = dataclasses.replace(NUMBERS, learning_rate=0.5)
    with pytest.raises(ValueError, match=r"learning_rate=0.001 there, 0.5 now"):
        train_quantized(float_run, other, quantized.folder, source=source)
    model = keras.models.clone_model(float_run.model)  # with other random weights
    with pytest.raises(ValueError, match=r"float_weights='\w+' there, '\w+' now"):
        train_quantized(
            dataclasses.replace(float_run, model=model), NUMBERS, quantized.folder, source=source
        )


def test_what_is_refused_leaves_no_folder_behind(float_run, source, tmp_path):
    numbers = dataclasses.replace(NUMBERS, keep_float=("cnov",))
    with pytest.raises(ValueError, match="close to it: conv"):
        train_quantized(float_run, numbers, tmp_path / "new", source=source, stream=io.StringIO())
    assert not (tmp_path / "new").exists()


@pytest.mark.large
def test_the_report_has_all_rows_and_what_hurts(quantized, float_run, source, tmp_path, require):
    require(module="ai_edge_litert")
    report = quantized_report(float_run, copy_of(quantized, tmp_path / "run"), source)
    assert [row.name for row in report.rows] == ["float", "post-training", "trained"]
    batches = list(evaluation_dataset(source, float_run.recipe, "test"))
    images = np.concatenate([np.asarray(images) for images, _ in batches])
    labels = np.concatenate([np.asarray(labels) for _, labels in batches]).argmax(-1)
    accuracy = np.mean(float_run.model.predict(images, verbose=0).argmax(-1) == labels)
    assert report.rows[0].accuracy == pytest.approx(accuracy)
    assert all(row.agreement == 1 for row in report.rows)
    assert report.rows[2].inspection.integer_offenders == ()
    assert {error.name for error in report.errors} >= {"conv", "fc"}
    text = report.path.read_text()
    assert report.table() in text and "no tensor in float" in text


@pytest.mark.large
def test_another_profile_is_measured_together(quantized, float_run, source, tmp_path, require):
    require(module="ai_edge_litert")
    numbers = dataclasses.replace(NUMBERS, profile="int8_cpu", epochs=0)
    beside = train_quantized(float_run, numbers, tmp_path / "cpu", source=source)
    made = copy_of(quantized, tmp_path / "run")
    report = quantized_report(float_run, made, source, beside=[beside])
    assert [row.precision for row in report.rows] == ["float32", "int8", "int8", "int8_cpu"]
    assert report.rows[-1].path == tmp_path / "cpu" / "post_training.tflite"
    assert len({len(line) for line in report.table().splitlines()}) == 1, "aligned"
    short = report.table(short=True).splitlines()
    assert len(short) == 6 and len(short[0]) < len(report.table().splitlines()[0])
    # What is said of layers and tensors is of the folder's own profile.
    assert "no tensor in float" in report.path.read_text()


@pytest.mark.large
def test_a_layer_that_stays_float_is_in_the_report(float_run, source, tmp_path, require):
    require(module="ai_edge_litert")
    numbers = dataclasses.replace(NUMBERS, epochs=0, keep_float=("fc",))
    made = train_quantized(float_run, numbers, tmp_path / "a", source=source, stream=io.StringIO())
    report = quantized_report(float_run, made, source)
    assert "fc" in report.float_layers and "- `fc`: " in report.path.read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"profile": "int4"}, "`profile` must be one of"),
        ({"batch_norm": "trained"}, r"`batch_norm` must be one of \('folded', 'frozen'\)"),
        ({"calibration_method": "best"}, "`calibration_method` must be one of"),
        ({"calibration_weights": "all"}, "`calibration_weights` must be one of"),
        ({"epochs": -1}, "`epochs` must be 0 or more"),
        ({"learning_rate": 0.0}, "`learning_rate` must be positive"),
        ({"freeze_after": 2.0}, r"`freeze_after` must be in \[0, 1\]"),
        ({"calibration_images": 0}, "`calibration_images` must be at least 1"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        QuantizedRecipe(**change)


def test_overrides_are_read_by_type():
    numbers = override(NUMBERS, ["keep_float=a,b", "label_smoothing=0.2", "epochs=7"])
    assert numbers.keep_float == ("a", "b")
    assert numbers.label_smoothing == 0.2 and numbers.epochs == 7
    with pytest.raises(ValueError, match="Did you mean `keep_float`"):
        override(NUMBERS, ["keepfloat=a"])


@pytest.mark.parametrize("family", ["mobile_former", "mobilevit", "iformer"])
def test_each_family_has_its_numbers(root, family):
    """A tenth of the published epochs, and a hundredth of the learning rate."""
    path = root / "recipes" / "qat" / f"{family}.py"
    numbers = load_recipe(path, kind=QuantizedRecipe)
    published = load_recipe(root / "recipes" / "imagenet" / f"{family}.py")
    assert numbers.epochs == (published.epochs - published.cooldown_epochs) // 10
    assert numbers.learning_rate == pytest.approx(published.learning_rate / 100)
    assert numbers.final_learning_rate == pytest.approx(numbers.learning_rate / 100)


def test_a_recipe_of_another_kind_is_refused(root):
    with pytest.raises(ValueError, match=r"must return a `QuantizedRecipe`.*gives a `Recipe`"):
        load_recipe(root / "recipes" / "digits.py", None, QuantizedRecipe)


def test_the_folder_says_what_it_is(quantized):
    described = json.loads((quantized.folder / "run.json").read_text())
    assert described["recipe"]["epochs"] == 3 and described["data"] == "greys"
