"""Models with no weight at a special value, so that a pass cannot be right by accident."""

import numpy as np
import pytest


@pytest.fixture
def randomise():
    """Gives every weight of a model a random value, batch norm's statistics included."""

    def run(model, seed=0):
        random = np.random.default_rng(seed)
        for variable in model.variables:
            if variable.path.endswith(("gamma", "moving_variance")):
                variable.assign(random.uniform(0.5, 1.5, variable.shape))
            elif variable.path.endswith(("beta", "moving_mean", "bias")):
                variable.assign(random.normal(0, 0.3, variable.shape))
        return model

    return run


@pytest.fixture
def check_pass(randomise):
    """Applies a pass; the result computes the same and the model is left as it was."""
    from harness import predict, relative_error

    def run(apply, model, tolerance=1e-5):
        randomise(model)
        images = np.random.default_rng(1).normal(size=(2, *model.input_shape[1:]))
        images = images.astype("float32")
        before = [weight.copy() for weight in model.get_weights()]
        expected = predict(model, [images])
        result = apply(model)
        for actual, wanted in zip(predict(result, [images]), expected, strict=True):
            assert relative_error(actual, wanted) <= tolerance
        for weight, kept in zip(model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(weight, kept)
        return result

    return run
