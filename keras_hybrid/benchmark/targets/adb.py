"""The `adb` client: every call has a time limit, every failure a kind."""

import dataclasses
import re
import secrets
import shlex
import signal
import subprocess
import time

from keras_hybrid.benchmark.targets.target import TargetError


class AdbError(TargetError):
    """An adb call failed.

    Attributes:
        kind: "gone" (unplugged, offline, rebooting), "unauthorized", "full" (no space left on
            the device), "timeout", "missing" (no adb program), "busy" (another harness measures on
            it), "same" (this session measures on it already) or "failed".
    """

    ADVICE = {
        "gone": "plug the device in again and wait for `adb devices` to list it as `device`",
        "unauthorized": "unlock the device and accept the debugging prompt of this computer",
        "full": "free space on the device (/data/local/tmp)",
        "timeout": "the device does not answer: unlock it, check the cable, or raise --adb_timeout",
        "missing": "install adb (Debian: `apt-get install adb`) or pass --adb",
        "ended": "Ctrl-C, or somebody else, ended adb",
        "failed": "see the message above",
        "busy": "wait for the other one, or end it",
        "same": "one of the two is enough",
    }

    def __init__(self, kind: str, message: str, same_device_as: str = ""):
        super().__init__(f"{message.strip()} ({self.ADVICE[kind]})")
        self.kind = kind
        self.same_device_as = same_device_as

    @property
    def device_is_lost(self) -> bool:
        """Whether the same call may succeed once the user has seen to the device."""
        return self.waiting_helps or self.kind == "full"

    @property
    def was_ended(self) -> bool:
        """Whether a signal ended adb."""
        return self.kind == "ended"

    @property
    def waiting_helps(self) -> bool:
        """Whether the device may come back by itself."""
        return self.kind in ("gone", "unauthorized", "timeout")


_KINDS = (
    ("unauthorized", re.compile(r"unauthorized|insufficient permissions|failed to authenticate")),
    ("full", re.compile(r"No space left on device|ENOSPC|not enough space", re.IGNORECASE)),
    (
        "gone",
        re.compile(
            r"device '.*' not found|device offline|device still|no devices|device .* not found"
            r"|protocol fault|closed$|connection reset|failed to get feature set|error: closed"
            r"|connect failed|Connection refused|couldn't read from device|EOF|broken pipe"
            r"|cannot connect|device is in \w+ mode|transport|authorizing|connecting"
            r"|no response|read failed|connect error",
            re.IGNORECASE | re.MULTILINE,
        ),
    ),
)


def _kind(message):
    return next((kind for kind, pattern in _KINDS if pattern.search(message)), "failed")


@dataclasses.dataclass(frozen=True)
class Answer:
    """Output (standard output and error, in the device's order) and exit status of a command."""

    output: str
    status: int


