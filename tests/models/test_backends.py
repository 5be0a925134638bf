"""The same weights and input give the same output on every backend, and in mixed precision."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from harness import relative_error

import keras_hybrid

ENVIRONMENT = {
    # What is tested is what is computed, not how fast: XLA's optimiser would take minutes.
    "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
    # oneDNN's half-precision kernels are stopped by virtual machines that announce AMX in vain.
    "TF_ENABLE_ONEDNN_OPTS": "0",
}

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


def run(folder, backend, precision):
    program = Path(__file__).parent / "backend_program.py"
    result = subprocess.run(
        [sys.executable, program, folder, precision],
        env=os.environ | {"KERAS_BACKEND": backend} | ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert "all cases ran" in result.stdout, result.stderr[-4000:]
    return {case: np.load(folder / f"{case}.{backend}.{precision}.npy") for case in CASES}


@pytest.mark.large
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_compute_the_same(folder, backend, require):
    require(module=backend)
    for case, outputs in run(folder, backend, "float32").items():
        error = relative_error(outputs, np.load(folder / f"{case}.expected.npy"))
        assert error <= 1e-4, f"{case} on {backend}: {error:.1e}"


@pytest.mark.large
@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_stays_near_and_finite(folder, precision):
    for case, outputs in run(folder, "tensorflow", precision).items():
        assert np.isfinite(outputs).all(), case
        error = relative_error(outputs, np.load(folder / f"{case}.expected.npy"))
        assert error <= (0.15 if precision == "mixed_bfloat16" else 0.03), f"{case}: {error:.1e}"
