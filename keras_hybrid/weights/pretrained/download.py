"""Downloads one published file: resumes, verifies, and never takes a part for the whole.

One path for all homes rather than one library each, so that one cache layout, one set of checks
and one message hold for Hugging Face, GitHub and Google Drive.
"""

import dataclasses
import errno
import html.parser
import http.client
import json
import os
import re
import shutil
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from http.cookiejar import CookieJar
from pathlib import Path

import keras
from absl import logging

from keras_hybrid.files import sha256, write_text
from keras_hybrid.version import __version__
from keras_hybrid.weights.checkpoints.checkpoint_files import check_file, html_title
from keras_hybrid.weights.pretrained.homes import Home

CHUNK = 1 << 20
TIMEOUT = 30.0  # seconds without a byte
ATTEMPTS = 4  # in a row without progress
BACKOFF = 0.5  # seconds before the second attempt; it doubles
PAGE_LIMIT = 1 << 20  # bytes of an HTML page that are read
PART_SUFFIX = ".part"
RETRIED_STATUS = (408, 429, 500, 502, 503, 504)
_HEADERS = {"User-Agent": f"keras-hybrid/{__version__}", "Accept-Encoding": "identity"}
_SHA256 = re.compile(r'"?([0-9a-f]{64})"?')


class DownloadError(OSError):
    """A published file could not be had; the message says why and what to do."""


class _Refused(Exception):
    """One home's answer cannot lead to the file; another home may."""


class _Interrupted(Exception):
    """The connection broke; another attempt may go on."""


@dataclasses.dataclass
class _Part:
    """A download under way, on disk beside its description.

    Attributes:
        path: of the bytes so far.
        validator: ETag or Last-Modified of the file that they are of; None when none was given.
        url: where they came from.
    """

    path: Path
    validator: str | None = None
    url: str | None = None

    @property
    def description(self):
        return self.path.with_name(self.path.name + ".json")

    @property
    def size(self):
        return self.path.stat().st_size if self.path.exists() else 0

    @classmethod
    def read(cls, path, url):
        """The part left by an earlier attempt at `url`, or an empty one."""
        part = cls(path, None, url)
        try:
            known = json.loads(part.description.read_text())
            if known["url"] == url and known["validator"]:
                part.validator = known["validator"]
                return part
        except (OSError, ValueError, KeyError, TypeError):
            pass
        part.discard()
        return part

    def describe(self, validator):
        self.validator = validator
        self.description.write_text(json.dumps({"url": self.url, "validator": validator}))

    def discard(self):
        self.path.unlink(missing_ok=True)
        self.description.unlink(missing_ok=True)
        self.validator = None


def record_path(path: Path) -> Path:
    """Where the checksum of a file stands: beside it."""
    return path.with_name(f"{path.name}.sha256.json")


def write_record(path: Path, url: str):
    """Records a file's checksum, size and origin beside it."""
    record = {"sha256": sha256(path), "size": path.stat().st_size, "url": url}
    write_text(record_path(path), json.dumps(record, indent=1))


