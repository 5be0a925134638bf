"""Compares every family's attention maps with those by hand, on the backend of the environment."""

import by_hand
import keras
import numpy as np

import keras_hybrid

TOLERANCE = 1e-5
# Norms after these keep maps and scores small enough for float32 to hold the weights to 1e-5.
SMALL = ("query", "reduce", "attention_project", "position_encoding", "downsample")


def zeros(initializer, shape, dtype=None, **_):
    """In place of random values, which `build` replaces and JAX compiles shape by shape."""
    return keras.ops.convert_to_tensor(np.zeros(shape, "float32"))


def build(name, last, **options):
    """A small network up to a layer, its attention far from even, and two images of noise."""
    model = keras_hybrid.build_model(
        name, weights=None, **({"classes": 4, "input_shape": (64, 64, 3)} | options)
    )
    random = np.random.default_rng(0)
    for variable in model.variables:
        if len(variable.shape) == 1:
            values = random.uniform(0.5, 1.5, variable.shape)
        else:
            fan_in = np.prod(variable.shape[:-1])
            values = random.standard_normal(variable.shape) * 1.5 / np.sqrt(fan_in)
        if "tokens" in variable.path:  # tokens that stay apart from each other
            values = 5 * values
        elif "_projection" in variable.path:
            values = 0.1 * values
        elif any(f"{layer}_norm" in variable.path for layer in SMALL):
            values = 0.2 * values
        variable.assign(values)
    images = random.standard_normal((2, *model.input_shape[1:])).astype("float32")
    # What comes after the layers that are compared is cut off: it would only take time.
    return keras.Model(model.input, model.get_layer(last).output, name=name), images


def compare(found, expected):
    """The largest difference, after a look at the sums and at how far from even the rows are."""
    assert found.weights.shape == expected.shape, (found.name, found.weights.shape, expected.shape)
    assert np.abs(found.rows.sum(-1) - 1).max() < TOLERANCE, found.name
    even = 1 / found.rows.shape[-1]
    assert np.abs(found.rows - even).max() > 0.01, f"{found.name} is even: nothing is compared"
    difference = np.abs(found.weights - expected).max()
    assert difference < TOLERANCE, f"{found.name}: {difference:.1e}"
    return difference


def mobile_former():
    last = "stage3_block1_former_to_mobile_add"
    model, images = build("MobileFormer26M", last, input_shape=(64, 96, 3))
    maps = {found.name: found for found in keras_hybrid.attention_maps(model, images)}
    expected = by_hand.mobile_former(model, images, "stage3_block1")
    kinds = [(maps[name].queries, maps[name].keys) for name in expected]
    assert kinds == [("tokens", "pixels"), ("tokens", "tokens"), ("pixels", "tokens")]
    assert maps["stage3_block1_mobile_to_former_attention"].map_size == (8, 12)
    assert len(maps) == 3 * 3
    return max(compare(maps[name], weights) for name, weights in expected.items())


def mobilevit():
    last = "stage4_block1_transformer1_attention"
    model, images = build("MobileViTXXS", last, input_shape=(80, 96, 3))  # no whole patches
    maps = {found.name: found for found in keras_hybrid.attention_maps(model, images)}
    assert len(maps) == 2 + 2
    differences = []
    for stage, size in ((3, (10, 12)), (4, (5, 6))):
        name = f"stage{stage}_block1_transformer1_attention"
        assert (maps[name].map_size, maps[name].patch_size) == (size, 2)
        differences.append(compare(maps[name], by_hand.mobilevit(model, images, name, 2, size)))
    return max(differences)


def iformer():
    differences = []
    name = "stage3_block6_attention"
    for options, heads, window in (({}, 1, None), ({"attention": "mha", "window_size": 3}, 4, 3)):
        model, images = build("IFormerT", name, input_shape=(64, 80, 3), **options)
        maps = {found.name: found for found in keras_hybrid.attention_maps(model, images)}
        assert maps[name].map_size == (4, 5) and maps[name].window_size == window
        expected = by_hand.iformer(model, images, name, heads, window, (4, 5))
        differences.append(compare(maps[name], expected))
    return max(differences)


if __name__ == "__main__":
    for initializer in ("VarianceScaling", "RandomNormal", "TruncatedNormal"):
        getattr(keras.initializers, initializer).__call__ = zeros
    for family in (mobile_former, mobilevit, iformer):
        print(f"{keras.backend.backend()} {family.__name__} {family():.1e}")
    print("all families agree")
