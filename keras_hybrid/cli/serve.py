"""Opens .tflite files in a browser: of this machine, or of a phone without any app.

    keras-hybrid serve --install                            fetches LiteRT.js, once, by npm
    keras-hybrid serve runs/p/model.tflite
    keras-hybrid serve a.tflite b.tflite --out=runs/phones  rows of "Measure all" go there

The page classifies photos, with labels and latency, on the CPU (WASM) and on the GPU (WebGPU), and
measures all files on both; the rows are of the benchmark's schema, with the target "browser". On an
Android phone by cable: adb reverse tcp:8123 tcp:8123, then open http://localhost:8123 there. With
--https any device of the network may open it, an iPhone, too: point its camera at the QR code, and
accept the certificate, which is made on the spot and ends with this command. (With --host=0.0.0.0
alone it has neither WebGPU nor camera, which browsers keep for localhost and https.)
"""

import signal
import sys
from pathlib import Path

from keras_hybrid.cli.arguments import paths
from keras_hybrid.cli.arguments.numbers import whole
from keras_hybrid.cli.command import DONE, UsageError

ROWS_FILE = "rows.jsonl"


def add_arguments(parser):
    parser.add_argument("files", nargs="*", help=".tflite files, or folders of finished runs")
    parser.add_argument("--out", default="runs/browser", help="folder for rows.jsonl")
    parser.add_argument("--port", type=whole(0, 65535), default=8123, help="0 for any free one")
    parser.add_argument(
        "--host", help="127.0.0.1; with --https 0.0.0.0, which is the whole network"
    )
    parser.add_argument(
        "--https", action="store_true", help="with a certificate of its own, for other devices"
    )
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
    litertjs = find_litertjs(options.litertjs)
    from keras_hybrid.benchmark.browser import secure
    from keras_hybrid.benchmark.browser.server import PageServer

    models = {name: _described(path) for name, path in zip(_names(found), found, strict=True)}
    rows = Path(options.out).expanduser() / ROWS_FILE
    host = options.host or ("0.0.0.0" if options.https else "127.0.0.1")
    names = secure.addresses_of(host)
    tls = secure.server_context(secure.make_authority(), names) if options.https else None
    try:
        server = PageServer(models, litertjs, rows, host, options.port, tls=tls)
    except OSError as error:
        raise UsageError(
            f"{host}:{options.port} cannot be listened at ({error.strerror}): "
            "--port=0 takes a free one"
        ) from error
    print("\n".join(_invitation(server, names[0])))
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


def _invitation(server, name):
    """Lines that tell how to open the page, here and on a phone."""
    from keras_hybrid.benchmark.browser.secure import LOCAL, qr_code

    address = f"{server.scheme}://{'localhost' if name in LOCAL else name}:{server.port}"
    cable = (
        f"on an Android phone by cable: adb reverse tcp:{server.port} tcp:{server.port}, "
        f"then {server.scheme}://localhost:{server.port} there"
    )
    if name in LOCAL:
        return [address, cable]
    if server.scheme == "http":
        return [address, "other devices get neither WebGPU nor camera: --https has both", cable]
    picture = qr_code(address)
    try:
        picture.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # a terminal without the picture's blocks
        picture = "the address as a QR code needs a terminal of UTF-8"
    return [
        picture,
        address,
        "The browser warns of the certificate, which this command made for itself: go on once",
        "(Advanced, Proceed; Safari: Show Details, visit this website).",
    ]


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
