"""The multi-scale sampler: published sizes, batches of equal area, and how often it is traced."""

import dataclasses

import keras
import numpy as np
import pytest

from keras_hybrid.layers import FoldPatches, UnfoldPatches
from keras_hybrid.training.data.pipeline import steps_per_epoch, training_dataset
from keras_hybrid.training.recipe.recipe import load_recipe
from keras_hybrid.training.run.run import compile_for_training, logits_view


def test_published_batches_hold_as_many_pixels_as_1024_of_256(root):
    recipe = load_recipe(root / "recipes" / "imagenet" / "mobilevit.py", "S")
    sizes = recipe.scale_batch_sizes
    assert list(sizes) == [160, 192, 256, 288, 320] and sizes[256] == 1024
    for size, images in sizes.items():
        assert size % 32 == 0
        assert images * size**2 == pytest.approx(1024 * 256**2, rel=1e-3), size


def test_all_scales_share_one_trace(source, recipe, require):
    """A graph for each size would cost its tracing; there is one, of any size.

    With layers as in MobileViT, which resize maps to whole patches: 96 px leave a map of 3 x 3.
    """
    require(backend="tensorflow")
    recipe = dataclasses.replace(recipe, scales=(64, 96, 128), resolution=96, epochs=4)
    traces = []

    @keras.saving.register_keras_serializable("tests")
    class Count(keras.layers.Layer):
        def call(self, inputs):
            traces.append(tuple(inputs.shape))
            return inputs

    image = keras.Input((None, None, 3))
    x = local = keras.layers.Conv2D(4, 32, strides=32)(image)
    x = UnfoldPatches(2)(x)
    x = FoldPatches(2)([keras.layers.Dense(4)(x), local])
    x = keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(Count()(x)))
    network = keras.Model(image, keras.layers.Softmax(name="predictions")(x))
    view = logits_view(network)
    steps = steps_per_epoch(source, recipe)
    compile_for_training(view, recipe, steps)
    dataset = training_dataset(source, recipe)
    assert len({images.shape for images, _ in dataset}) == 3
    traces.clear()
    history = view.fit(dataset, epochs=4, steps_per_epoch=steps, verbose=0).history
    assert traces == [(None, None, None, 4)] and np.isfinite(history["loss"]).all()


@pytest.mark.parametrize("size", [(6, 6), (7, 9)])
def test_maps_of_unknown_size_are_unfolded_as_those_of_known_size(size, require):
    require(backend="tensorflow")  # elsewhere sizes are always known
    import tensorflow as tf

    unfold, fold = UnfoldPatches(2), FoldPatches(2)
    x = np.random.default_rng(0).normal(size=(2, *size, 5)).astype("float32")

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 5))])
    def both(x):
        sequences = unfold(x)
        return sequences, fold([sequences, x])

    sequences, back = both(x)
    np.testing.assert_allclose(sequences, unfold(x), atol=1e-6)
    np.testing.assert_allclose(back, fold([unfold(x), x]), atol=1e-6)
    assert back.shape == x.shape
