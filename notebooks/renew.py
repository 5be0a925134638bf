"""Executes the notebooks and keeps their outputs for readers, without noise and paths.

    python notebooks/renew.py                      all, in order: 02 and 04 take up 01's network
    python notebooks/renew.py 03_on_the_phone
    python notebooks/renew.py --home=https://github.com/OWNER/NAME     buttons that open Colab

They run in a folder of their own, and see nothing of this one. What stays of the outputs is what a
reader learns from: text, tables and pictures. What a library writes to standard error, how long
training took and places on this machine go. --home executes nothing: it writes the buttons, once
it is known where the repository is published; "none" takes them away.
"""

import base64
import io
import os
import re
import sys
import tempfile
from pathlib import Path

from absl import app, flags

FOLDER = Path(__file__).parent
SECONDS = 900  # for a cell
PICTURE_COLOURS = 128
MOST_BYTES = 1_000_000
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
BUTTON = "[![Open in Colab]"

FLAGS = flags.FLAGS
flags.DEFINE_string("home", None, "Address of the repository, for the buttons; executes nothing.")


def main(argv):
    import nbformat

    names = argv[1:] or sorted(path.stem for path in FOLDER.glob("*.ipynb"))
    paths = [FOLDER / f"{Path(name).stem}.ipynb" for name in names]
    if missing := [path.name for path in paths if not path.is_file()]:
        raise app.UsageError(f"there is no {', '.join(missing)} in {FOLDER.name}")
    with tempfile.TemporaryDirectory() as folder:
        for path in paths:
            book = nbformat.read(path, as_version=4)
            if FLAGS.home is None:
                print(path.name, file=sys.stderr)
                execute(book, folder)
                strip(book, [folder, str(FOLDER.parent)])
            else:
                write_button(book, path.stem, "" if FLAGS.home == "none" else FLAGS.home)
            if len(nbformat.writes(book).encode()) > MOST_BYTES:
                raise ValueError(f"{path.name} would be larger than {MOST_BYTES:,} bytes")
            nbformat.write(book, path)


def execute(book, folder: str):
    """Runs all cells, in a folder."""
    from nbclient import NotebookClient

    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, (str(FOLDER.parent), os.environ.get("PYTHONPATH")))
    )
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    resources = {"metadata": {"path": folder}}
    NotebookClient(book, timeout=SECONDS, kernel_name="python3", resources=resources).execute()


def strip(book, places: list[str]):
    """Leaves of the outputs what a reader learns from.

    Args:
        book: an executed notebook; is changed.
        places: folders of this machine, whose names go from texts.
    """
    book.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    for count, cell in enumerate(code, start=1):
        cell.metadata, cell.execution_count = {}, count
        told = [output for output in cell.outputs if _told(output)]
        cell.outputs = _joined([_stripped(output, count, places) for output in told])


def complaints(book) -> list[str]:
    """What of a notebook's outputs is noise or a place on a machine, a sentence each."""
    found = []
    for cell in book.cells:
        for output in cell.get("outputs", []):
            if not _told(output):
                found.append(f"{cell.id}: standard error or an error")
            for text in _texts(output):
                if match := PLACE.search(text) or NOISE.search(text):
                    found.append(f"{cell.id}: {match.group()!r}")
    return found


# An absolute path of a machine, and what libraries say of themselves.
PLACE = re.compile(r"(?<![\w.:/<])(/(?:\w[\w.+-]*/)+[\w.+-]+|[A-Z]:\\\w+|~/\w+)")
# Of Keras' progress: how busy this machine was.
DURATION = re.compile(r" - \d+m?s - \d+m?s/step")
NOISE = re.compile(r"\b[IWE]0000 |\w*Warning: |cuda|oneDNN|XLA service|\r|\x1b\[")


def _told(output):
    return output.output_type != "error" and output.get("name") != "stderr"


def _stripped(output, count, places):
    output = output.copy()
    if "metadata" in output:
        output["metadata"] = {}
    if output.output_type == "execute_result":
        output["execution_count"] = count
    if output.output_type == "stream":
        output["text"] = _without(output["text"], places)
    for kind, content in list(output.get("data", {}).items()):
        if kind == "image/png":
            output["data"][kind] = smaller(content)
        elif isinstance(content, str):
            output["data"][kind] = _without(content, places)
    if "image/png" in output.get("data", {}):
        output["data"].pop("text/plain", None)  # the figure's name in memory
    return output


def _joined(outputs):
    """Streams that follow each other as one; which lines came together is chance."""
    joined = []
    for output in outputs:
        if joined and output.output_type == joined[-1].output_type == "stream":
            joined[-1]["text"] += output["text"]
        else:
            joined.append(output)
    return joined


def _without(text, places):
    text = DURATION.sub("", text)
    for place in sorted({os.path.realpath(place) for place in places} | {*places}, key=len)[::-1]:
        text = text.replace(f"{place}{os.sep}", "").replace(place, ".")
    return text


def _texts(output):
    if output.output_type == "stream":
        return [output["text"]]
    return [
        content
        for kind, content in output.get("data", {}).items()
        if isinstance(content, str) and not kind.startswith("image/")
    ]


def smaller(png: str) -> str:
    """A picture of few colours: fewer bytes, and to the eye the same.

    Args:
        png: in base 64.
    """
    from PIL import Image

    image = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    content = io.BytesIO()
    image.quantize(PICTURE_COLOURS).save(content, "PNG", optimize=True)
    made = base64.b64encode(content.getvalue()).decode()
    return made if len(made) < len(png) else png.replace("\n", "")


def write_button(book, name: str, home: str):
    """Puts the button that opens a notebook in Colab below its title; without a home, none.

    Args:
        book: is changed.
        name: of its file, without suffix.
        home: address of the repository on GitHub.

    Raises:
        ValueError: for an address of elsewhere, which Colab cannot open.
    """
    blocks = book.cells[0].source.split("\n\n")
    title, *blocks = [block for block in blocks if not block.startswith(BUTTON)]
    if home:
        match = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+?)/?", home)
        if match is None:
            raise ValueError(
                f"An address such as https://github.com/OWNER/NAME is expected. Received: {home}"
            )
        link = f"https://colab.research.google.com/github/{match[1]}/blob/main/notebooks"
        blocks.insert(0, f"{BUTTON}({BADGE})]({link}/{name}.ipynb)")
    book.cells[0].source = "\n\n".join([title, *blocks])


if __name__ == "__main__":
    app.run(main)
