"""Other implementations of the networks, with their own random weights: the same logits."""

import numpy as np
import pytest

import keras_hybrid
from keras_hybrid.weights.checkpoints.save import write_checkpoint

BAR = 5e-5  # of the standard deviation of the logits


def randomise(torch, network):
    """Norms that do something, and logits of a sensible size."""
    generator = torch.Generator().manual_seed(0)
    for name, value in network.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5, generator=generator)
        elif name.endswith(("running_mean", "bias")):
            value.normal_(0, 0.1, generator=generator)
        elif value.ndim == 1:
            value.uniform_(0.5, 1.5, generator=generator)
        elif value.ndim > 1:
            value.normal_(0, value[0].numel() ** -0.5, generator=generator)
    return network.eval()


def images(torch, resolution):
    pixels = np.random.default_rng(1).standard_normal((2, resolution, resolution, 3))
    pixels = pixels.astype("float32")
    return pixels, torch.from_numpy(pixels).permute(0, 3, 1, 2)


@pytest.fixture
def torch(require):
    require(module="torch")
    return pytest.importorskip("torch")


@pytest.mark.large
@pytest.mark.parametrize("variant", ["XXS", "XS", "S"])
def test_transformers_mobilevit_saved_by_save_pretrained(torch, variant, tmp_path, require):
    require(module="transformers")
    from transformers import MobileViTConfig, MobileViTForImageClassification

    widths = {
        "XXS": ([64, 80, 96], [16, 16, 24, 48, 64, 80, 320], 2.0),
        "XS": ([96, 120, 144], [16, 32, 48, 64, 80, 96, 384], 4.0),
        "S": ([144, 192, 240], [16, 32, 64, 96, 128, 160, 640], 4.0),
    }
    hidden, neck, expansion = widths[variant]
    config = MobileViTConfig(
        hidden_sizes=hidden, neck_hidden_sizes=neck, expand_ratio=expansion, num_labels=1000
    )
    network = randomise(torch, MobileViTForImageClassification(config))
    network.save_pretrained(tmp_path)
    builder = getattr(keras_hybrid, f"MobileViT{variant}")
    model = builder(weights=tmp_path / "model.safetensors", classifier_activation=None)
    pixels, theirs = images(torch, 256)
    with torch.no_grad():
        expected = network(theirs).logits.numpy()
    deviation = np.abs(model.predict(pixels, verbose=0) - expected).max() / expected.std()
    print(f"{deviation:.1e} of the logits' standard deviation")
    assert deviation < BAR

    # And back: a model of ours loads there.
    write_checkpoint(model, tmp_path / "model.safetensors", "hugging_face")
    again = MobileViTForImageClassification.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        np.testing.assert_array_equal(again(theirs).logits.numpy(), expected)


@pytest.mark.large
@pytest.mark.parametrize(
    ("network", "builder", "resolution", "options"),
    [
        ("mobilevit_xxs", "MobileViTXXS", 256, {}),
        ("mobilevit_xs", "MobileViTXS", 256, {}),
        ("mobilevit_s", "MobileViTS", 256, {}),
        ("iformer_t", "IFormerT", 224, {}),
        ("iformer_s", "IFormerS", 224, {}),
        ("iformer_m", "IFormerM", 224, {}),
        ("iformer_l", "IFormerL", 224, {}),
        ("iformer_m_distilled", "IFormerM", 224, {"distillation": True}),
        ("iformer_m_distilled", "IFormerM", 224, {}),
    ],
)
def test_timm(torch, network, builder, resolution, options, tmp_path):
    timm = pytest.importorskip(
        "timm", reason="needs timm and torchvision, not both installed", exc_type=ImportError
    )
    if not timm.is_model(network):
        pytest.skip(f"this timm ({timm.__version__}) has no {network}; 1.0.31 has")
    from safetensors.torch import save_file

    network = randomise(torch, timm.create_model(network))
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    model = keras_hybrid.build_model(
        builder, weights=tmp_path / "model.safetensors", classifier_activation=None, **options
    )
    pixels, theirs = images(torch, resolution)
    with torch.no_grad():
        expected = network(theirs).numpy()
    deviation = np.abs(model.predict(pixels, verbose=0) - expected).max() / expected.std()
    print(f"{deviation:.1e} of the logits' standard deviation")
    assert deviation < BAR
    if getattr(network.head, "distillation", False) == bool(options):
        write_checkpoint(model, tmp_path / "ours.pth", "timm")
        network.load_state_dict(torch.load(tmp_path / "ours.pth", weights_only=True))
