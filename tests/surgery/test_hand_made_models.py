"""Rewriting computes what the model computes, on models as people write them."""

import keras
import numpy as np
import pytest
from hand_made_models import MODELS, images_for
from harness import predict, randomise, relative_error

import keras_hybrid
from keras_hybrid import keras_private
from keras_hybrid.surgery.pipelines import FOR_FLOAT, FOR_INT8, edited

HALF = {name: 2e-2 for name in ("mixed_float16", "mixed_bfloat16")}  # what the model itself errs


@pytest.fixture(params=MODELS)
def model(request):
    keras.utils.set_random_seed(0)
    return randomise(MODELS[request.param]())


def check_same(result, model, images, expected):
    assert result.output_names == keras_private.functional(model).output_names
    structures = [keras_private.outputs_structure(x) for x in (result, model)]
    keras.tree.assert_same_structure(*structures)
    names = [[keras_private.producer(x).name for x in each.inputs] for each in (result, model)]
    assert names[0] == names[1]
    for actual, wanted in zip(predict(result, images), expected, strict=True):
        assert actual.shape == wanted.shape
        wanted = wanted.astype("float32")
        assert relative_error(actual, wanted) <= HALF.get(model.name, 1e-4), model.name
    assert not any(isinstance(layer, keras.Model) for layer in result.layers)


def test_every_pipeline_keeps_what_is_computed(model):
    images = images_for(model)
    given = dict(zip([x.name for x in model.inputs], images, strict=True))
    by_name = isinstance(keras_private.inputs_structure(model), dict)
    given = [given] if by_name else images
    before = [weight.copy() for weight in model.get_weights()]
    expected = predict(model, given)
    check_same(keras_hybrid.fuse(model), model, given, expected)
    for pipeline in (FOR_FLOAT, FOR_INT8["int8"]):
        check_same(edited(model, pipeline).to_model(), model, given, expected)
    for weight, kept in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, kept)
    for actual, wanted in zip(predict(model, given), expected, strict=True):
        np.testing.assert_array_equal(actual, wanted)
