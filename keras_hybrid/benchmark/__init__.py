"""What a `.tflite` costs on a device: command lines, output parser, statistics, results.

Needs no TensorFlow, Keras or NumPy: it sees only paths of `.tflite` files. Names are resolved
on first use, so that importing the room costs next to nothing.
"""

import importlib

_MODULE_OF = {
    "Adb": "keras_hybrid.benchmark.targets.adb",
    "AdbError": "keras_hybrid.benchmark.targets.adb",
    "AppPhone": "keras_hybrid.benchmark.targets.app",
    "Cell": "keras_hybrid.benchmark.plan",
    "DELEGATES": "keras_hybrid.benchmark.targets.delegates",
    "Host": "keras_hybrid.benchmark.targets.host_target",
    "Options": "keras_hybrid.benchmark.targets.options",
    "Phone": "keras_hybrid.benchmark.targets.phone",
    "Protocol": "keras_hybrid.benchmark.targets.tool_flags",
    "Repetitions": "keras_hybrid.benchmark.plan",
    "Report": "keras_hybrid.benchmark.logs.parser",
    "Limits": "keras_hybrid.benchmark.verification.agreement",
    "Variant": "keras_hybrid.benchmark.targets.options",
    "Verification": "keras_hybrid.benchmark.verification.check",
    "verification_of": "keras_hybrid.benchmark.verification.check",
    "prepare_cases": "keras_hybrid.benchmark.verification.cases",
    "Row": "keras_hybrid.benchmark.rows",
    "RowFile": "keras_hybrid.benchmark.rows",
    "Rules": "keras_hybrid.benchmark.health.device_state",
    "Session": "keras_hybrid.benchmark.session",
    "rows_as_markdown": "keras_hybrid.benchmark.results.tables",
    "Target": "keras_hybrid.benchmark.targets.target",
    "TargetError": "keras_hybrid.benchmark.targets.target",
    "UNDECIDED": "keras_hybrid.benchmark.results.comparison",
    "benchmark_host": "keras_hybrid.benchmark.targets.host",
    "check_apk": "keras_hybrid.benchmark.targets.app",
    "compare": "keras_hybrid.benchmark.results.comparison",
    "compare_variants": "keras_hybrid.benchmark.results.comparison",
    "compare_pairs": "keras_hybrid.benchmark.results.comparison",
    "comparison_status": "keras_hybrid.benchmark.results.comparison",
    "comparison_table": "keras_hybrid.benchmark.results.comparison",
    "custom_delegate": "keras_hybrid.benchmark.targets.delegates",
    "find_models": "keras_hybrid.benchmark.session",
    "import_logs": "keras_hybrid.benchmark.logs.imported",
    "latest": "keras_hybrid.benchmark.plan",
    "list_devices": "keras_hybrid.benchmark.targets.adb",
    "new_session_id": "keras_hybrid.benchmark.session",
    "parse_log": "keras_hybrid.benchmark.logs.parser",
    "multiply_adds_by_part": "keras_hybrid.benchmark.results.graph",
    "ratio_interval": "keras_hybrid.benchmark.results.statistics",
    "read_executable": "keras_hybrid.benchmark.targets.binaries",
    "read_graph": "keras_hybrid.benchmark.results.graph",
    "read_metrics": "keras_hybrid.benchmark.results.plots",
    "read_rows": "keras_hybrid.benchmark.rows",
    "summarize": "keras_hybrid.benchmark.results.tables",
    "write_reports": "keras_hybrid.benchmark.results.reports",
}

__all__ = sorted(_MODULE_OF)


def __getattr__(name):
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'keras_hybrid.benchmark' has no attribute '{name}'")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__():
    return __all__
