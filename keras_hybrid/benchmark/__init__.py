"""What a `.tflite` costs on a device: command lines, output parser, statistics, results.

Needs no TensorFlow, Keras or NumPy: it sees only paths of `.tflite` files. Names are resolved
on first use, so that importing the room costs next to nothing.
"""

import importlib

_MODULE_OF = {
    "Row": "keras_hybrid.benchmark.rows",
    "read_rows": "keras_hybrid.benchmark.rows",
    "benchmark_host": "keras_hybrid.benchmark.host",
}

__all__ = sorted(_MODULE_OF)


def __getattr__(name):
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'keras_hybrid.benchmark' has no attribute '{name}'")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__():
    return __all__
