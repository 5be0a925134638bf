"""What real engines make of the networks' files at their native size: one line a file.

    python comparisons/benchmark_engines.py --models=MobileFormer26M,IFormerT
    python comparisons/benchmark_engines.py --precisions=int8 --models=all
    python comparisons/benchmark_engines.py --models=SSDLiteMobileViTXXS --postprocess=raw,decoded

Files in float32 and float16, for GPUs, are run by LiteRT.js with WebGPU in headless Chromium: how
many operators it leaves to the CPU, and how far its scores are from WASM's, over the largest. Files
in int8, for NPUs, are compiled by Arm's Vela for Ethos-U85-256: what it leaves to the CPU, cycles
by its model, and by operator where most of them go. Weights are as training leaves them, calibrated
on noise; cycles do not depend on them. About one minute a file on two cores. Systems for detection
and segmentation are taken by their names, too: with several outputs, the furthest is told.
"""

import itertools
import os
import sys
import tempfile
from functools import partial

from absl import app, flags

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

_MODELS = flags.DEFINE_list("models", ["MobileFormer26M", "MobileViTXXS", "IFormerT"], "Or: all.")
_PRECISIONS = flags.DEFINE_list("precisions", ["float32", "float16", "int8"], "Of the files.")
_POSTPROCESS = flags.DEFINE_list("postprocess", ["raw"], "Of detectors' files: raw, decoded.")
SYSTEMS = ("DeepLabV3", "SemanticFPN", "SSDLite", "RetinaNet")  # beginnings of builders' names
TARGETS = {"float32": "gpu", "float16": "gpu", "int8": "npu"}
OPERATORS_SHOWN = 6
ANY_SIZE = 512  # of networks that take images of any


def main(argv):
    import keras_hybrid

    networks = keras_hybrid.list_models()
    known = [*networks, *(name for name in dir(keras_hybrid) if name.startswith(SYSTEMS))]
    names = networks if _MODELS.value == ["all"] else _MODELS.value
    if len(argv) > 1 or set(names) - set(known) or set(_PRECISIONS.value) - set(TARGETS):
        print(f"Models are of {known}, precisions of {list(TARGETS)}.", file=sys.stderr)
        return 2
    for name in names:
        model = network(name)
        is_detector = name.startswith(SYSTEMS[2:])
        for precision, postprocess in itertools.product(
            _PRECISIONS.value, _POSTPROCESS.value if is_detector else ["raw"]
        ):
            with tempfile.TemporaryDirectory() as folder:
                path = os.path.join(folder, f"{name}_{precision}.tflite")
                export(model, path, precision, postprocess)
                tell = on_npu if precision == "int8" else on_gpu
                kind = f"{precision} {postprocess}" if is_detector else precision
                print(f"{name:18} {kind:8} {tell(path, model.input_shape)}", flush=True)
    return 0


def network(name):
    """The network with no weight at a special value."""
    import keras
    import numpy as np

    import keras_hybrid

    keras.utils.set_random_seed(0)
    keras.backend.clear_session()
    is_system = name.startswith(SYSTEMS)
    build = getattr(keras_hybrid, name) if is_system else partial(keras_hybrid.build_model, name)
    model = build(weights=None)
    if None in model.input_shape[1:]:
        model = build(weights=None, input_shape=(ANY_SIZE, ANY_SIZE, 3))
    random = np.random.default_rng(0)
    for variable in model.variables:
        shape = tuple(variable.shape)
        if variable.path.endswith(("gamma", "moving_variance")):
            variable.assign(random.uniform(0.5, 1.5, shape))
        elif variable.path.endswith(("beta", "moving_mean", "bias")):
            variable.assign(random.normal(0, 0.1, shape))
    return model


def export(model, path, precision, postprocess):
    """The file for the engine that the precision stands for here."""
    import numpy as np

    import keras_hybrid

    options = {"preprocessing": True, "target": TARGETS[precision], "postprocess": postprocess}
    if precision == "int8":
        images = np.random.default_rng(0).normal(size=(2, *model.input_shape[1:]))
        options["representative_data"] = images.astype("float32")
    keras_hybrid.export_tflite(model, path, precision, **options)


def on_gpu(path, shape):
    """What the GPU's engine says, and how far it is from the CPU's."""
    import numpy as np

    from keras_hybrid.engines.gpu import BrowserEngine

    pixels = np.random.default_rng(0).integers(0, 256, (1, *shape[1:])).astype("float32")
    with BrowserEngine() as browser:
        found = browser.run(path, {"image": pixels})
        expected = browser.run(path, {"image": pixels}, "wasm").outputs
    difference = max(
        np.abs(found.outputs[name] - values).max() / np.abs(values).max()
        for name, values in expected.items()
    )
    refused = ", ".join(f"{name}: {reason}" for name, reason in found.refused)
    told = f"{found.on_cpu} operators on the CPU {refused}, {difference:.1e} off"
    if len(expected) > 1:
        return told
    (scores,), (others,) = found.outputs.values(), expected.values()
    same = scores.argmax(-1) == others.argmax(-1)
    return f"{told}, {same.mean():.2%} of the same class"


def on_npu(path, shape):
    """What the NPU's compiler says."""
    from keras_hybrid.engines.npu import plan_for_npu

    plan = plan_for_npu(path)
    most = plan.cycles_by_operator.most_common(OPERATORS_SHOWN)
    where = ", ".join(f"{name} {cycles / 1e6:.2f}" for name, cycles in most)
    reasons = "; ".join(sorted({f"{x.operator}: {x.reason}" for x in plan.refused}))
    left = f"{len(plan.refused)} on the CPU" + (f" ({reasons})" if reasons else "")
    return f"{left}, {plan.cycles / 1e6:.2f} M cycles: {where}"


if __name__ == "__main__":
    app.run(main)
