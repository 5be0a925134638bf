"""A device for the real `adb` client: adb's device protocol on loopback, a folder as its storage.

It speaks CNXN, OPEN, OKAY, WRTE and CLSE, the services `shell:`, `shell,v2:` and `sync:`, and runs
commands with this machine's shell: /data, /sys and the parts of /proc that phones show are
folders below the device's own. Faults are injected through the attributes of `Faults`.
"""

import contextlib
import dataclasses
import os
import queue
import re
import signal
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path

VERSION = 0x01000001
MAX_DATA = 256 * 1024


def _word(text):
    return struct.unpack("<I", text)[0]


CNXN, AUTH, OPEN, OKAY, WRTE, CLSE = map(
    _word, (b"CNXN", b"AUTH", b"OPEN", b"OKAY", b"WRTE", b"CLSE")
)


@dataclasses.dataclass
class Faults:
    """What goes wrong, until it is set back; counters count down to zero.

    Args:
        unauthorized: the device asks for a key and accepts none.
        drop_after_pushed_bytes: the connection breaks when so much was received.
        full_after_pushed_bytes: a push fails with "No space left on device".
        drop_run: so many of the next runs of a benchmark break the connection.
        slow_seconds: every shell command waits so long.
        silent: the device accepts connections and says nothing.
        garbage_answers: so many of the next shell answers are noise.
    """

    unauthorized: bool = False
    drop_after_pushed_bytes: int | None = None
    full_after_pushed_bytes: int | None = None
    drop_run: int = 0
    slow_seconds: float = 0.0
    silent: bool = False
    garbage_answers: int = 0


