"""What a `.tflite` costs on a device: command lines, output parser, statistics, results.

Needs no TensorFlow, Keras or NumPy: it sees only paths of `.tflite` files. Names are resolved
on first use, so that importing the room costs next to nothing.
"""

import importlib

_MODULE_OF = {
    "Adb": "keras_hybrid.benchmark.adb",
    "AdbError": "keras_hybrid.benchmark.adb",
    "AppPhone": "keras_hybrid.benchmark.apk",
    "Cell": "keras_hybrid.benchmark.plan",
    "DELEGATES": "keras_hybrid.benchmark.tool_flags",
    "Host": "keras_hybrid.benchmark.host_target",
    "Options": "keras_hybrid.benchmark.phone",
    "Phone": "keras_hybrid.benchmark.phone",
    "Protocol": "keras_hybrid.benchmark.tool_flags",
    "Repetitions": "keras_hybrid.benchmark.plan",
    "Report": "keras_hybrid.benchmark.log_parser",
    "Row": "keras_hybrid.benchmark.rows",
    "Rules": "keras_hybrid.benchmark.device_state",
    "Session": "keras_hybrid.benchmark.session",
    "as_markdown": "keras_hybrid.benchmark.tables",
    "benchmark_host": "keras_hybrid.benchmark.host",
    "compare": "keras_hybrid.benchmark.comparison",
    "comparison_status": "keras_hybrid.benchmark.comparison",
    "comparison_table": "keras_hybrid.benchmark.comparison",
    "custom_delegate": "keras_hybrid.benchmark.tool_flags",
    "find_models": "keras_hybrid.benchmark.session",
    "list_devices": "keras_hybrid.benchmark.adb",
    "new_session_id": "keras_hybrid.benchmark.session",
    "parse_log": "keras_hybrid.benchmark.log_parser",
    "ratio_interval": "keras_hybrid.benchmark.summary",
    "read_metrics": "keras_hybrid.benchmark.plots",
    "read_rows": "keras_hybrid.benchmark.rows",
    "summarise": "keras_hybrid.benchmark.tables",
    "write_reports": "keras_hybrid.benchmark.reports",
}

__all__ = sorted(_MODULE_OF)


def __getattr__(name):
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'keras_hybrid.benchmark' has no attribute '{name}'")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__():
    return __all__
