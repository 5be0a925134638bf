"""What real engines make of the networks' files at their native size: one line a file.

    python comparisons/benchmark_engines.py --models=MobileFormer26M,IFormerT
    python comparisons/benchmark_engines.py --precisions=int8 --models=all
    python comparisons/benchmark_engines.py --models=SSDLiteMobileViTXXS --postprocess=raw,decoded
    python comparisons/benchmark_engines.py --models=ablations --size=128 --precisions=float32
    python comparisons/benchmark_engines.py --models=all --size=128 --features

Files in float32 and float16, for GPUs, are run by LiteRT.js with WebGPU in headless Chromium: how
many operators it leaves to the CPU, and how far its scores are from WASM's, over the largest. Files
in int8, for NPUs, are compiled by Arm's Vela for Ethos-U85-256: what it leaves to the CPU, cycles
by its model, and by operator where most of them go. Weights are as training leaves them, calibrated
on noise; cycles do not depend on them. About one minute a file on two cores. Systems for detection
and segmentation are taken by their names, too: with several outputs, the furthest is told.
Tables of the papers' ablations ("iformer/table1", "ablations" for all) stand for their rows. What
the static list of `keras_hybrid.export` says of a file for GPUs is compared with the engine.

Exit status 1 where a classifier's file leaves an operator to the CPU, or list and engine differ;
2 for wrong usage.
"""

import itertools
import os
import sys
import tempfile
from functools import partial

from absl import app, flags

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

_MODELS = flags.DEFINE_list(
    "models", ["MobileFormer26M", "MobileViTXXS", "IFormerT"], "Or all, ablations, their tables."
)
_SIZE = flags.DEFINE_integer("size", None, "Height and width in pixels; none for native.", 32)
_FEATURES = flags.DEFINE_bool("features", False, "Features of the last layer, not scores.")
_TARGET = flags.DEFINE_enum("target", None, ["cpu", "gpu"], "Of files in float; none for gpu.")
_PRECISIONS = flags.DEFINE_list("precisions", ["float32", "float16", "int8"], "Of the files.")
_POSTPROCESS = flags.DEFINE_list("postprocess", ["raw"], "Of detectors' files: raw, decoded.")
SYSTEMS = ("DeepLabV3", "SemanticFPN", "SSDLite", "RetinaNet")  # beginnings of builders' names
TARGETS = {"float32": "gpu", "float16": "gpu", "int8": "npu"}
OPERATORS_SHOWN = 6
ANY_SIZE = 512  # of networks that take images of any


def main(argv):
    import keras_hybrid
    from keras_hybrid.analysis.ablations import ABLATIONS

    networks = keras_hybrid.list_models()
    systems = [name for name in dir(keras_hybrid) if name.startswith(SYSTEMS)]
    groups = {"all": networks, "ablations": list(ABLATIONS)}
    names = [name for given in _MODELS.value for name in groups.get(given, [given])]
    known = [*networks, *systems, *ABLATIONS]
    if len(argv) > 1 or set(names) - set(known) or set(_PRECISIONS.value) - set(TARGETS):
        print(f"Models are of {known}, precisions of {list(TARGETS)}.", file=sys.stderr)
        return 2
    status = 0
    for title, name, options in itertools.chain.from_iterable(map(variants, names)):
        model = network(name, options)
        is_detector = name.startswith(SYSTEMS[2:])
        for precision, postprocess in itertools.product(
            _PRECISIONS.value, _POSTPROCESS.value if is_detector else ["raw"]
        ):
            with tempfile.TemporaryDirectory() as folder:
                path = os.path.join(folder, f"{name}_{precision}.tflite")
                export(model, path, precision, postprocess)
                tell = on_npu if precision == "int8" else on_gpu
                kind = f"{precision} {postprocess}" if is_detector else precision
                told, is_whole = tell(path, model.input_shape)
                print(f"{title:18} {kind:8} {told}", flush=True)
                status |= not (is_whole or name in systems)
    return int(status)


def variants(name):
    """What a name on the command line stands for: titles, builders' names and options."""
    from keras_hybrid.analysis.ablations import ABLATIONS

    if name not in ABLATIONS:
        return [(name, name, {})]
    table = ABLATIONS[name]
    return [(f"{name} {row.label}", table.model, row.options) for row in table.rows]


def network(name, options):
    """The network with no weight at a special value."""
    import keras
    import numpy as np

    import keras_hybrid

    keras.utils.set_random_seed(0)
    keras.backend.clear_session()
    options = dict(options)
    if _SIZE.value:
        options["input_shape"] = (_SIZE.value, _SIZE.value, 3)
    if _FEATURES.value:
        options["include_top"] = False
    is_system = name.startswith(SYSTEMS)
    build = getattr(keras_hybrid, name) if is_system else partial(keras_hybrid.build_model, name)
    model = build(weights=None, **options)
    if None in model.input_shape[1:]:
        model = build(weights=None, **{"input_shape": (ANY_SIZE, ANY_SIZE, 3), **options})
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

    target = TARGETS[precision]
    if precision != "int8" and _TARGET.value:
        target = _TARGET.value
    options = {"preprocessing": True, "target": target, "postprocess": postprocess}
    if precision == "int8":
        images = np.random.default_rng(0).normal(size=(2, *model.input_shape[1:]))
        options["representative_data"] = images.astype("float32")
    keras_hybrid.export_tflite(model, path, precision, **options)


def on_gpu(path, shape):
    """What the GPU's engine says, and how far it is from the CPU's; and whether it takes all."""
    import numpy as np

    from keras_hybrid.engines.gpu import BrowserEngine
    from keras_hybrid.export.engines import check_gpu_delegate

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
    if len(expected) == 1 and not _FEATURES.value:
        (scores,), (others,) = found.outputs.values(), expected.values()
        same = scores.argmax(-1) == others.argmax(-1)
        told = f"{told}, {same.mean():.2%} of the same class"
    is_whole = not found.on_cpu
    if check_gpu_delegate(path).ready != is_whole:
        return f"{told}; the static list says otherwise", False
    return told, is_whole


def on_npu(path, shape):
    """What the NPU's compiler says, and whether it takes all."""
    from keras_hybrid.engines.npu import plan_for_npu

    plan = plan_for_npu(path)
    most = plan.cycles_by_operator.most_common(OPERATORS_SHOWN)
    where = ", ".join(f"{name} {cycles / 1e6:.2f}" for name, cycles in most)
    reasons = "; ".join(sorted({f"{x.operator}: {x.reason}" for x in plan.refused}))
    left = f"{len(plan.refused)} on the CPU" + (f" ({reasons})" if reasons else "")
    return f"{left}, {plan.cycles / 1e6:.2f} M cycles: {where}", not plan.refused


if __name__ == "__main__":
    app.run(main)
