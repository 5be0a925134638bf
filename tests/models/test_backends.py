"""The same weights and input give the same output on every backend, and in mixed precision."""

import json
from pathlib import Path

import numpy as np
import pytest
from harness import relative_error

import keras_hybrid

CASES = {
    "mobile_former": ("MobileFormer26M", {}),
    "mobile_former_mlp": ("MobileFormer26M", {"attention": "mlp", "input_shape": [64, 64, 3]}),
    "mobilevit": ("MobileViTXXS", {}),
    "mobilevit_any_size": ("MobileViTXXS", {"input_shape": [None, None, 3], "patch_size": 4}),
    "iformer": ("IFormerT", {"layer_scale": 0.1, "distillation": True, "drop_path_rate": 0.1}),
    "iformer_windows": ("IFormerT", {"input_shape": [None, None, 3], "window_size": 3}),
    "iformer_mha": ("IFormerT", {"attention": "mha", "attention_norm": "layer"}),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Weights, images and TensorFlow's outputs of every case."""
    folder = tmp_path_factory.mktemp("backends")
    random = np.random.default_rng(0)
    cases = []
    for case, (name, options) in CASES.items():
        options = {
            "classes": 10,
            "input_shape": [96, 80, 3],
            "classifier_activation": None,
        } | options
        model = keras_hybrid.build_model(name, weights=None, **options)
        model.set_weights(
            [w + 0.1 * random.random(w.shape) if w.ndim == 1 else w for w in model.get_weights()]
        )
        model.save_weights(folder / f"{case}.weights.h5")
        height, width = (size or 72 for size in options["input_shape"][:2])
        images = random.standard_normal((2, height, width, 3)).astype("float32")
        np.save(folder / f"{case}.images.npy", images)
        np.save(folder / f"{case}.expected.npy", np.asarray(model(images, training=False)))
        train = case in ("mobile_former", "mobilevit", "iformer")
        cases.append({"id": case, "name": name, "options": options, "train": train})
    (folder / "cases.json").write_text(json.dumps(cases))
    return folder


@pytest.fixture
def run(folder, backends):
    """A case's outputs by name, of a backend in a precision."""

    def call(backend, precision):
        program = Path(__file__).parent / "backend_program.py"
        assert "all cases ran" in backends.run(backend, program, folder, precision)
        return {case: np.load(folder / f"{case}.{backend}.{precision}.npy") for case in CASES}

    return call


@pytest.mark.large
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_compute_the_same(folder, run, backend, require):
    require(module=backend)
    for case, outputs in run(backend, "float32").items():
        error = relative_error(outputs, np.load(folder / f"{case}.expected.npy"))
        assert error <= 1e-4, f"{case} on {backend}: {error:.1e}"


@pytest.mark.large
@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_stays_near_and_finite(folder, run, precision):
    for case, outputs in run("tensorflow", precision).items():
        assert np.isfinite(outputs).all(), case
        error = relative_error(outputs, np.load(folder / f"{case}.expected.npy"))
        assert error <= (0.15 if precision == "mixed_bfloat16" else 0.03), f"{case}: {error:.1e}"