def recorded_checksum(path: Path) -> str | None:
    """The checksum recorded beside a file, None when there is none (or it cannot be read)."""
    try:
        return json.loads(record_path(path).read_text())["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def fetch(homes: Sequence[Home], folder: str | os.PathLike) -> tuple[Path, bool]:
    """The file of the first home that has it, from the folder or downloaded into it.

    A file already there is compared with its recorded checksum; one put there by hand gets a
    record. The caller holds the folder's lock.

    Args:
        homes: where the file is, the preferred place first.
        folder: where it is kept; created when missing.

    Returns: its path, and whether it was downloaded just now.

    Raises:
        ValueError: for a file in the folder that changed since it was recorded, or is no file of
            weights.
        DownloadError: when no home gives the file. What arrived so far is kept for the next call.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for home in homes:
        path = folder / home.file
        if path.exists():
            _check_kept(check_file(path), home)
            return path, False
    refusals = []
    for home in homes:
        try:
            return _download(home, folder), True
        except (_Refused, _Interrupted) as error:
            logging.info("%s: %s", home.url, error)
            refusals.append(f"{home.url}: {error}")
            if (folder / f"{home.file}{PART_SUFFIX}").exists():
                break  # the next call goes on with it
    places = " or ".join(str(folder / home.file) for home in homes)
    raise DownloadError(
        "The published weights could not be downloaded. "
        f"{'; '.join(refusals)}. Try again later (a download that broke off goes on where it "
        f"stopped), or fetch the file by hand from such an address and put it at {places}"
    )


def _check_kept(path, home):
    recorded = recorded_checksum(path)
    if recorded is None:
        logging.info("%s has no checksum yet: it is recorded now.", path)
        write_record(path, f"by hand, for {home.url}")
    elif recorded != sha256(path):
        raise ValueError(
            "The file is not the one that was downloaded first: its checksum differs from the one "
            f"recorded in {record_path(path)}. Delete the file to download it again, and the "
            f"record too where the change is wanted. Received: file {path}"
        )


def _download(home, folder):
    """Downloads from one home: the path of the whole, verified, recorded file."""
    path = folder / home.file
    url = home.url
    part = _Part.read(folder / f"{home.file}{PART_SUFFIX}", url)
    opener = urllib.request.build_opener(
        urllib.request.HTTPCookieProcessor(CookieJar()), redirects := _Redirects()
    )
    failures = 0
    while True:
        before = part.size
        try:
            _receive(opener, redirects, url, part, home.file)
            break
        except _Interrupted as error:
            failures = 0 if part.size > before else failures + 1
            if failures >= ATTEMPTS:
                raise
            logging.info("%s: %s; attempt %d", url, error, failures + 1)
            time.sleep(BACKOFF * 2 ** max(failures - 1, 0))
        except OSError as error:
            _fail_for_disk(error, part, path)
    digest = sha256(part.path)
    announced = redirects.sha256
    earlier = recorded_checksum(path)
    if announced not in (None, digest):
        part.discard()
        raise _Refused(f"the bytes have SHA-256 {digest}, the home announces {announced}")
    if earlier not in (None, digest):
        part.discard()
        raise _Refused(
            f"the file has SHA-256 {digest}, at first download it had {earlier}; delete "
            f"{record_path(path)} if the change is wanted"
        )
    os.replace(part.path, path)
    part.discard()
    write_record(path, url)
    return path


def _fail_for_disk(error, part, path):
    """Turns a failed write into a message; a full disk is given its room back."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        raise DownloadError(f"{path} cannot be written: {error}") from error
    part.discard()
    raise DownloadError(
        f"The disk is full: {path} cannot be written ({error.strerror}). What had arrived was "
        "deleted. Make room, or choose another place for Keras' cache with KERAS_HOME."
    ) from error


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects over HTTP, and keeps what Hugging Face says of the file on the way.

    Attributes:
        sha256: checksum that the home announces; None without.
        size: size that it announces; None without.
    """

    def __init__(self):
        self.sha256 = None
        self.size = None

    def note(self, headers):
        """Reads checksum and size from an answer of Hugging Face."""
        if match := _SHA256.fullmatch(headers.get("X-Linked-ETag", "")):
            self.sha256 = match[1]
        if (size := headers.get("X-Linked-Size", "")).isdigit():
            self.size = int(size)

    def redirect_request(self, request, file, code, message, headers, new_url):
        self.note(headers)
        return super().redirect_request(request, file, code, message, headers, new_url)


def _receive(opener, redirects, url, part, name):
    """Receives what is missing of a part; returns when it is whole.

    Raises:
        _Interrupted: when the connection broke, or the server asks to come again.
        _Refused: when the answer cannot lead to the file.
    """
    headers = {}
    if part.size and part.validator:
        headers = {"Range": f"bytes={part.size}-", "If-Range": part.validator}
    try:
        response = _open(opener, url, headers)
        redirects.note(response.headers)
        with response:
            total = _prepare(response, part, redirects.size)
            _save(response, part, total, name)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.discard()
            raise _Interrupted("the part did not fit the file and is fetched anew") from error
        kind = _Interrupted if error.code in RETRIED_STATUS else _Refused
        raise kind(f"HTTP {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        kind = _Interrupted if part.size else _Refused  # offline is known at once
        raise kind(f"no connection ({error.reason})") from error
    except (http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
        raise _Interrupted(f"connection broken ({type(error).__name__} {error})") from error


def _open(opener, url, headers):
    """Opens an address; of a page that asks for confirmation, what it leads to.

    Raises:
        _Refused: for any other page.
    """
    for _ in range(2):
        request = urllib.request.Request(url, headers=_HEADERS | headers)
        response = opener.open(request, timeout=TIMEOUT)
        if "text/html" not in response.headers.get("Content-Type", ""):
            return response
        with response:
            page = response.read(PAGE_LIMIT)
        form = _ConfirmationForm(page.decode("utf-8", "replace"))
        if not form.action:
            break
        url = form.address(response.url)
    raise _Refused(
        f"the answer is a web page ({html_title(page)!r}), not a file; Google Drive answers so "
        "when a file's download quota is used up"
    )


class _ConfirmationForm(html.parser.HTMLParser):
    """The form of Google Drive's page about files that it has not scanned for viruses.

    Attributes:
        action: address that the form is sent to; None for a page without such a form.
        fields: its hidden fields.
    """

    def __init__(self, page):
        super().__init__()
        self.action = None
        self.fields = {}
        self._inside = False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag == "form" and "download" in (attributes.get("id") or ""):
            self.action = attributes.get("action")
            self._inside = True
        elif tag == "input" and self._inside and attributes.get("name"):
            self.fields[attributes["name"]] = attributes.get("value") or ""

    def handle_endtag(self, tag):
        if tag == "form":
            self._inside = False

    def address(self, base):
        """What the form's button opens."""
        action = urllib.parse.urlsplit(urllib.parse.urljoin(base, self.action))
        if action.scheme not in ("http", "https"):
            raise _Refused(f"the confirmation leads to an odd address, {self.action!r}")
        query = urllib.parse.urlencode(
            [*urllib.parse.parse_qsl(action.query), *self.fields.items()]
        )
        return urllib.parse.urlunsplit(action._replace(query=query))


def _prepare(response, part, announced):
    """Makes the part fit what the answer goes on from; returns the whole size, None if unknown.

    Raises:
        _Refused: for an answer whose end could not be told from a cut, or of an impossible size.
        _Interrupted: for a range that does not continue the part.
        OSError: when the disk has no room for the rest.
    """
    headers = response.headers
    length = headers.get("Content-Length")
    if length is None and "chunked" not in headers.get("Transfer-Encoding", "").lower():
        raise _Refused("the answer does not tell its size, so that its end cannot be verified")
    validator = headers.get("ETag") or headers.get("Last-Modified")
    if response.status == http.HTTPStatus.PARTIAL_CONTENT:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", ""))
        fits = match and int(match[1]) == part.size and validator in (None, part.validator)
        if not fits:
            part.discard()
            raise _Interrupted("the server continued another file, it is fetched anew")
        total = int(match[2]) if match[2].isdigit() else part.size + int(length)
    else:
        part.discard()
        total = int(length) if length is not None else None
    if total is not None and announced not in (None, total):
        raise _Refused(f"the answer has {total} bytes, the home announces {announced}")
    total = announced if total is None else total
    free = shutil.disk_usage(part.path.parent).free
    if total is not None and total - part.size > free:
        raise OSError(errno.ENOSPC, f"{total - part.size} bytes needed, {free} free")
    if response.status != http.HTTPStatus.PARTIAL_CONTENT and validator:
        if validator.startswith("W/"):
            validator = None  # a weak one does not promise the same bytes
        part.describe(validator)
    return total


def _save(response, part, total, name):
    """Appends the answer to the part.

    Raises:
        _Interrupted: when it ends before the whole size is there.
    """
    done = part.size
    bar = None
    if total is not None and total > CHUNK:
        print(f"Downloading {name} ({total / 1e6:.0f} MB) from {response.url.split('?')[0]}")
        bar = keras.utils.Progbar(total, unit_name="byte")
    with part.path.open("ab") as file:
        while block := response.read(CHUNK):
            file.write(block)
            file.flush()
            done += len(block)
            if bar is not None:
                bar.update(min(done, total))
        os.fsync(file.fileno())
    if total is not None and done != total:
        if done > total:
            part.discard()
        raise _Interrupted(f"{done} of {total} bytes arrived")
    if done == 0:
        part.discard()
        raise _Refused("the file is empty")
    with part.path.open("rb") as file:
        title = html_title(file.read(2048))
    if title is not None:
        part.discard()
        raise _Refused(f"the answer is a web page ({title!r}), not a file")
