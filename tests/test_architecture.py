"""The rooms of BUILD.md ("Architecture"): who may import whom, and what belongs in one place only.

Imports are read from the source, wherever they stand: at the top, in functions, in
`importlib.import_module("...")`, in tables of names that are resolved on first use, and in import
hooks.
"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = "keras_hybrid"
# In this order: a room imports only from rooms above it. Files of the package's root are rooms.
ROOMS = (
    "version",
    "files",
    "commentary",
    "image_files",
    "did_you_mean",
    "layer_names",
    "keras_private",
    "litert",
    "layers",
    "blocks",
    "weights",
    "models",
    "surgery",
    "tasks",
    "analysis",
    "quantization",
    "training",
    "export",
    "benchmark",
    "engines",
    "workflows",
    "cli",
    "__main__",
)
RANKS = {room: rank for rank, room in enumerate(ROOMS)}
FACE = "__init__"  # the package's public names: it resolves all rooms' lazily
# What is imported when something else is, and by whom: (trigger, module). Layers have to be known
# to Keras before it loads a model, twins as well.
HOOKS = {
    ("keras", "keras_hybrid.layers"),
    ("keras_hybrid.layers", "keras_hybrid.quantization.registered_twins"),
    ("keras_hybrid.layers", "keras_hybrid.tasks.segmentation.loss"),
    ("keras_hybrid.layers", "keras_hybrid.tasks.detection.anchors"),
    ("keras_hybrid.layers", "keras_hybrid.tasks.instances.roi_align"),
    ("keras_hybrid.layers", "keras_hybrid.tasks.instances.instance_detections"),
}
MAXIMUM_FILES = 15
# Where private names of other packages may be used.
PRIVATE_PLACES = {
    "keras_hybrid/keras_private.py",
    "keras_hybrid/litert.py",
    "keras_hybrid/quantization/ranges/tfmot.py",  # TFMOT's quantizers have no public path
}
PUBLIC_IN_SPITE = {"_exit", "_replace", "_asdict", "_fields", "_make"}  # of os, of named tuples
PRIVATE_MODULE = re.compile(
    r"(keras|tensorflow|tensorflow_model_optimization)\.(.+\.)?(src|python)(\..+)?"
)
PRIVATE_STRINGS = {
    "_functional",
    "_get_ops_details",
    "_inbound_nodes",
    "_keras_history",
    "_nodes_by_depth",
    "_outputs_struct",
}
LIBRARY = sorted((ROOT / PACKAGE).rglob("*.py"))
PROGRAMS = [
    path for folder in ("recipes", "tflite", "comparisons") for path in (ROOT / folder).glob("*.py")
]


def module_name(path):
    """ "keras_hybrid.surgery.fuse" for its file, a package's own name for its `__init__`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == FACE else parts)


MODULES = {module_name(path): path for path in LIBRARY}


