"""The rooms of BUILD.md ("Architecture"): who may import whom, and what programs must not do."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# In this order: a room imports only from rooms above it. Files of the package's root are rooms.
ROOMS = (
    "version",
    "files",
    "image_files",
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
    "workflows",
    "cli",
)
RANKS = {room: rank for rank, room in enumerate(ROOMS)}


def imported_rooms(path):
    """Rooms of keras_hybrid that the file at `path` imports, anywhere in it."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        rooms |= {name.split(".")[1] for name in names if name.startswith("keras_hybrid.")}
    return rooms


def violations(source_room, rooms):
    """Rooms among `rooms` that `source_room` may not import."""
    return [
        room
        for room in rooms
        if room != source_room and room in RANKS and RANKS[room] >= RANKS[source_room]
    ]


@pytest.mark.parametrize(
    "path",
    sorted((ROOT / "keras_hybrid").glob("*/**/*.py")),
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_rooms_import_only_lower_rooms(path):
    room = path.relative_to(ROOT / "keras_hybrid").parts[0]
    assert room in RANKS, f"{room} is not a room of BUILD.md"
    assert not violations(room, imported_rooms(path))


def test_the_check_sees_a_violation():
    assert violations("layers", {"models"}) == ["models"]
    assert violations("export", {"benchmark"}) == ["benchmark"]
    assert violations("models", {"layers", "blocks"}) == []


def test_test_modules_have_names_of_their_own():
    """pytest imports them by name alone: a second one of a name is not collected."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert {name for name in names if names.count(name) > 1} == set()


def test_program_folders_are_not_packages():
    for folder in ("recipes", "tflite"):
        assert not (ROOT / folder / "__init__.py").exists()
