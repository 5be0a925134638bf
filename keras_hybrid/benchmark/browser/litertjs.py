"""LiteRT.js, the engine that runs a `.tflite` in a browser: where it is on this machine."""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

VERSION = "2.5.3"  # that the page was written for
PACKAGES = ("core", "wasm-utils")


@dataclass(frozen=True)
class LiteRTJS:
    """An installation.

    Attributes:
        folder: with `core` and `wasm-utils` in it, as npm lays them.
        version: of `core`.
    """

    folder: Path
    version: str


def default_folder() -> Path:
    """Where `install_litertjs` puts it."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "keras_hybrid" / "litertjs"


def find_litertjs(folder: str | os.PathLike | None = None) -> LiteRTJS:
    """The installation in a folder.

    Args:
        folder: of an npm project, or of its `node_modules`; None for the default.

    Raises:
        ValueError: it says how to get it.
    """
    given = Path(folder).expanduser() if folder else default_folder()
    for place in (given / "node_modules" / "@litertjs", given / "@litertjs", given):
        if all((place / name / "package.json").is_file() for name in PACKAGES):
            described = json.loads((place / "core" / "package.json").read_text(encoding="utf-8"))
            return LiteRTJS(place, described["version"])
    raise ValueError(
        "LiteRT.js is not there: `keras-hybrid serve --install` fetches it by npm, and "
        "--litertjs=FOLDER takes one that `npm install @litertjs/core` made. "
        f"Received: {'--litertjs=' + str(folder) if folder else 'neither'}"
    )


def install_litertjs(folder: str | os.PathLike | None = None) -> LiteRTJS:
    """Fetches it with npm.

    Args:
        folder: to put it into; None for the default.

    Raises:
        ValueError: where there is no npm, or npm fails; its last lines are in the message.
    """
    given = Path(folder).expanduser() if folder else default_folder()
    npm = shutil.which("npm")
    if npm is None:
        raise ValueError(
            "npm is needed to fetch LiteRT.js: install Node.js, or copy an installation of "
            "`@litertjs/core` from elsewhere and name its folder with --litertjs=FOLDER"
        )
    given.mkdir(parents=True, exist_ok=True)
    command = [npm, "install", "--no-audit", "--no-fund", "--prefix", str(given)]
    done = subprocess.run(
        [*command, f"@litertjs/core@{VERSION}"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = " ".join(done.stderr.split()[-40:])
        raise ValueError(f"npm could not fetch LiteRT.js: {last}")
    return find_litertjs(given)
