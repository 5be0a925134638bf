"""What importing the package costs and gives."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from interpreter import count_calls

import keras_hybrid

ROOT = Path(__file__).parent.parent

IMPORT_BUDGET_CALLS = 20_000  # one and a half hundredths of a second


def run(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()


@pytest.mark.large
def test_import_costs_next_to_nothing_over_keras_and_loads_nothing_heavy():
    code = (
        "import sys, keras; before = set(sys.modules); calls[0] = 0; import keras_hybrid; "
        "print('loaded:', {name.split('.')[0] for name in set(sys.modules) - before})"
    )
    calls, output = count_calls(code, ROOT)
    assert calls <= IMPORT_BUDGET_CALLS
    (loaded,) = re.findall(r"^loaded: (.*)$", output, re.MULTILINE)
    assert ast.literal_eval(loaded) <= {"keras_hybrid", "wrapt"}
    alone = "import sys, keras_hybrid; print(*[m for m in ('keras', 'numpy') if m in sys.modules])"
    assert run(alone) == []


@pytest.mark.large
def test_layers_are_known_to_keras_whichever_is_imported_first():
    for imports in ("import keras, keras_hybrid", "import keras_hybrid, keras"):
        code = f"{imports}; print(keras.saving.get_registered_object('keras_hybrid>DynamicReLU'))"
        assert "DynamicReLU" in " ".join(run(code))


def test_every_public_name_resolves_to_a_documented_object():
    for name in keras_hybrid.__all__:
        value = getattr(keras_hybrid, name)
        assert name == "__version__" or value.__doc__, name
    assert set(keras_hybrid.__all__) <= set(dir(keras_hybrid))


def test_an_unknown_name_is_an_attribute_error_with_the_nearest():
    module = importlib.import_module("keras_hybrid")
    with pytest.raises(AttributeError, match="Did you mean `MobileFormer26M`"):
        module.MobileFormr26M  # noqa: B018
    with pytest.raises(AttributeError, match="'__spam__'.$"):
        module.__spam__  # noqa: B018


def test_the_stub_lists_what_the_models_room_builds():
    assert set(keras_hybrid.list_models()) <= set(keras_hybrid.__all__)
    for name, module in keras_hybrid._MODULE_OF.items():
        defined = vars(importlib.import_module(module))[name]
        assert getattr(keras_hybrid, name) is defined
        assert getattr(defined, "__module__", module) == module, f"{name} is at home elsewhere"


def names_of(module):
    """What a module of this project gives: top-level names, and files where it is a folder."""
    path = ROOT.joinpath(*module.split("."))
    file = path.with_suffix(".py") if path.with_suffix(".py").exists() else path / "__init__.py"
    if not file.exists():
        return None
    text = file.read_text()
    names = {"__getattr__"} if "def __getattr__" in text else set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names | {other.stem for other in path.glob("*")}


def test_what_is_imported_inside_the_project_is_there():
    """Lazy imports, too, which a move of a function would break unseen."""
    known, wrong = {}, []
    for folder in ("keras_hybrid", "recipes", "tflite", "comparisons", "tests"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if not (isinstance(node, ast.ImportFrom) and node.module):
                    continue
                if node.module.split(".")[0] != "keras_hybrid":
                    continue
                if node.module not in known:
                    known[node.module] = names_of(node.module)
                names = known[node.module]
                wrong += [
                    f"{path.relative_to(ROOT)}: {node.module}.{alias.name}"
                    for alias in node.names
                    if names is None or not names & {alias.name, "__getattr__"}
                ]
    assert wrong == []


def test_public_functions_are_fully_annotated():
    bare = []
    for name in set(keras_hybrid.__all__) - {"__version__"}:
        value = getattr(keras_hybrid, name)
        if not inspect.isfunction(value):
            continue
        signature = inspect.signature(value)
        untyped = [p.name for p in signature.parameters.values() if p.annotation is p.empty]
        if untyped or signature.return_annotation is signature.empty:
            bare.append((name, untyped))
    assert bare == []