class Adb:
    """One device, through the adb program.

    Args:
        serial: as `adb devices` lists it.
        program: the adb program.
        timeout: limit in seconds of calls that have none of their own.
    """

    def __init__(self, serial: str, *, program: str = "adb", timeout: float = 30.0):
        self.serial = serial
        self.program = program
        self.timeout = timeout

    def call(self, *arguments: str, timeout: float | None = None) -> str:
        """Runs `adb -s SERIAL arguments...` and returns its standard output.

        Raises:
            AdbError: if it fails or does not end in time.
        """
        return run_adb(
            [self.program, "-s", self.serial, *arguments],
            self.timeout if timeout is None else timeout,
        )

    def script(self, text: str, timeout: float | None = None) -> Answer:
        """Runs a shell script on the device.

        The script must not hold anything from outside this package that is not quoted by
        `shlex.quote`. Its begin and end are marked with a number that it cannot know, so that an
        answer that was cut is told from a whole one, and what adb itself says is not taken for one,
        with any adb and any Android.

        Raises:
            AdbError: if the device goes away, or the answer is cut or late.
        """
        mark = f"keras_hybrid_{secrets.token_hex(8)}"
        output = self.call(
            "shell",
            f"echo {mark}; {{ {text}\n}} </dev/null 2>&1; s=$?; echo; echo {mark}=$s",
            timeout=timeout,
        )
        output = output.replace("\r\n", "\n").partition(f"{mark}\n")[2]
        body, found, status = output.rpartition(f"\n{mark}=")
        if not found or not status.strip().isdigit():
            raise AdbError("gone", f"the answer of {self.serial} was cut after: {output[-200:]!r}")
        return Answer(body, int(status))

    def run(self, arguments: list[str], timeout: float | None = None) -> Answer:
        """Runs a program with these very arguments on the device: its shell expands nothing."""
        return self.script(shlex.join(arguments), timeout)

    def push(self, local, remote: str) -> None:
        """Pushes a file so that `remote` is either whole or absent.

        Raises:
            AdbError: if the transfer fails; what was transferred is removed if possible.
        """
        partial = f"{remote}.part"
        try:
            self.call("push", str(local), partial, timeout=max(self.timeout, 600.0))
        except AdbError as error:
            if not error.device_is_lost or error.kind == "full":
                self._forget(partial)
            raise
        answer = self.run(["mv", "-f", partial, remote])
        if answer.status:
            raise AdbError(_kind(answer.output), f"cannot write {remote}: {answer.output}")

    def pull(self, remote: str, local) -> None:
        """Fetches a file.

        Raises:
            AdbError: if there is none, or the transfer fails.
        """
        self.call("pull", remote, str(local), timeout=max(self.timeout, 600.0))

    def _forget(self, remote):
        try:
            self.run(["rm", "-f", remote])
        except AdbError:
            return

    def state(self) -> str:
        """`device`, or what is wrong: `offline`, `unauthorized`, `gone`, ..."""
        try:
            return self.call("get-state", timeout=min(10.0, self.timeout)).strip()
        except AdbError as error:
            return error.kind

    def wait_until_back(self, seconds: float, pause: float = 1.0) -> bool:
        """Waits for the device to answer again, reconnecting devices of the form HOST:PORT."""
        deadline = time.monotonic() + seconds
        while True:
            if ":" in self.serial:
                self._reconnect()
            if self.state() == "device":
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(min(pause, max(0.0, deadline - time.monotonic())))

    def _reconnect(self):
        try:
            if self.state() != "device":
                run_adb([self.program, "disconnect", self.serial], 10.0)
        except AdbError:
            pass
        try:
            run_adb([self.program, "connect", self.serial], 15.0)
        except AdbError:
            return


def run_adb(command: list[str], timeout: float) -> str:
    """Runs an adb command line.

    Raises:
        AdbError: if it fails or does not end within `timeout` seconds.
    """
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=timeout,
            start_new_session=True,  # Ctrl-C is for the harness, which ends runs in order
        )
    except FileNotFoundError as error:
        raise AdbError("missing", f"there is no program {command[0]!r}") from error
    except subprocess.TimeoutExpired as error:
        words = " ".join(command[:4])
        raise AdbError("timeout", f"`{words} ..` did not end within {timeout:g} s") from error
    output = done.stdout.decode("utf-8", "replace")
    if -done.returncode in (signal.SIGINT, signal.SIGTERM):  # before it had a session of its own
        name = signal.Signals(-done.returncode).name
        raise AdbError("ended", f"`{' '.join(command[:4])} ..` was ended by {name}")
    if done.returncode:
        message = (done.stderr.decode("utf-8", "replace") + output).strip()
        message = message[-500:] or f"adb ended with status {done.returncode}"
        raise AdbError(_kind(message), message)
    return output


@dataclasses.dataclass(frozen=True)
class ListedDevice:
    serial: str
    state: str


def list_devices(program: str = "adb", timeout: float = 30.0) -> list[ListedDevice]:
    """The lines of `adb devices`.

    Raises:
        AdbError: if adb fails.
    """
    lines = run_adb([program, "devices"], timeout).splitlines()
    pairs = [line.split("\t", 1) for line in lines if "\t" in line]
    return [ListedDevice(serial.strip(), state.strip()) for serial, state in pairs]
