"""Opens .tflite files in a browser: of this machine, or of a phone without any app.

    keras-hybrid serve --install                            fetches LiteRT.js, once, by npm
    keras-hybrid serve runs/p/model.tflite
    keras-hybrid serve a.tflite b.tflite --out=runs/phones  rows of "Measure all" go there

The page classifies photos, with labels and latency, on the CPU (WASM) and on the GPU (WebGPU), and
measures all files on both; the rows are of the benchmark's schema, with the target "browser". On an
Android phone by cable: adb reverse tcp:8123 tcp:8123, then open http://localhost:8123 there. With
--host=0.0.0.0 any device of the network may open it, without WebGPU and camera, which browsers
keep for localhost and https.
"""

import signal
from pathlib import Path

from keras_hybrid.cli.arguments import paths
from keras_hybrid.cli.arguments.numbers import whole
from keras_hybrid.cli.command import DONE, UsageError

ROWS_FILE = "rows.jsonl"


def add_arguments(parser):
    parser.add_argument("files", nargs="*", help=".tflite files, or folders of finished runs")
    parser.add_argument("--out", default="runs/browser", help="folder for rows.jsonl")
    parser.add_argument("--port", type=whole(0, 65535), default=8123, help="0 for any free one")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 for the whole network")
    parser.add_argument("--litertjs", help="folder of npm's @litertjs/core; the fetched one")
    parser.add_argument("--install", action="store_true", help="fetch LiteRT.js with npm")


def run(options) -> int:
    """Serves until Ctrl-C."""
    from keras_hybrid.benchmark.browser.litertjs import find_litertjs, install_litertjs

    if options.install:
        engine = install_litertjs(options.litertjs)
        print(f"LiteRT.js {engine.version} is in {engine.folder}")
        if not options.files:
            return DONE
    if not options.files:
        raise UsageError("name .tflite files, such as runs/p/model.tflite")
    found = [_file(text) for text in options.files]
    names = _names(found)
    litertjs = find_litertjs(options.litertjs)
    from keras_hybrid.benchmark.browser.server import PageServer

    models = {name: _described(path) for name, path in zip(names, found, strict=True)}
    rows = Path(options.out).expanduser() / ROWS_FILE
    try:
        server = PageServer(models, litertjs, rows, options.host, options.port)
    except OSError as error:
        raise UsageError(
            f"{options.host}:{options.port} cannot be listened at ({error.strerror}): "
            "--port=0 takes a free one"
        ) from error
    print(f"http://{'localhost' if options.host == '127.0.0.1' else options.host}:{server.port}")
    print(f"rows: {rows}   Ctrl-C ends it", flush=True)
    for number in (signal.SIGINT, signal.SIGTERM):  # ends in order, in the background, too
        signal.signal(number, signal.default_int_handler)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print()
    finally:
        server.server_close()
    return DONE


def _file(text):
    """The .tflite that a path names: of a run's folder, its model."""
    path = paths.existing(text, "a .tflite file")
    if path.is_dir():
        if not (path / "model.tflite").is_file():
            raise UsageError(
                f"there is no model.tflite in {text}: `keras-hybrid convert {text}` makes it"
            )
        return path / "model.tflite"
    if path.suffix != ".tflite":
        raise UsageError(f"a .tflite file is expected. Received: {text}")
    return path


def _names(found):
    """What the page calls the files: their names, with folders where names are alike."""
    names = [path.name for path in found]
    if len(set(names)) == len(names):
        return names
    return ["_".join(path.resolve().parts[-2:]) for path in found]


def _described(path):
    from keras_hybrid.benchmark.browser.server import ServedModel
    from keras_hybrid.export.metadata import read_metadata

    metadata = read_metadata(path)
    known = metadata.normalization or metadata.record.get("normalization")
    if known is None:
        return ServedModel(path, metadata.labels)
    mean, std = (
        (known["mean"], known["std"]) if isinstance(known, dict) else (known.mean, known.std)
    )
    return ServedModel(path, metadata.labels, tuple(mean), tuple(std))
