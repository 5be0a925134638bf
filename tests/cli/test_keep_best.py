"""Which weights a run on photos keeps, and what it says of them afterwards."""

import dataclasses
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import small_training

import keras_hybrid.workflows.photos as photos
from keras_hybrid.training.run.run_folder import Run
from keras_hybrid.workflows.photos_plan import Start, Wishes, plan_photos
from keras_hybrid.workflows.reports.page_parts import epoch_ticks


@pytest.fixture
def run(tmp_path, recipe, source, monkeypatch):
    """A run whose models score what their first weights say: the last 0.5 and a loss of 1."""
    monkeypatch.setattr(
        photos,
        "evaluate",
        lambda model, data: SimpleNamespace(
            accuracy=first_weight(model), cross_entropy=float(model.get_weights()[0].flat[1])
        ),
    )

    def make(best, loss=1.0):
        models = {}
        for name, *numbers in (("model.keras", 0.5, 1.0), ("best.keras", best, loss)):
            model = small_training.make_tiny_network(recipe, len(source.class_names))
            weights = model.get_weights()
            weights[0].flat[:2] = numbers
            model.set_weights(weights)
            model.save(tmp_path / name)
            models[name] = model
        return Run(tmp_path, recipe, source.name, source.class_names, [], models["model.keras"])

    return make


def first_weight(model):
    return round(float(model.get_weights()[0].flat[0]), 3)


@pytest.mark.parametrize(
    "best, loss, kept",
    [
        (0.75, 2, "best"),
        (0.5, 1, "last"),
        (0.5, 0.9, "best"),
        (0.5, 1.1, "last"),
        (0.25, 0, "last"),
    ],
)
def test_the_better_weights_are_kept_and_ties_are_the_last_epoch_s(run, source, best, loss, kept):
    first = run(best, loss)
    found, name, scores = photos.keep_best(first, source)
    assert (name, scores) == (kept, {"last": 0.5, "best": best})
    expected = best if kept == "best" else 0.5
    assert first_weight(found.model) == expected
    saved = keras.models.load_model(first.folder / "model.keras")
    assert first_weight(saved) == expected
    # Asked again, it says what the run came to, not what its files have become since.
    later = dataclasses.replace(first, model=saved)
    again, name, scores = photos.keep_best(later, source)
    assert (name, scores) == (kept, {"last": 0.5, "best": best})
    assert first_weight(again.model) == expected


def test_a_copy_that_was_cut_short_is_made_again(run, source):
    first = run(0.75)
    (first.folder / "kept.json").write_text(
        '{"kept": "best", "scores": {"last": 0.5, "best": 0.75}}'
    )
    found, _, _ = photos.keep_best(first, source)
    assert first_weight(found.model) == 0.75
    assert first_weight(keras.models.load_model(first.folder / "model.keras")) == 0.75


def test_a_folder_with_another_run_is_refused_before_anything_is_done(tmp_path, source):
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(ValueError, match="another run"):
        photos._read_plan(tmp_path, source, Wishes())


def test_a_plan_is_read_back_as_it_was(tmp_path, source):
    plan = plan_photos([8] * 4, [100], Start(None, "offline"), Wishes(), False)
    photos._write_plan(tmp_path, source, plan)
    (tmp_path / "run.json").write_text("{}")
    assert photos._read_plan(tmp_path, source, Wishes()) == plan
    assert photos._read_plan(tmp_path, source, Wishes(epochs=3)).recipe.epochs == 3


@pytest.mark.parametrize("last", [1, 2, 9, 38, 300])
def test_the_axis_of_a_curve_shows_the_first_and_the_last_epoch(last):
    ticks = epoch_ticks(list(range(1, last + 1)))
    assert ticks[0] == 1 and ticks[-1] == last
    assert ticks == sorted(set(ticks)) and len(ticks) <= 10
    assert len(ticks) < 3 or np.diff(ticks).min() >= 0.6 * np.median(np.diff(ticks))
