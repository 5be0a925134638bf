"""Models with no weight at a special value, so that a pass cannot be right by accident."""

import numpy as np
import pytest


@pytest.fixture
def check_pass():
    """Applies a pass; the result computes the same and the model is left as it was."""
    from harness import predict, randomise, relative_error

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


@pytest.fixture
def check_edit(check_pass):
    """`check_pass` for one edit of a pipeline."""
    from keras_hybrid.surgery.pipelines import edited

    def run(edit, model, tolerance=1e-5):
        return check_pass(lambda model: edited(model, [edit]).to_model(), model, tolerance)

    return run
