"""What importing the package costs and gives."""

import importlib
import statistics
import subprocess
import sys

import keras_hybrid

IMPORT_BUDGET_MS = 50


def run(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()


def test_import_costs_next_to_nothing_over_keras():
    code = (
        "import time, keras; start = time.perf_counter(); import keras_hybrid; "
        "print((time.perf_counter() - start) * 1000)"
    )
    measured = statistics.median(float(run(code)[0]) for _ in range(3))
    assert measured <= IMPORT_BUDGET_MS, f"{measured:.0f} ms"


def test_import_loads_nothing_heavy():
    code = (
        "import sys, keras; before = set(sys.modules); import keras_hybrid; "
        "print(*{name.split('.')[0] for name in set(sys.modules) - before})"
    )
    assert set(run(code)) <= {"keras_hybrid", "wrapt"}
    alone = "import sys, keras_hybrid; print(*[m for m in ('keras', 'numpy') if m in sys.modules])"
    assert run(alone) == []


def test_layers_are_known_to_keras_whichever_is_imported_first():
    for imports in ("import keras, keras_hybrid", "import keras_hybrid, keras"):
        code = f"{imports}; print(keras.saving.get_registered_object('keras_hybrid>DynamicReLU'))"
        assert "DynamicReLU" in " ".join(run(code))


def test_every_public_name_resolves_to_a_documented_object():
    for name in keras_hybrid.__all__:
        value = getattr(keras_hybrid, name)
        assert name == "__version__" or value.__doc__, name
    assert set(keras_hybrid.__all__) <= set(dir(keras_hybrid))


def test_an_unknown_name_is_an_attribute_error():
    module = importlib.import_module("keras_hybrid")
    assert not hasattr(module, "MobileFormer1M")
