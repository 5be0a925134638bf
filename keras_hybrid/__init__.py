"""Mobile-Former, MobileViT and iFormer in Keras 3, from training to the phone.

Names are resolved on first use, so that importing the package costs next to nothing, the
benchmark room works without TensorFlow, and TensorFlow Model Optimization is loaded only when
somebody quantizes. `__init__.pyi` lists the names, each with its module: editors and type checkers
read it, and so does this file.
"""

import ast
import importlib
import pkgutil

import wrapt

from keras_hybrid.version import __version__


def _listed() -> dict[str, str]:
    """The public names and their modules, from the imports of `__init__.pyi`."""
    stub = ast.parse(pkgutil.get_data(__name__, "__init__.pyi"))
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


_MODULE_OF = _listed()

__all__ = ["__version__", *sorted(_MODULE_OF)]


def _register_layers(_keras):
    """Makes the package's layers known to Keras, so that it can load models that hold them."""
    importlib.import_module("keras_hybrid.layers")


def _register_twins(_layers):
    """The same for their quantised twins, once all layers are there."""
    importlib.import_module("keras_hybrid.quantization.registered_twins")


def _register_dense_tasks(_layers):
    """The same for what the dense tasks' models and compiled models hold."""
    importlib.import_module("keras_hybrid.tasks.segmentation.loss")
    importlib.import_module("keras_hybrid.tasks.detection.anchors")
    importlib.import_module("keras_hybrid.tasks.instances.roi_align")
    importlib.import_module("keras_hybrid.tasks.instances.instance_detections")


wrapt.register_post_import_hook(_register_layers, "keras")
wrapt.register_post_import_hook(_register_twins, "keras_hybrid.layers")
wrapt.register_post_import_hook(_register_dense_tasks, "keras_hybrid.layers")


def __getattr__(name):
    if name not in _MODULE_OF:
        hint = ""
        if not name.startswith("_"):  # nobody's spelling, but Python's own questions
            from keras_hybrid.did_you_mean import suggestion

            hint = suggestion(name, _MODULE_OF)
        raise AttributeError(f"module 'keras_hybrid' has no attribute '{name}'.{hint}")
    value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__():
    return __all__
