"""A server on loopback that speaks the protocols of Hugging Face, GitHub releases and Drive."""

import hashlib
import re
import threading
import urllib.parse
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Homes:
    """What the server serves and how, and what it was asked.

    Attributes:
        files: path on the server -> bytes.
        requests: (method, path, Range header) of every request.
        cut_after: the next body is cut after so many bytes; None for whole bodies.
        quota: whether Drive's quota is used up.
        confirm: whether Drive asks for a confirmation first.
        ranges: whether the server continues a download.
        status: of every answer, in place of the files; None for the files.
    """

    files: dict = field(default_factory=dict)
    requests: list = field(default_factory=list)
    cut_after: int | None = None
    quota: bool = False
    confirm: bool = True
    ranges: bool = True
    status: int | None = None
    announced: str | None = None
    address: str = ""

    def hugging_face(self, repository, file, content):
        self.files[f"/{repository}/resolve/main/{file}"] = content

    def github(self, repository, tag, file, content):
        self.files[f"/{repository}/releases/download/{tag}/{file}"] = content

    def drive(self, identifier, content):
        self.files[f"/uc?id={identifier}"] = content


CONFIRMATION = """<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head>
<body><form id="search" action="/search"><input type="hidden" name="q" value="x"></form>
<form id="download-form" action="{action}" method="get">
<input type="submit" id="uc-download-link" value="Download anyway"/>
<input type="hidden" name="id" value="{id}"><input type="hidden" name="export" value="download">
<input type="hidden" name="confirm" value="t"><input type="hidden" name="uuid" value="1-2-3">
</form></body></html>"""
QUOTA = """<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head>
<body>Sorry, you can't view or download this file at this time.</body></html>"""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        """Silence."""

    def do_GET(self):
        homes = self.server.homes
        homes.requests.append((self.command, self.path, self.headers.get("Range")))
        split = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(split.query))
        if homes.status is not None:
            self.answer(homes.status, b"no", {"Content-Type": "text/plain"})
        elif split.path == "/uc":
            self.drive(query)
        elif split.path == "/drive-download":
            content = homes.files.get(f"/uc?id={query['id']}")
            ok = query.get("confirm") == "t" and query.get("uuid") == "1-2-3"
            self.file(content if ok else None)
        elif split.path == "/cdn":
            self.file(homes.files.get(query["file"]))
        elif self.path in homes.files:
            content = homes.files[self.path]
            headers = {"Location": f"{homes.address}/cdn?file={urllib.parse.quote(self.path)}"}
            if "/resolve/" in self.path:
                digest = homes.announced or hashlib.sha256(content).hexdigest()
                headers |= {"X-Repo-Commit": "c" * 40, "X-Linked-Size": str(len(content))}
                headers |= {"X-Linked-ETag": f'"{digest}"', "ETag": '"redirect"'}
            self.answer(302, b"", headers)
        else:
            self.answer(404, b"no such file", {"Content-Type": "text/plain"})

    def drive(self, query):
        homes = self.server.homes
        if f"/uc?id={query['id']}" not in homes.files:
            self.answer(404, b"no such file", {"Content-Type": "text/plain"})
        elif homes.quota:
            self.answer(200, QUOTA.encode(), {"Content-Type": "text/html; charset=utf-8"})
        elif homes.confirm:
            page = CONFIRMATION.format(action=f"{homes.address}/drive-download", id=query["id"])
            self.answer(200, page.encode(), {"Content-Type": "text/html; charset=utf-8"})
        else:
            self.file(homes.files[f"/uc?id={query['id']}"])

    def file(self, content):
        homes = self.server.homes
        if content is None:
            self.answer(404, b"no such file", {"Content-Type": "text/plain"})
            return
        etag = f'"{hashlib.md5(content).hexdigest()}"'
        headers = {"ETag": etag, "Content-Type": "application/octet-stream"}
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if asked and homes.ranges and self.headers.get("If-Range") in (None, etag):
            start = int(asked[1])
            if start >= len(content):
                self.answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
                return
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.answer(206, content[start:], headers, cuttable=True)
        else:
            self.answer(200, content, headers, cuttable=True)

    def answer(self, status, body, headers, cuttable=False):
        homes = self.server.homes
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if cuttable and homes.cut_after is not None:
            body, homes.cut_after = body[: homes.cut_after], None
            self.close_connection = True
        self.wfile.write(body)
        self.wfile.flush()


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """Silence where a client hangs up, as one that refuses an answer does."""


def serve():
    """A running server; its `homes` say what it serves."""
    server = Server(("127.0.0.1", 0), Handler)
    server.homes = Homes(address=f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
