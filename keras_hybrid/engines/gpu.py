"""What LiteRT's GPU engine makes of a `.tflite`: LiteRT.js with WebGPU in a headless browser.

The engine, ML Drift, is the one that the GPU delegate uses on phones: which operators it takes, and
what it computes. On a machine without a GPU, SwiftShader computes what a GPU would, so that nothing
here tells a time.
"""

import base64
import json
import os
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np

from keras_hybrid.benchmark.browser.litertjs import LiteRTJS, find_litertjs
from keras_hybrid.engines.chromium import Page, find_chromium

_PAGE = b"""<!doctype html><meta charset="utf-8"><title>engine</title>
<script type="importmap">{"imports": {
  "@litertjs/core": "/litertjs/core/dist/index.js",
  "@litertjs/wasm-utils": "/litertjs/wasm-utils/dist/index.js"}}</script>
<script type="module">
import * as litert from '@litertjs/core';
const heard = [];
for (const level of ['log', 'info', 'warn', 'error', 'debug']) {
  const own = console[level].bind(console);
  console[level] = (...parts) => { heard.push(parts.map(String).join(' ')); own(...parts); };
}
const KINDS = {float32: Float32Array, int32: Int32Array, uint8: Uint8Array, int8: Int8Array};
let loaded = null;
const bytes = (text) => Uint8Array.from(atob(text), (x) => x.charCodeAt(0));
window.runFile = async (accelerator, inputs) => {
  if (loaded !== accelerator) {
    if (loaded) litert.unloadLiteRt();
    await litert.loadLiteRt('/litertjs/core/wasm/', accelerator === 'webgpu' ? {jspi: true} : {});
    loaded = accelerator;
  }
  heard.length = 0;
  const content = new Uint8Array(await (await fetch('/file')).arrayBuffer());
  const model = await litert.loadAndCompile(content, {accelerator});
  const named = {}, outputs = {};
  for (const {name, kind, shape, data} of inputs) {
    named[name] = new litert.Tensor(new KINDS[kind](bytes(data).buffer), shape);
  }
  const found = Object.keys(named).length ? await model.run(named) : {};
  for (const [name, tensor] of Object.entries(found)) {
    const read = await tensor.moveTo('wasm');
    const values = read.toTypedArray();
    let text = '';
    const raw = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    for (let at = 0; at < raw.length; at += 32768) {
      text += String.fromCharCode(...raw.subarray(at, at + 32768));
    }
    outputs[name] = {kind: values.constructor.name, data: btoa(text)};
    read.delete();
  }
  model.delete();
  return {outputs, heard: [...heard]};
};
window.ready = true;
</script>"""
_KINDS = {
    "Float32Array": "float32",
    "Int32Array": "int32",
    "Uint8Array": "uint8",
    "Int8Array": "int8",
}


_BEFORE_REFUSALS = "operations are not supported by GPU delegate"
_ON_CPU = re.compile(r"the remaining (\d+) operations will run on the CPU")


@dataclass(frozen=True)
class BrowserRun:
    """What a file's run in the browser gave.

    Attributes:
        messages: what the engine said while it prepared the file.
        outputs: by name.
    """

    messages: tuple[str, ...]
    outputs: dict[str, np.ndarray]

    @property
    def refused(self) -> tuple[tuple[str, str], ...]:
        """What the GPU does not take: operators, each with the engine's reason."""
        lines = [line.strip() for text in self.messages for line in text.splitlines()]
        if not any(_BEFORE_REFUSALS in line for line in lines):
            return ()
        first = next(i for i, line in enumerate(lines) if _BEFORE_REFUSALS in line) + 1
        found = []
        for line in lines[first:]:
            operator, colon, reason = line.partition(": ")
            if not colon or not re.fullmatch(r"[A-Z0-9_]+", operator):
                break
            found.append((operator, reason))
        return tuple(found)

    @property
    def on_cpu(self) -> int:
        """How many operators run on the CPU: the refused, and what they cut off."""
        counts = [int(x) for text in self.messages for x in _ON_CPU.findall(text)]
        return sum(counts)

    @property
    def whole(self) -> bool:
        """Whether the GPU runs every operator.

        LiteRT.js' own `isFullyAccelerated` is true of files that it runs in part, too.
        """
        return not self.refused and not self.on_cpu


class BrowserEngine:
    """LiteRT.js in a browser of its own, for one file after another; `with` ends both.

    Args:
        litertjs: None for the installation of `keras-hybrid serve --install`.

    Raises:
        ValueError: where browser or engine are not there; it says how to get them.
    """

    def __init__(self, litertjs: LiteRTJS | None = None):
        litertjs = litertjs or find_litertjs(os.environ.get("KERAS_HYBRID_LITERTJS"))
        if find_chromium() is None:
            raise ValueError(
                "Chromium is needed, which the GPU's engine runs in without a window: "
                "`apt-get install chromium`"
            )
        self._server = _Server(litertjs.folder)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self._page = Page(f"http://127.0.0.1:{self._server.server_address[1]}/")
        self._page.wait_for("window.ready", 60)

    def prepare(self, path: str | os.PathLike, accelerator: str = "webgpu") -> BrowserRun:
        """Has a file prepared, and not run."""
        return self.run(path, {}, accelerator)

    def run(
        self,
        path: str | os.PathLike,
        inputs: Mapping[str, np.ndarray],
        accelerator: str = "webgpu",
    ) -> BrowserRun:
        """Runs a file once.

        Args:
            path: of the `.tflite`.
            inputs: by their names in the signature; none to prepare the file only.
            accelerator: "webgpu", or "wasm" for the CPU.

        Raises:
            ValueError: where the engine cannot prepare or run the file.
        """
        self._server.path = Path(path)
        sent = [
            {
                "name": name,
                "kind": str(values.dtype),
                "shape": values.shape,
                "data": base64.b64encode(np.ascontiguousarray(values).tobytes()).decode(),
            }
            for name, values in inputs.items()
        ]
        code = f"runFile({json.dumps(accelerator)}, {json.dumps(sent)})"
        try:
            found = self._page.evaluate(code)
        except RuntimeError as error:
            raise ValueError(
                f"LiteRT.js does not run the file: {error}. Received: path={str(path)!r}"
            ) from error
        outputs = {
            name: np.frombuffer(base64.b64decode(x["data"]), _KINDS[x["kind"]])
            for name, x in found["outputs"].items()
        }
        return BrowserRun(tuple(found["heard"]), outputs)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._page.close()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, folder):
        self.folder, self.path = folder.resolve(), None
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        kinds = {".js": "text/javascript", ".wasm": "application/wasm"}
        if path == "/":
            kind, content = "text/html", _PAGE
        elif path == "/file":
            kind, content = "application/octet-stream", self.server.path.read_bytes()
        else:
            file = (self.server.folder / path.removeprefix("/litertjs/")).resolve()
            if not (file.is_file() and file.is_relative_to(self.server.folder)):
                self.send_error(404)
                return
            kind, content = kinds.get(file.suffix, "application/octet-stream"), file.read_bytes()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        """Quiet."""
