"""The notebooks: outputs for readers without noise, and executed from top to bottom, offline."""

import importlib.util
import json
import os
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
CODE_LINES = 25  # of a cell: more is a program, not a step
MOST_BYTES = 1_000_000
NEEDS = {"05_published_weights": ("torch", "transformers")}
# 1 x 1, transparent.
PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAAB"
    "JRU5ErkJggg=="
)


@pytest.fixture(scope="module")
def renew():
    """The program that executes and strips them."""
    specification = importlib.util.spec_from_file_location("renew", FOLDER / "renew.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    yield module
    for flag in module.FLAGS.flags_by_module_dict().get("renew", []):
        delattr(module.FLAGS, flag.name)


def cells(path, kind=None):
    book = json.loads(path.read_text(encoding="utf-8"))
    return [cell for cell in book["cells"] if kind in (None, cell["cell_type"])]


def test_there_are_notebooks():
    assert {path.name[:2] for path in NOTEBOOKS} >= {"01", "03", "04", "05"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_with_outputs_and_without_noise(path, require, renew):
    require(module="nbformat")
    import nbformat

    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert sum(bool(cell.outputs) for cell in code) >= len(code) / 2
    assert renew.complaints(book) == []
    for cell in cells(path, "code"):
        assert len(cell["source"]) <= CODE_LINES, f"{cell['id']} is too long"
    identifiers = [cell["id"] for cell in cells(path)]
    assert len(set(identifiers)) == len(identifiers)
    assert book.metadata.keys() == {"kernelspec", "language_info"}
    assert path.stat().st_size < MOST_BYTES


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_needs_no_clone(path):
    """It installs the package where there is none, and takes nothing from the repository."""
    install = "".join(cells(path, "code")[0]["source"])
    assert "%pip install" in install and 'find_spec("keras_hybrid") is None' in install
    code = "".join("".join(cell["source"]) for cell in cells(path, "code")[1:])
    assert not re.search(r"tests|goldens|recipes/|tflite/|\.parents?\b|sys\.path", code)


def test_noise_and_places_are_found_and_taken_out(renew):
    from nbformat import v4

    place = "/".join(("", "home", "someone"))
    noisy = [
        v4.new_output("stream", name="stderr", text="Epoch 1"),
        v4.new_output(
            "stream",
            name="stdout",
            text=f"wrote {place}/notebooks/a.tflite\n1/1 - 9s - 9s/step - loss: 1\n",
        ),
        v4.new_output("display_data", {"image/png": PNG, "text/plain": "<Figure at 0x7f>"}),
    ]
    cell = v4.new_code_cell("x", outputs=noisy, execution_count=7, metadata={"execution": {}})
    other = v4.new_code_cell("y", outputs=[v4.new_output("stream", text="E0000 00:00 cuda")])
    book = v4.new_notebook(cells=[cell, other])
    assert len(renew.complaints(book)) == 3
    renew.strip(book, [f"{place}/notebooks"])
    assert [output.output_type for output in cell.outputs] == ["stream", "display_data"]
    assert cell.outputs[0]["text"] == "wrote a.tflite\n1/1 - loss: 1\n"
    assert list(cell.outputs[1]["data"]) == ["image/png"] and cell.metadata == {}
    assert (cell.execution_count, other.execution_count) == (1, 2)
    assert len(renew.complaints(book)) == 1, "what a cell prints itself is complained of"


def test_buttons_open_the_published_notebooks(renew):
    from nbformat import v4

    book = v4.new_notebook(cells=[v4.new_markdown_cell("# Title\n\nFirst.\n\nSecond.")])
    for _ in range(2):  # again changes nothing
        renew.write_button(book, "01_quickstart", "https://github.com/someone/keras_hybrid")
        title, button, *rest = book.cells[0].source.split("\n\n")
        assert (title, rest) == ("# Title", ["First.", "Second."])
        assert button.endswith(
            "/github/someone/keras_hybrid/blob/main/notebooks/01_quickstart.ipynb)"
        )
    with pytest.raises(ValueError, match="OWNER/NAME"):
        renew.write_button(book, "01_quickstart", "https://example.com/keras_hybrid")
    renew.write_button(book, "01_quickstart", "")
    assert book.cells[0].source == "# Title\n\nFirst.\n\nSecond."


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
def test_a_notebook_runs_from_top_to_bottom(path, folder, require, renew, tmp_path, monkeypatch):
    needed = ("nbclient", "ipykernel", "sklearn", "matplotlib", "ai_edge_litert")
    for module in (*needed, *NEEDS.get(path.stem, ())):
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
    renew.strip(book, [str(folder), str(tmp_path)])
    assert renew.complaints(book) == []
    executed = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in executed] == list(range(1, len(executed) + 1))
    outputs = [output for cell in executed for output in cell.outputs]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert pictures, "a notebook shows pictures"
    if path.stem.startswith("01"):
        assert (folder / "digits.keras").is_file(), "02 and 04 take it up"
    errors = [output for output in outputs if output.output_type == "error"]
    assert not errors
