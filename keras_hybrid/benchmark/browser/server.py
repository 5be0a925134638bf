"""Serves the page, the files and LiteRT.js from this machine, and keeps the rows that come back."""

import json
import os
import ssl
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from keras_hybrid.benchmark.browser.browser_rows import browser_row
from keras_hybrid.benchmark.browser.litertjs import LiteRTJS
from keras_hybrid.benchmark.rows import RowFile
from keras_hybrid.benchmark.session import new_session_id

PAGE = Path(__file__).parent / "page"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".wasm": "application/wasm",
}
MOST_BYTES = 2**20  # of what a page posts
MOST_BYTES_LEFT = 2**26  # of what is refused, read so that its sender hears why


@dataclass(frozen=True)
class ServedModel:
    """A file, and what the page has to know of it.

    Attributes:
        path: of the `.tflite`.
        labels: of its classes.
        mean: taken from pixels of 0 to 255, for each channel or one for all.
        std: what the difference is divided by.
    """

    path: Path
    labels: Sequence[str]
    mean: Sequence[float] = (0.0,)
    std: Sequence[float] = (1.0,)


class PageServer(ThreadingHTTPServer):
    """The server; `serve_forever` serves, `rows_path` has what was measured.

    Args:
        models: by name, in the page's order.
        litertjs: the browser's engine.
        rows_path: JSON lines to append to.
        host: to listen at: "127.0.0.1" for this machine alone, "0.0.0.0" for the network's.
        port: 0 for any that is free.
        say: is called with a line for each row.
        tls: for https, what `secure.server_context` makes; None for http.
    """

    daemon_threads = True

    def __init__(
        self,
        models: Mapping[str, ServedModel],
        litertjs: LiteRTJS,
        rows_path: str | os.PathLike,
        host: str = "127.0.0.1",
        port: int = 0,
        say=print,
        tls: ssl.SSLContext | None = None,
    ):
        self.models, self.litertjs, self.say = dict(models), litertjs, say
        self.rows_path = Path(rows_path)
        self.session = new_session_id()
        self._rows, self._lock = None, threading.Lock()
        super().__init__((host, port), _Handler)
        self.scheme = "http" if tls is None else "https"
        if tls is not None:
            # Hands are shaken in the request's own thread: who is slow at it stops nobody.
            self.socket = tls.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )

    def handle_error(self, request, client_address):
        """Nothing of those who leave, speak http to https or do not trust the certificate."""
        if not isinstance(sys.exc_info()[1], (ssl.SSLError, ConnectionError)):
            super().handle_error(request, client_address)

    @property
    def port(self) -> int:
        return self.server_address[1]

    def describe(self) -> dict:
        """What the page asks for first."""
        return {
            "engine": self.litertjs.version,
            "models": [
                {
                    "name": name,
                    "bytes": model.path.stat().st_size,
                    **{key: value for key, value in asdict(model).items() if key != "path"},
                }
                for name, model in self.models.items()
            ],
        }

    def keep(self, posted: dict) -> str:
        """Writes a row of what the page posted; returns its status."""
        name = posted.get("model")
        if name not in self.models:
            raise ValueError(f"A file that is served is expected. Received: model={name!r}")
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        path = self.models[name].path
        row = browser_row(posted, name, path, self.litertjs.version, self.session, now)
        with self._lock:
            self._rows = self._rows or RowFile(self.rows_path)
            self._rows.append(row)
        self.say(f"[browser] {name}  {row.delegate}  {row.median_ms:.2f} ms  {row.status}")
        return row.status

    def file(self, path: str) -> Path | None:
        """What an address names; None for what is not served."""
        room, _, rest = path.lstrip("/").partition("/")
        if room == "models":
            model = self.models.get(rest)
            return model.path if model else None
        if room == "litertjs":
            return _inside(self.litertjs.folder, rest)
        return _inside(PAGE, path.lstrip("/") or "index.html")


def _inside(folder, name):
    found = (folder / name).resolve()
    return found if found.is_file() and found.is_relative_to(folder.resolve()) else None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        if path == "/models.json":
            self._answer(HTTPStatus.OK, self.server.describe())
            return
        file = self.server.file(path)
        if file is None:
            self._answer(HTTPStatus.NOT_FOUND, {"error": f"there is no {path}"})
            return
        kind = TYPES.get(file.suffix, "application/octet-stream")
        self._head(HTTPStatus.OK, kind, file.stat().st_size)
        with open(file, "rb") as content:
            self._write(content.read())

    def do_POST(self):
        length = int(self.headers.get("Content-Length") or 0)
        # Another page of this browser can post a form, but no JSON without being allowed to.
        if (
            urlsplit(self.path).path != "/rows"
            or self.headers.get("Content-Type") != "application/json"
            or not 0 < length <= MOST_BYTES
        ):
            self._leave(length)
            self._answer(HTTPStatus.BAD_REQUEST, {"error": "rows are posted to /rows, as JSON"})
            return
        try:
            posted = json.loads(self.rfile.read(length))
            if not isinstance(posted, dict):
                raise ValueError("An object is expected")
            self._answer(HTTPStatus.OK, {"status": self.server.keep(posted)})
        except ValueError as error:
            self._answer(HTTPStatus.BAD_REQUEST, {"error": str(error)})

    def _leave(self, length):
        """Reads what is not wanted: who is still sending would not read the answer."""
        self.close_connection = True
        left = min(max(length, 0), MOST_BYTES_LEFT)
        while left > 0:
            read = len(self.rfile.read(min(left, 2**16)))
            left = left - read if read else 0

    def log_message(self, *_):
        """Requests are nobody's business; rows are told."""

    def _answer(self, status, content):
        body = json.dumps(content).encode()
        self._head(status, TYPES[".json"], len(body))
        self._write(body)

    def _head(self, status, kind, length):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        self.send_header("Cache-Control", "no-cache")
        # A page that is alone has threads and fine clocks.
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()

    def _write(self, body):
        try:
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):  # the page was closed meanwhile
            self.close_connection = True
