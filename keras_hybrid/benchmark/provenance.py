"""Where a number comes from: checksums, this machine, this checkout, the runtime."""

import functools
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

from keras_hybrid import files
from keras_hybrid.version import __version__


@functools.lru_cache(maxsize=256)
def _checksum(path, _size, _modified):
    return files.sha256(path)


def sha256(path: str | os.PathLike) -> str:
    """SHA-256 of a file, computed once for as long as its size and time stay the same."""
    status = os.stat(path)
    return _checksum(str(path), status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=1)
def harness() -> dict:
    """The harness' version and the commit of the checkout it lies in (None outside one)."""
    commit = _git("rev-parse", "HEAD")
    if commit and _git("status", "--porcelain", "--untracked-files=no"):
        commit += "+changes"
    return {"git_commit": commit, "harness_version": __version__}


def _git(*arguments):
    folder = Path(__file__).parent
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def _read(path):
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return None


@functools.lru_cache(maxsize=1)
def host_device() -> dict:
    """This machine, in the words that phones use: model, SoC, system version, ABI."""
    soc = None
    for line in (_read("/proc/cpuinfo") or "").splitlines():
        if line.lower().startswith(("model name", "hardware")):
            soc = line.partition(":")[2].strip()
            break
    return {
        "serial": "host",
        "model": "host",
        "soc": soc or platform.processor() or None,
        "system": platform.platform(),
        "abi": platform.machine(),
        "cores": os.cpu_count(),
    }


@functools.lru_cache(maxsize=1)
def host_runtime() -> dict:
    """The runtime that stands where a phone's row has its `benchmark_model`."""
    try:
        version = importlib.metadata.version("ai-edge-litert")
    except importlib.metadata.PackageNotFoundError:
        version = None
    return {"name": "ai-edge-litert", "version": version, "flavour": "interpreter"}


def host_state() -> dict:
    """What may disturb a measurement on this machine: load, governor, frequencies."""
    policies = sorted(Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq"))
    load = _read("/proc/loadavg")
    return {
        "load": float(load.split()[0]) if load else None,
        "governors": sorted({_read(p / "scaling_governor") or "unknown" for p in policies}),
        "frequencies_khz": [
            int(value)
            for value in (_read(p / "scaling_cur_freq") for p in policies)
            if value and value.isdigit()
        ],
    }