def imports(tree):
    """Modules of the package that a file imports, anywhere and in whatever way, hooks apart."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names |= {
                full if (full := f"{node.module}.{alias.name}") in MODULES else node.module
                for alias in node.names
            }
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names.add(node.value)  # `import_module`, tables of names, `python -m`
    hooked = {module for _, module in hooks(tree)} | {trigger for trigger, _ in hooks(tree)}
    return {name for name in names if name in MODULES and name != PACKAGE} - hooked


def imports_the_face(tree):
    """Whether a file imports the package itself, and with it a name from any room."""
    return any(
        isinstance(node, ast.Import) and any(alias.name == PACKAGE for alias in node.names)
        for node in ast.walk(tree)
    )


def hooks(tree):
    """(trigger, module) of `wrapt.register_post_import_hook(function, trigger)`."""
    functions = {x.name: x for x in ast.walk(tree) if isinstance(x, ast.FunctionDef)}
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("post_import_hook"):
            function, trigger = node.args
            for inner in ast.walk(functions[function.id]):
                if isinstance(inner, ast.Constant) and str(inner.value).startswith(PACKAGE):
                    found.add((trigger.value, inner.value))
    return found


def room_of(module):
    return module.split(".")[1]


def violations(source_room, rooms):
    """Rooms among `rooms` that `source_room` may not import."""
    return [
        room
        for room in rooms
        if room != source_room and room in RANKS and RANKS[room] >= RANKS[source_room]
    ]


def private_names(tree):
    """Private attributes of other objects, and private modules, that a file uses."""
    defined = {x.name for x in ast.walk(tree) if isinstance(x, ast.FunctionDef | ast.ClassDef)} | {
        x.attr
        for x in ast.walk(tree)
        if isinstance(x, ast.Attribute)
        and isinstance(x.ctx, ast.Store)
        and isinstance(x.value, ast.Name)
        and x.value.id in ("self", "cls")
    }
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and re.match(r"_[^_]", node.attr):
            own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            own = own or ast.unparse(node.value) == "super()"
            if not own and node.attr not in defined | PUBLIC_IN_SPITE:
                found.add(node.attr)
        elif isinstance(node, ast.ImportFrom):
            found |= {x for x in (node.module or "",) if PRIVATE_MODULE.fullmatch(x)}
        elif isinstance(node, ast.Import):
            found |= {x.name for x in node.names if PRIVATE_MODULE.fullmatch(x.name)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            private = node.value in PRIVATE_STRINGS or PRIVATE_MODULE.fullmatch(node.value)
            found |= {node.value} if private else set()
    return found


def circles(graph):
    """Groups of modules that import each other, directly or by way of others (Tarjan)."""
    numbers, lowest, stack, found = {}, {}, [], []

    def visit(module):
        numbers[module] = lowest[module] = len(numbers)
        stack.append(module)
        for other in graph.get(module, ()):
            if other not in numbers:
                visit(other)
                lowest[module] = min(lowest[module], lowest[other])
            elif other in stack:
                lowest[module] = min(lowest[module], numbers[other])
        if lowest[module] == numbers[module]:
            group = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(group) > 1:
                found.append(set(group))

    for module in graph:
        if module not in numbers:
            visit(module)
    return found


@pytest.fixture(scope="module")
def trees():
    return {path: ast.parse(path.read_text()) for path in (*LIBRARY, *PROGRAMS)}


def test_rooms_import_only_lower_rooms(trees):
    for path in LIBRARY:
        if module_name(path) == PACKAGE:
            continue
        room = room_of(module_name(path))
        assert room in RANKS, f"{room} is not a room of BUILD.md"
        found = {room_of(module) for module in imports(trees[path])}
        assert not violations(room, found), f"{path} imports from rooms below it"
        assert not imports_the_face(trees[path]), f"{path}: name the module, not the package"


def test_import_hooks_are_few_and_known(trees):
    found = {path: hooks(trees[path]) for path in (*LIBRARY, *PROGRAMS) if hooks(trees[path])}
    assert found == {ROOT / PACKAGE / "__init__.py": HOOKS}


def test_no_modules_import_each_other(trees):
    graph = {
        module: imports(trees[path]) - {module}
        for module, path in MODULES.items()
        if module != PACKAGE
    }
    assert circles(graph) == []


def test_folders_stay_small():
    folders = {path.parent for path in LIBRARY}
    sizes = {str(x.relative_to(ROOT)): len([*x.glob("*.py")]) - 1 for x in folders}  # `__init__`
    assert {folder: size for folder, size in sizes.items() if size > MAXIMUM_FILES} == {}


def test_private_names_of_others_stay_in_their_places(trees):
    used = {
        str(path.relative_to(ROOT)): names
        for path, tree in trees.items()
        if (names := private_names(tree))
    }
    assert set(used) <= PRIVATE_PLACES, used
    assert set(used) == PRIVATE_PLACES, "a place that needs no private name any more"


@pytest.mark.parametrize(
    "source, module",
    [
        ("import keras_hybrid.export.convert", "keras_hybrid.export.convert"),
        ("from keras_hybrid.export import convert", "keras_hybrid.export.convert"),
        ("def f():\n from keras_hybrid.surgery.fuse import fuse", "keras_hybrid.surgery.fuse"),
        ("importlib.import_module('keras_hybrid.layers')", "keras_hybrid.layers"),
        ("_MODULE_OF = {'a': 'keras_hybrid.litert'}", "keras_hybrid.litert"),
    ],
)
def test_the_checks_see_every_kind_of_import(source, module):
    assert imports(ast.parse(source)) == {module}


def test_the_checks_see_a_violation():
    assert violations("layers", {"models"}) == ["models"]
    assert violations("export", {"benchmark"}) == ["benchmark"]
    assert violations("models", {"layers", "blocks"}) == []
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [{"a", "b", "c"}]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
    for source in (
        "model._nodes_by_depth",
        "getattr(model, '_functional')",
        "from keras.src.backend import config",
        "import tensorflow.python.framework",
        "class A:\n def f(self):\n  return self.other._hidden",
    ):
        assert private_names(ast.parse(source)), source
    assert not private_names(
        ast.parse("class A:\n def f(self, x):\n  return self._a(x)._replace()")
    )
    hook = (
        "def f(_):\n import_module('keras_hybrid.models')\nwrapt.register_post_import_hook(f, 'os')"
    )
    assert hooks(ast.parse(hook)) == {("os", "keras_hybrid.models")}


def test_test_modules_have_names_of_their_own():
    """pytest imports them by name alone: a second one of a name is not collected."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert {name for name in names if names.count(name) > 1} == set()


def test_program_folders_are_not_packages():
    for folder in ("recipes", "tflite"):
        assert not (ROOT / folder / "__init__.py").exists()
