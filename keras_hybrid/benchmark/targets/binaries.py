"""What kind of file a given `benchmark_model` is, before it is pushed anywhere."""

import dataclasses
import struct
from pathlib import Path

# e_machine and word size of the ABIs that Android knows.
ABIS = {
    (183, 64): "arm64-v8a",
    (40, 32): "armeabi-v7a",
    (62, 64): "x86_64",
    (3, 32): "x86",
    (243, 64): "riscv64",
}
_HOST_MACHINES = {"x86_64": "x86_64", "AMD64": "x86_64", "aarch64": "arm64-v8a"}
_LOADER_SEGMENT = 3  # PT_INTERP: the program's dynamic loader


@dataclasses.dataclass(frozen=True)
class Executable:
    """An ELF program: its ABI in Android's words and its loader (None if static)."""

    abi: str
    loader: str | None

    @property
    def system(self) -> str | None:
        """ "android" or "linux", by the loader; None if static."""
        if self.loader is None:
            return None
        return "android" if "/linker" in self.loader else "linux"


def read_executable(path) -> Executable:
    """Reads the ELF header of a program.

    Raises:
        ValueError: if it is none, is cut, or is for a processor that Android does not run on.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"The benchmark binary must be a file. Received: {str(path)!r}")
    data = path.read_bytes()[: 1 << 20]
    if data[:4] != b"\x7fELF":
        kind = "a file of another kind"
        if data[:2] == b"PK":
            kind = "an archive (an APK is given with --apk)"
        elif data[:1] in (b"<", b"#", b"{"):
            kind = "text (a failed download?)"
        raise ValueError(f"The benchmark binary must be an ELF program. Received: {path}, {kind}")
    try:
        bits = {1: 32, 2: 64}[data[4]]
        order = {1: "<", 2: ">"}[data[5]]
        kind, machine = struct.unpack_from(order + "HH", data, 16)
        if bits == 64:
            table, size, count = struct.unpack_from(order + "Q14xHH", data, 32)
        else:
            table, size, count = struct.unpack_from(order + "I10xHH", data, 28)
        loader = None
        for number in range(count):
            entry = table + number * size
            if struct.unpack_from(order + "I", data, entry)[0] != _LOADER_SEGMENT:
                continue
            word = "Q" if bits == 64 else "I"
            offset = struct.unpack_from(order + word, data, entry + (8 if bits == 64 else 4))[0]
            length = struct.unpack_from(order + word, data, entry + (32 if bits == 64 else 16))[0]
            loader = data[offset : offset + length].rstrip(b"\0").decode("ascii", "replace")
    except (struct.error, KeyError, IndexError) as error:
        raise ValueError(f"The benchmark binary's ELF header is cut or broken: {path}") from error
    if kind not in (2, 3):
        raise ValueError(
            f"The benchmark binary must be a program. Received: {path}, ELF type {kind}"
        )
    abi = ABIS.get((machine, bits))
    if abi is None:
        raise ValueError(
            f"The benchmark binary must be for one of {sorted(ABIS.values())}. "
            f"Received: {path}, ELF machine {machine}, {bits} bits"
        )
    return Executable(abi, loader)


def check_for_android(path, abis: list[str]) -> Executable:
    """Checks that a phone with these ABIs (preferred first) can run the program at `path`.

    Raises:
        ValueError: with the ABI that the program has and those that the phone has.
    """
    executable = read_executable(path)
    if executable.abi not in abis:
        raise ValueError(
            f"The benchmark binary must be for one of the device's ABIs {abis}. "
            f"Received: {path}, built for {executable.abi}"
        )
    if executable.system == "linux":
        raise ValueError(
            f"The benchmark binary must be built for Android. Received: {path}, built for Linux "
            f"(loader {executable.loader})"
        )
    return executable


def check_for_host(path, machine: str) -> Executable:
    """Checks that this machine (`platform.machine()`) can run the program at `path`."""
    executable = read_executable(path)
    if executable.abi != _HOST_MACHINES.get(machine) or executable.system == "android":
        raise ValueError(
            f"The benchmark binary must be built for Linux on {machine}. Received: {path}, built "
            f"for {executable.abi}, loader {executable.loader}"
        )
    return executable
