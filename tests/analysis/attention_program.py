"""Compares every family's attention maps with those by hand, on the backend of the environment."""

import by_hand
import keras
import numpy as np

import keras_hybrid

TOLERANCE = 1e-5


def build(name, **options):
    """A small network whose attention is far from even, and two images of noise."""
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
        elif "query_norm" in variable.path:  # scores that float32 holds to 1e-5
            values = 0.3 * values
        variable.assign(values)
    images = random.standard_normal((3, *model.input_shape[1:])).astype("float32")
    return model, images


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
    model, images = build("MobileFormer26M", input_shape=(64, 96, 3))
    maps = {found.name: found for found in keras_hybrid.attention_maps(model, images, 2)}
    expected = by_hand.mobile_former(model, images, "stage3_block1")
    kinds = [(maps[name].queries, maps[name].keys) for name in expected]
    assert kinds == [("tokens", "pixels"), ("tokens", "tokens"), ("pixels", "tokens")]
    assert maps["stage3_block1_mobile_to_former_attention"].map_size == (8, 12)
    assert len(maps) == 3 * 8 + 1 and "final_mobile_to_former_attention" in maps
    return max(compare(maps[name], weights) for name, weights in expected.items())


def mobilevit():
    model, images = build("MobileViTXXS", input_shape=(80, 96, 3))  # 5 x 6 is no whole patches
    maps = {found.name: found for found in keras_hybrid.attention_maps(model, images)}
    assert len(maps) == 9
    differences = []
    for stage, size in ((3, (10, 12)), (4, (5, 6))):
        name = f"stage{stage}_block1_transformer1_attention"
        assert (maps[name].map_size, maps[name].patch_size) == (size, 2)
        differences.append(compare(maps[name], by_hand.mobilevit(model, images, name, 2, size)))
    return max(differences)


def iformer():
    differences = []
    for options, heads, window in (({}, 1, None), ({"attention": "mha", "window_size": 3}, 4, 3)):
        model, images = build("IFormerT", input_shape=(64, 80, 3), **options)
        maps = {found.name: found for found in keras_hybrid.attention_maps(model, images)}
        name = "stage3_block7_attention"
        assert maps[name].map_size == (4, 5) and maps[name].window_size == window
        expected = by_hand.iformer(model, images, name, heads, window)
        differences.append(compare(maps[name], expected))
    return max(differences)


if __name__ == "__main__":
    for family in (mobile_former, mobilevit, iformer):
        print(f"{keras.backend.backend()} {family.__name__} {family():.1e}")
    print("all families agree")
