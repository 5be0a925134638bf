"""Mobile-Former, MobileViT and iFormer in Keras 3, from training to the phone.

Names are resolved on first use, so that importing the package costs next to nothing, the
benchmark room works without TensorFlow, and TensorFlow Model Optimization is loaded only when
somebody quantises.
"""

import importlib

import wrapt

from keras_hybrid.version import __version__

_MODULE_OF = {
    **dict.fromkeys(
        [
            "MobileFormer26M",
            "MobileFormer52M",
            "MobileFormer96M",
            "MobileFormer151M",
            "MobileFormer214M",
            "MobileFormer294M",
            "MobileFormer508M",
        ],
        "keras_hybrid.models.mobile_former",
    ),
    **dict.fromkeys(["MobileViTXXS", "MobileViTXS", "MobileViTS"], "keras_hybrid.models.mobilevit"),
    **dict.fromkeys(
        ["IFormerT", "IFormerS", "IFormerM", "IFormerL", "IFormerL2", "IFormerH"],
        "keras_hybrid.models.iformer",
    ),
    "list_models": "keras_hybrid.models.catalogue",
    "build_model": "keras_hybrid.models.catalogue",
    "feature_pyramid": "keras_hybrid.models.features",
    "training_heads": "keras_hybrid.models.iformer",
    "load_checkpoint": "keras_hybrid.weights.checkpoints.checkpoint",
    "list_weights": "keras_hybrid.weights.presets",
    "preprocess_input": "keras_hybrid.weights.presets",
    "evaluation_image": "keras_hybrid.weights.evaluation",
    "decode_predictions": "keras_hybrid.weights.labels",
    "count_multiply_adds": "keras_hybrid.analysis.cost",
    "attention_maps": "keras_hybrid.analysis.attention",
    "head_similarity": "keras_hybrid.analysis.heads",
    "plot_attention": "keras_hybrid.analysis.attention_picture",
    "plot_head_similarity": "keras_hybrid.analysis.heads",
    "summarize_cost": "keras_hybrid.analysis.summary",
    "export_tflite": "keras_hybrid.export.convert",
    "fuse": "keras_hybrid.surgery.fuse",
    "quantize": "keras_hybrid.quantization.quantize",
    "calibrate": "keras_hybrid.quantization.ranges.calibration",
}

__all__ = ["__version__", *sorted(_MODULE_OF)]


def _register_layers(_keras):
    """Makes the package's layers known to Keras, so that it can load models that hold them."""
    importlib.import_module("keras_hybrid.layers")


def _register_twins(_layers):
    """The same for their quantised twins, once all layers are there."""
    importlib.import_module("keras_hybrid.quantization.rules")


wrapt.register_post_import_hook(_register_layers, "keras")
wrapt.register_post_import_hook(_register_twins, "keras_hybrid.layers")


def __getattr__(name):
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'keras_hybrid' has no attribute '{name}'")
    value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__():
    return __all__
