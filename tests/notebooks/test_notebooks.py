"""The notebooks: kept without outputs, and executed from top to bottom, offline."""

import json
import os
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
CODE_LINES = 25  # of a cell: more is a program, not a step


def cells(path, kind=None):
    book = json.loads(path.read_text(encoding="utf-8"))
    return [cell for cell in book["cells"] if kind in (None, cell["cell_type"])]


def test_there_are_notebooks():
    assert {path.name[:2] for path in NOTEBOOKS} >= {"01", "03", "04", "05"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_clean(path, require):
    require(module="nbformat")
    import nbformat

    nbformat.validate(nbformat.read(path, as_version=4))
    for cell in cells(path, "code"):
        assert cell["outputs"] == [] and cell["execution_count"] is None, "outputs are stripped"
        assert len(cell["source"]) <= CODE_LINES, f"{cell['id']} is too long"
    identifiers = [cell["id"] for cell in cells(path)]
    assert len(set(identifiers)) == len(identifiers)
    book = json.loads(path.read_text(encoding="utf-8"))
    assert book["metadata"].keys() == {"kernelspec", "language_info"}
    assert path.stat().st_size < 50_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_teaches(path):
    """It starts with a title, explains more than every other step, and shows pictures."""
    found = cells(path)
    kinds = [cell["cell_type"] for cell in found]
    assert kinds[0] == "markdown" and "".join(found[0]["source"]).startswith("# ")
    assert kinds.count("markdown") >= 0.6 * kinds.count("code")
    code = "".join("".join(cell["source"]) for cell in cells(path, "code"))
    assert re.search(r"plt\.show|plot|Image\(", code)
    others = set(re.findall(r"`(0\d_\w+)`", json.dumps(found)))
    assert others <= {other.stem for other in NOTEBOOKS}, "links lead to notebooks that exist"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the notebooks run, in order: the first trains a network that later ones take up."""
    return tmp_path_factory.mktemp("notebooks")


@pytest.mark.large
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(path, folder, require, tmp_path, monkeypatch):
    for module in ("nbclient", "ipykernel", "sklearn", "matplotlib", "ai_edge_litert"):
        require(module=module)
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing can be downloaded
    book = nbformat.read(path, as_version=4)
    before = dict(os.environ)
    NotebookClient(
        book,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
    ).execute()
    assert dict(os.environ) == before
    executed = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in executed] == list(range(1, len(executed) + 1))
    outputs = [output for cell in executed for output in cell.outputs]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert pictures, "a notebook shows pictures"
    if path.stem.startswith("01"):
        assert (folder / "digits.keras").is_file(), "02 and 04 take it up"
    errors = [output for output in outputs if output.output_type == "error"]
    assert not errors