class Device:
    """One device; `address` is what `adb connect` takes.

    Args:
        root: folder that holds its storage.
        environment: for the commands that it runs.
        shell_v2: whether it offers the newer shell service.
    """

    def __init__(self, root, environment, *, shell_v2: bool = True):
        self.root = Path(root)
        self.environment = environment
        self.shell_v2 = shell_v2
        self.faults = Faults()
        self.commands: list[str] = []
        self.pushed: list[str] = []
        self._connections: set[socket.socket] = set()
        self._processes: set[subprocess.Popen] = set()
        self._listener = None
        self._port = 0
        self.plug_in()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    def plug_in(self) -> None:
        """Starts to listen, at the same address as before."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self._port))
        listener.listen()
        self._port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def unplug(self) -> None:
        """Breaks all connections, stops listening and ends what runs."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop()

    def drop(self) -> None:
        """Breaks all connections."""
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self._connections.clear()
        for process in list(self._processes):
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)

    def _accept(self, listener):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self._connections.add(connection)
            threading.Thread(target=_Link(self, connection).serve, daemon=True).start()

    def localize(self, command: str) -> str:
        """The command with the device's paths put below its folder."""
        return re.sub(
            r"(?<!\w)/(?=data/local/tmp|sys/|proc/(?:loadavg|sys/))", f"{self.root}/", command
        )

    def start_shell(self, command: str, merge: bool) -> subprocess.Popen:
        self.commands.append(command)
        process = subprocess.Popen(
            ["sh", "-c", self.localize(command)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if merge else subprocess.PIPE,
            env=self.environment,
            cwd=self.root,
            start_new_session=True,
        )
        self._processes.add(process)
        return process

    def running(self) -> list[subprocess.Popen]:
        """Commands that have not ended."""
        return [process for process in list(self._processes) if process.poll() is None]

    def shell_ended(self, process):
        self._processes.discard(process)


class _Stream:
    """One service that the client opened."""

    def __init__(self, link, number, remote):
        self.link, self.number, self.remote = link, number, remote
        self.incoming: queue.Queue[bytes | None] = queue.Queue()
        self.may_write = threading.Semaphore(0)
        self._rest = b""

    def write(self, data):
        for begin in range(0, len(data), MAX_DATA):
            self.link.send(WRTE, self.number, self.remote, data[begin : begin + MAX_DATA])
            if not self.may_write.acquire(timeout=60):
                raise ConnectionError("the client took no data")
            if self.link.closed:
                raise ConnectionError("the client is gone")

    def read(self, count):
        while len(self._rest) < count:
            block = self.incoming.get()
            if block is None:
                raise ConnectionError("the client closed the stream")
            self._rest += block
        data, self._rest = self._rest[:count], self._rest[count:]
        return data

    def close(self):
        self.link.send(CLSE, self.number, self.remote)


class _Link:
    """One connection of an adb server."""

    def __init__(self, device, connection):
        self.device, self.connection = device, connection
        self.streams: dict[int, _Stream] = {}
        self.closed = False
        self._lock = threading.Lock()
        self._next = 1

    def send(self, command, first, second, data=b""):
        header = struct.pack(
            "<6I", command, first, second, len(data), sum(data) & 0xFFFFFFFF, command ^ 0xFFFFFFFF
        )
        with self._lock, contextlib.suppress(OSError):
            self.connection.sendall(header + data)

    def _receive(self, count):
        data = b""
        while len(data) < count:
            block = self.connection.recv(count - len(data))
            if not block:
                raise ConnectionError("closed")
            data += block
        return data

    def serve(self):
        try:
            while True:
                command, first, second, length, _, _ = struct.unpack("<6I", self._receive(24))
                data = self._receive(length)
                if not self.device.faults.silent:
                    self._handle(command, first, second, data)
        except (ConnectionError, OSError):
            pass
        finally:
            self.closed = True
            for stream in list(self.streams.values()):
                stream.incoming.put(None)
                stream.may_write.release()
            self.device._connections.discard(self.connection)
            self.connection.close()

    def _handle(self, command, first, second, data):
        if command in (CNXN, AUTH):
            if self.device.faults.unauthorized:
                self.send(AUTH, 1, 0, b"\x5a" * 20)
                return
            features = "cmd,shell_v2" if self.device.shell_v2 else "cmd"
            banner = f"device::ro.product.name=fake;ro.product.model=Fake;features={features}"
            self.send(CNXN, VERSION, MAX_DATA, banner.encode())
        elif command == OPEN:
            number, self._next = self._next, self._next + 1
            stream = self.streams[number] = _Stream(self, number, first)
            self.send(OKAY, number, first)
            service = data.rstrip(b"\0").decode()
            threading.Thread(target=self._run_service, args=(stream, service), daemon=True).start()
        elif command == OKAY and second in self.streams:
            self.streams[second].may_write.release()
        elif command == WRTE and second in self.streams:
            stream = self.streams[second]
            stream.incoming.put(data)
            self.send(OKAY, stream.number, stream.remote)
        elif command == CLSE and second in self.streams:
            self.streams.pop(second).incoming.put(None)

    def _run_service(self, stream, service):
        name, _, argument = service.partition(":")
        try:
            if name == "sync":
                _Sync(self.device, stream).serve()
            elif name.split(",")[0] == "shell":
                self._shell(stream, argument, "v2" in name.split(","))
            stream.close()
        except (ConnectionError, OSError, ValueError):
            pass

    def _shell(self, stream, command, v2):
        faults = self.device.faults
        time.sleep(faults.slow_seconds)
        if faults.garbage_answers > 0:
            faults.garbage_answers -= 1
            noise = bytes(range(256)) * 4
            stream.write(struct.pack("<BI", 1, len(noise)) + noise if v2 else noise)
            stream.write(struct.pack("<BIB", 3, 1, 0) if v2 else b"")
            return
        process = self.device.start_shell(command, merge=not v2)
        if faults.drop_run > 0 and "run.pid" in command and "exec" in command:
            faults.drop_run -= 1
            self.device.drop()
            return
        readers = [
            threading.Thread(target=self._pump, args=(stream, pipe, kind if v2 else None))
            for kind, pipe in ((1, process.stdout), (2, process.stderr))
            if pipe
        ]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        status = process.wait()
        self.device.shell_ended(process)
        if v2:
            stream.write(struct.pack("<BIB", 3, 1, status & 0xFF))

    def _pump(self, stream, pipe, kind):
        root = str(self.device.root).encode()
        with pipe, contextlib.suppress(ConnectionError, OSError):
            data = pipe.read().replace(root + b"/", b"/")
            for begin in range(0, len(data), 32768):
                block = data[begin : begin + 32768]
                stream.write(
                    block if kind is None else struct.pack("<BI", kind, len(block)) + block
                )


class _Sync:
    """The service behind push and pull."""

    def __init__(self, device, stream):
        self.device, self.stream = device, stream

    def serve(self):
        while True:
            kind = self.stream.read(4)
            length = struct.unpack("<I", self.stream.read(4))[0]
            if kind == b"QUIT":
                return
            path = self.stream.read(length).decode()
            if kind == b"STAT":
                self._stat(path)
            elif kind == b"SEND":
                self._receive_file(path.rpartition(",")[0])
            elif kind == b"RECV":
                self._send_file(path)
            else:
                raise ValueError(f"unknown request {kind!r}")

    def _local(self, path):
        return Path(self.device.localize(path))

    def _stat(self, path):
        local = self._local(path)
        status = local.stat() if local.exists() else None
        figures = (status.st_mode, status.st_size, int(status.st_mtime)) if status else (0, 0, 0)
        self.stream.write(b"STAT" + struct.pack("<3I", *figures))

    def _receive_file(self, path):
        self.device.pushed.append(path)
        faults = self.device.faults
        total, failure = 0, None
        local = self._local(path)
        local.parent.mkdir(parents=True, exist_ok=True)
        with open(local, "wb") as file:
            while True:
                kind, length = struct.unpack("<4sI", self.stream.read(8))
                if kind == b"DONE":
                    break
                data = self.stream.read(length)
                total += len(data)
                limit = faults.drop_after_pushed_bytes
                if limit is not None and total > limit:
                    faults.drop_after_pushed_bytes = None
                    self.device.drop()
                    return
                if faults.full_after_pushed_bytes is not None and (
                    total > faults.full_after_pushed_bytes
                ):
                    failure = b"No space left on device"
                else:
                    file.write(data)
        if failure:
            local.unlink()
            self.stream.write(b"FAIL" + struct.pack("<I", len(failure)) + failure)
        else:
            self.stream.write(b"OKAY" + struct.pack("<I", 0))

    def _send_file(self, path):
        data = self._local(path).read_bytes()
        for begin in range(0, len(data), 65536):
            block = data[begin : begin + 65536]
            self.stream.write(b"DATA" + struct.pack("<I", len(block)) + block)
        self.stream.write(b"DONE" + struct.pack("<I", 0))
