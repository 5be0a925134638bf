"""Attention maps: by hand for each family on each backend, for every option, and their views."""

from pathlib import Path

import keras
import numpy as np
import pytest

import keras_hybrid
from keras_hybrid.analysis.attention import AttentionMap

OPTIONS = {
    "ReLU, no FFN": ("MobileFormer26M", {"dynamic_relu": False, "ffn": False}, 25),
    "tokens": ("MobileFormer26M", {"num_tokens": 1, "token_dim": 64}, 25),
    "no head": ("MobileFormer26M", {"include_top": False}, 24),
    "any size": ("MobileFormer26M", {"input_shape": (None, None, 3), "kernel_size": 5}, 25),
    "patch 4": ("MobileViTXXS", {"patch_size": 4}, 9),
    "patch 1": ("MobileViTXXS", {"patch_size": 1, "include_top": False}, 9),
    "SHA": ("IFormerT", {"attention": "sha", "attention_share": 1.0}, 8),
    "MHA": ("IFormerT", {"attention": "mha", "stage4_attention": False}, 3),
    "SiLU": ("IFormerT", {"attention_activation": "silu", "attention_norm": "layer"}, 5),
    "windows": ("IFormerT", {"window_size": 3, "input_shape": (None, None, 3)}, 5),
}


def small(name, **options):
    return keras_hybrid.build_model(
        name, **({"weights": None, "input_shape": (64, 96, 3)} | options)
    )


def noise(batch=2):
    return np.random.default_rng(0).standard_normal((batch, 64, 96, 3)).astype("float32")


@pytest.mark.parametrize(
    "backend",
    ["tensorflow", *(pytest.param(name, marks=pytest.mark.large) for name in ("jax", "torch"))],
)
def test_maps_equal_those_by_hand(backend, backends, require):
    """1e-5, for Mobile-Former, MobileViT and iFormer; see attention_program.py."""
    require(module=backend)
    program = Path(__file__).parent / "attention_program.py"
    printed = backends.run(backend, program)
    assert "all families agree" in printed and printed.count(backend) == 3


@pytest.mark.parametrize("option", OPTIONS)
def test_rows_sum_to_one_for_every_option(option):
    name, options, layers = OPTIONS[option]
    maps = keras_hybrid.attention_maps(small(name, **options), noise())
    assert len(maps) == layers
    for found in maps:
        np.testing.assert_allclose(found.rows.sum(-1), 1, atol=1e-5)
        assert found.weights.shape[0] == 2 and found.rows.min() >= 0
        assert found.part in ("Mobile->Former", "Former", "Mobile<-Former", "attention blocks")


@pytest.mark.large
def test_a_loaded_and_a_nested_model_give_the_same_maps(tmp_path):
    model = small("MobileFormer26M", include_top=False, pooling="avg")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    nested = keras.Sequential([keras.Input((64, 96, 3)), loaded, keras.layers.Dense(3)])
    expected = keras_hybrid.attention_maps(model, noise(3), batch_size=2)
    for other in (loaded, nested):
        for mine, found in zip(expected, keras_hybrid.attention_maps(other, noise(3)), strict=True):
            assert (mine.name, mine.part, mine.map_size) == (found.name, found.part, found.map_size)
            np.testing.assert_allclose(mine.weights, found.weights, atol=1e-6)


@pytest.mark.large
def test_a_pixel_looks_at_its_own_place_or_its_own_window():
    patches = keras_hybrid.attention_maps(small("MobileViTXXS"), noise())[0]
    looked = patches.seen_from(3, 6, image=1)
    assert looked.shape == (4, *patches.query_shape)
    rows, columns = np.nonzero(looked[0])
    assert set(rows % 2) == {1} and set(columns % 2) == {0}
    np.testing.assert_allclose(looked.sum((1, 2)), 1, atol=1e-5)
    np.testing.assert_allclose(looked[2, 1::2, ::2], patches.weights[1, 2, 3, 6])

    windows = keras_hybrid.attention_maps(small("IFormerT", window_size=3), noise())[0]
    assert windows.query_shape == (6, 6) and windows.map_size == (4, 6)
    rows, columns = np.nonzero(windows.seen_from(4, 1)[0])
    assert set(rows) == {3, 4, 5} and set(columns) == {0, 1, 2}

    whole = keras_hybrid.attention_maps(small("IFormerT"), noise())[-1]
    np.testing.assert_array_equal(whole.seen_from(0, 2)[0], whole.weights[0, 0, 0, 2])
    with pytest.raises(ValueError, match="row=9, column=0"):
        whole.seen_from(9, 0)
    bridge = keras_hybrid.attention_maps(small("MobileFormer26M"), noise())[0]
    with pytest.raises(ValueError, match="from tokens to pixels"):
        bridge.seen_from(0, 0)


@pytest.mark.large
def test_what_has_no_attention_is_refused():
    for model in (
        small("MobileFormer26M", former=False),
        small("MobileFormer26M", attention="mlp"),
        keras.Sequential([keras.Input((64, 96, 3)), keras.layers.Flatten()]),
    ):
        with pytest.raises(ValueError, match="no `DotProductAttention`.*Received: model="):
            keras_hybrid.attention_maps(model, noise())
    with pytest.raises(ValueError, match=r"shape \(64, 96, 3\)"):
        keras_hybrid.attention_maps(small("IFormerT"), noise()[0])


@pytest.mark.large
def test_similarity_of_heads_is_the_mean_cosine_of_pairs(monkeypatch):
    model = small("IFormerT", attention="mha")
    found = keras_hybrid.head_similarity(model, noise())
    assert [result.depth for result in found] == [1, 2, 3, 4, 5]
    assert found[0].name == "stage3_block6_attention" and found[0].num_heads == 4
    with pytest.raises(ValueError, match="one head"):
        keras_hybrid.head_similarity(small("IFormerT"), noise())

    # Fresh heads are all even, and so alike: the figures are checked on heads that differ.
    weights = np.random.default_rng(0).uniform(0, 1, (2, 3, 4, 5)) ** 4
    one = AttentionMap("stage3_block0_former_attention", "Former", weights, "tokens", "tokens")
    monkeypatch.setattr("keras_hybrid.analysis.heads.attention_maps", lambda *_: [one])
    (result,) = keras_hybrid.head_similarity(model, noise())
    pairs = [
        [
            (a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum())
            for a, b in ((heads[0], heads[1]), (heads[0], heads[2]), (heads[1], heads[2]))
        ]
        for heads in weights
    ]
    np.testing.assert_allclose(result.images, np.mean(pairs, axis=1), atol=1e-12)
    assert result.mean == pytest.approx(np.mean(pairs)) and result.mean < 0.8
    assert (result.num_heads, result.part, result.depth) == (3, "Former", 1)
