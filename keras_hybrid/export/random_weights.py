"""Weights as training leaves them, for timing networks without a checkpoint."""

import keras
import numpy as np


def randomize_norms(model: keras.Model):
    """Gives norms and biases values, as training does: fresh ones would vanish from the file.

    Args:
        model: to be changed.
    """
    random = np.random.default_rng(0)
    for variable in model.variables:
        if variable.path.endswith(("gamma", "moving_variance")):
            variable.assign(random.uniform(0.5, 1.5, variable.shape))
        elif variable.path.endswith(("beta", "moving_mean", "bias")):
            variable.assign(random.normal(0, 0.1, variable.shape))
