"""Finished runs that nobody had to train, for tests of what is done with a run."""

import json

import numpy as np
from PIL import Image

from keras_hybrid.training.recipe.common import as_plain


def write_run(folder, model, recipe, data, class_names, rows, **more):
    """A run's folder: its network, what it was trained on and with, and the rows of its history."""
    model.save(folder / "model.keras")
    described = {
        "recipe": as_plain(recipe),
        "data": f"folder:{data}",
        "class_names": list(class_names),
        **more,
    }
    (folder / "run.json").write_text(json.dumps(described))
    history = [{"epoch": epoch, **row} for epoch, row in enumerate(rows, start=1)]
    np.savez(folder / "state.npz", history=np.array(json.dumps(history)))
    return folder


def resized_pictures(folder, scenes):
    """Two of a folder's scenes as pictures, one of the network's size and one of another."""
    paths = []
    for index, size in enumerate(((64, 64), (90, 50))):
        paths.append(folder / f"picture{index}.png")
        Image.open(scenes / f"{index}.png").resize(size).save(paths[-1])
    return paths
