"""Pictures of a run: large enough, in colours that everybody can tell apart."""

import numpy as np
from PIL import Image

from keras_hybrid.training.pictures import plot_history, plot_predictions


def has_colour(picture, hexadecimal):
    wanted = np.array([int(hexadecimal[i : i + 2], 16) for i in (1, 3, 5)])
    return (np.abs(picture.astype(int) - wanted).max(-1) < 8).sum() > 100


def test_curves_show_both_splits(tmp_path):
    history = [
        {
            "epoch": i,
            "loss": 2 / i,
            "val_loss": 2.2 / i,
            "accuracy": 0.1 * i,
            "val_accuracy": 0.09 * i,
        }
        for i in range(1, 5)
    ]
    plot_history(history, tmp_path / "curves.png")
    picture = np.asarray(Image.open(tmp_path / "curves.png").convert("RGB"))
    assert picture.shape[1] >= 1400
    assert has_colour(picture, "#0072B2") and has_colour(picture, "#D55E00")


def test_mistakes_are_marked(tmp_path):
    images = np.full((6, 16, 16, 3), 128.0)
    scores = np.eye(3)[[0, 1, 2, 0, 1, 2]]
    names = ("a", "b", "c")
    for labels, marked in (([0, 1, 2, 0, 1, 2], False), ([0, 1, 2, 0, 1, 1], True)):
        plot_predictions(images, labels, scores, names, tmp_path / "p.png", rows=2, columns=4)
        picture = np.asarray(Image.open(tmp_path / "p.png").convert("RGB"))
        assert has_colour(picture, "#D55E00") == marked
        assert has_colour(picture, "#808080")  # the images
