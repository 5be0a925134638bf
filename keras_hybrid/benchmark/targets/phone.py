"""One Android phone: what it is, what lies on it, and one run of `benchmark_model` in its shell."""

import re
import shlex
import threading
import time
from collections.abc import Callable
from pathlib import Path

from keras_hybrid.benchmark import provenance
from keras_hybrid.benchmark.health import device_state
from keras_hybrid.benchmark.plan import Cell, Model
from keras_hybrid.benchmark.rows import SUSTAINED, Row
from keras_hybrid.benchmark.targets import binaries, tool_flags
from keras_hybrid.benchmark.targets.adb import Adb, AdbError
from keras_hybrid.benchmark.targets.options import Options
from keras_hybrid.benchmark.targets.phone_lock import PhoneLock
from keras_hybrid.benchmark.targets.target import Stopwatch, Target
from keras_hybrid.benchmark.verdict import judge

FOLDER = "/data/local/tmp/keras_hybrid_benchmark"
_PROPERTIES = {
    "model": "ro.product.model",
    "manufacturer": "ro.product.manufacturer",
    "soc": "ro.soc.model",
    "soc_manufacturer": "ro.soc.manufacturer",
    "platform": "ro.board.platform",
    "hardware": "ro.hardware",
    "android": "ro.build.version.release",
    "sdk": "ro.build.version.sdk",
    "fingerprint": "ro.build.fingerprint",
    "abi": "ro.product.cpu.abi",
    "abis": "ro.product.cpu.abilist",
}
_FIXED_PERFORMANCE = ("cmd", "power", "set-fixed-performance-mode-enabled")
_SERIAL_PROPERTIES = ("ro.serialno", "ro.boot.serialno")
_EMULATOR_PROPERTIES = ("ro.kernel.qemu", "ro.boot.qemu")
_EMULATOR_HARDWARE = re.compile(r"ranchu|goldfish|cuttlefish|vsoc", re.IGNORECASE)

_NOT_EXECUTED = re.compile(
    r"[Pp]ermission denied|not executable|can't execute|avc: +denied|inaccessible or not found"
)
_SAY_AFFINITY = 'grep Cpus_allowed: /proc/self/status; exec "$@"'
_AFFINITY = re.compile(r"^Cpus_allowed:\s*([0-9a-f,]+)\n", re.MULTILINE)


def _read_affinity(log, mask):
    """The log without the kernel's line, and a note if the cores are not those asked for."""
    match = _AFFINITY.search(log)
    if not match:
        return log, None
    had = match[1].replace(",", "").lstrip("0") or "0"
    note = None
    if mask and int(had, 16) != int(mask, 16):
        note = f"pinned to cores {mask}, but the kernel allowed {had}"
    return log[: match.start()] + log[match.end() :], note


class Phone(Target):
    """A device behind adb, as a target of the matrix.

    Args:
        adb: the device.
        options: what all runs share.
        stop: set when the user wants to end; waits for cooling end then.
        say: called with a line for the user when the device must be waited for.
    """

    target = "android"
    program = "benchmark_model"

    def __init__(
        self,
        adb: Adb,
        options: Options,
        stop: threading.Event | None = None,
        *,
        say: Callable[[str], None] = print,
    ):
        self.adb = adb
        self.say = say
        self.options = options
        self.session = options.session
        self.stop = stop or threading.Event()
        self.flavour: tool_flags.Flavour | None = None
        self.device: dict = {"serial": adb.serial, "transport": adb.serial}
        self.binary: dict = {}
        self._has_taskset = False
        self._pushed: set[str] = set()
        self._first_state: device_state.DeviceState | None = None
        self._sustaining: Cell | None = None
        self._state: device_state.DeviceState | None = None
        self._lock = PhoneLock(
            adb,
            options.session,
            options.run_seconds
            + options.rules.cooldown_seconds
            + options.rules.pause_seconds
            + 120,
        )

    @property
    def name(self) -> str:
        return self.adb.serial

    def prepare(self, cells: list[Cell]) -> None:
        """Looks at the device and brings there what the runs of `cells` need. May be repeated.

        Raises:
            AdbError: if the device goes away.
            ValueError: if the binary or a flag is not for this device.
        """
        self._lock.take(self.options.lock_seconds)
        self.device = self.describe()
        self._state = self.state()
        self._first_state = self._first_state or self._state
        self._fix_performance()
        self._prepare_program()
        self.check_flags(cells)
        for model in {cell.model for cell in cells}:
            self._bring(model.path, model.sha256, self.remote_path(model))

    def check_flags(self, cells: list[Cell]) -> None:
        for cell in cells:
            self._flags(cell)

    def _fix_performance(self):
        """Asks for fixed performance mode; the device's record says whether it has it."""
        if not self.options.fixed_performance:
            return
        answer = self.adb.run([*_FIXED_PERFORMANCE, "true"])
        self.device["fixed_performance"] = answer.status == 0 and "rror" not in answer.output
        if not self.device["fixed_performance"]:
            self.say(f"[{self.name}] has no fixed performance mode: {answer.output.strip()[-200:]}")

    def describe(self) -> dict:
        """The device's identity; values that it does not tell are None."""
        asked = {
            **_PROPERTIES,
            **{f"serial{n}": name for n, name in enumerate(_SERIAL_PROPERTIES)},
            **{f"emulator{n}": name for n, name in enumerate(_EMULATOR_PROPERTIES)},
        }
        script = "\n".join(f"echo '@{key}'; getprop {name}" for key, name in asked.items())
        output = self.adb.script(script).output
        device: dict = {"serial": self.adb.serial, "transport": self.adb.serial}
        found = dict(re.findall(r"^@(\w+)\n(.*?)\n?(?=^@|\Z)", output, re.M | re.S))
        for key in _PROPERTIES:
            device[key] = found.get(key, "").strip() or None
        for number in range(len(_SERIAL_PROPERTIES)):
            own = found.get(f"serial{number}", "").strip()
            if own and own.lower() != "unknown":
                device["serial"] = own
                break
        device["emulator"] = bool(
            any(found.get(f"emulator{n}", "").strip() == "1" for n in (0, 1))
            or _EMULATOR_HARDWARE.search(device["hardware"] or "")
        )
        device["abis"] = (device["abis"] or device["abi"] or "").split(",")
        device["soc"] = device["soc"] or device["platform"] or device["hardware"]
        return device

    def remote_path(self, model: Model) -> str:
        """Where a model lies on the device: named by its contents, never by the user."""
        return f"{FOLDER}/{model.sha256[:32]}.tflite"

    def _prepare_program(self):
        path, executable = self._choose_binary()
        checksum = provenance.sha256(path)
        self._remote_binary = f"{FOLDER}/benchmark_model_{checksum[:32]}"
        self._kill_leftover()
        self._bring(path, checksum, self._remote_binary)
        self._check(["chmod", "755", self._remote_binary])
        for library in self.options.libraries:
            self._bring(library, provenance.sha256(library), f"{FOLDER}/{Path(library).name}")
        self._has_taskset = self.adb.script("command -v taskset").status == 0
        answer = self.adb.run([self._remote_binary, "--help"], timeout=self.adb.timeout)
        if answer.status in (126, 127) or _NOT_EXECUTED.search(answer.output):
            raise ValueError(
                f"{self.name} refuses to execute what was pushed (a folder mounted noexec, or a "
                "denial of SELinux): time with --apk instead, or on a phone that lets its shell "
                f"run programs. Received: {answer.output.strip()[-200:]!r}"
            )
        self.flavour = tool_flags.detect_flavour(answer.output)
        self.binary = {
            "name": self.program,
            "flavour": self.flavour.name,
            "abi": executable.abi,
            "sha256": checksum,
            "version": self._version(path),
        }

    def _choose_binary(self):
        if not self.options.binaries:
            raise ValueError(
                "Android needs a benchmark_model: give --benchmark_binary (or --apk). "
                "Received: none"
            )
        reasons = []
        for path in self.options.binaries:
            try:
                return path, binaries.check_for_android(path, self.device["abis"])
            except ValueError as error:
                reasons.append(str(error))
        raise ValueError("; ".join(reasons))

    @staticmethod
    def _version(path):
        """The version that LiteRT's and TensorFlow's builds carry in their text, if any."""
        match = re.search(
            rb"(?:tflite|litert|tensorflow)[-_ /]v?(\d+\.\d+\.\d+)", Path(path).read_bytes(), re.I
        )
        return match[1].decode() if match else None

    def _bring(self, local, checksum, remote):
        """Pushes a file unless it lies there already."""
        self._check(["mkdir", "-p", FOLDER])
        self._pushed.add(remote)
        answer = self.adb.run(["sha256sum", remote], timeout=max(60.0, self.adb.timeout))
        if answer.status == 0 and answer.output.split()[:1] == [checksum]:
            return
        self.adb.push(Path(local).resolve(), remote)
        self._check(["chmod", "644", remote])
        answer = self.adb.run(["sha256sum", remote], timeout=max(60.0, self.adb.timeout))
        if answer.status == 0 and answer.output.split()[:1] != [checksum]:
            self.adb.run(["rm", "-f", remote])
            raise AdbError("failed", f"{remote} is not what was pushed: its checksum differs")

    def _check(self, arguments):
        answer = self.adb.run(arguments)
        if answer.status:
            full = "No space left" in answer.output
            raise AdbError(
                "full" if full else "failed", f"{shlex.join(arguments)}: {answer.output.strip()}"
            )
        return answer.output

    def state(self) -> device_state.DeviceState:
        try:
            return device_state.parse_state(self.adb.script(device_state.STATE_SCRIPT).output)
        except ValueError as error:
            raise AdbError("failed", str(error)) from error

    def _cool_down(self):
        """Waits until the device is fit; gives the last state and how long it took."""
        rules = self.options.rules
        self.stop.wait(rules.pause_seconds)
        start = time.monotonic()
        told = False
        while True:
            state = self.state()
            waited = time.monotonic() - start
            objections = self._objections(state) + rules.warming(self._first_state, state)
            if objections and rules.cooldown_seconds > 0 and not told:
                told = True
                self.say(
                    f"[{self.name}] waiting up to {rules.cooldown_seconds:g} s until the device is "
                    f"fit: {', '.join(objections)}"
                )
            if (
                not objections
                or waited + rules.poll_seconds > rules.cooldown_seconds
                or self.stop.wait(rules.poll_seconds)
            ):
                return state, waited

    def _objections(self, state):
        """Why the phone is not fit to be measured now."""
        return self.options.rules.objections(state)

    def _objections_to_run(self, before, after):
        """Why a run between these two states was disturbed; `after` may be None."""
        return self.options.rules.objections_to_run(before, after)

    def describe_run(self, cell: Cell) -> dict:
        mask = self._mask(self._state, cell.num_threads)[0] if self._state else None
        return {"command": self._flags(cell), "cpu_mask": mask}

    def _mask(self, state, num_threads):
        """The mask for `taskset` and a note if the cores could not be chosen."""
        if self.options.cores == "all":
            return None, None
        if not self._has_taskset:
            return None, "not pinned: the device has no taskset"
        if self.options.cores != "big":
            return self.options.cores, None
        numbers = device_state.big_cores(state.cores, num_threads)
        if not numbers:
            return None, "not pinned: the kernel does not tell the cores apart"
        off = [core.number for core in state.cores if not core.online]
        note = f"cores {off} are offline: the big ones may be among them" if off else None
        return device_state.cpu_mask(numbers), note

    def _flags(self, cell):
        delegate = self.options.delegates[cell.delegate]
        have = [Path(path).name for path in self.options.libraries]
        lacking = [n for n in delegate.libraries if not any(name.startswith(n) for name in have)]
        if lacking:
            raise ValueError(
                f"The delegate {delegate.name!r} needs the vendor's {lacking}: give each with "
                f"--library. Received: libraries={have}"
            )
        flags = tool_flags.command_flags(
            self.flavour,
            self.options.protocol,
            self.options.delegates[cell.delegate],
            graph=self.remote_path(cell.model),
            num_threads=cell.num_threads,
            profile=cell.kind == "profile",
            extra=self.options.extra_flags,
        )
        return tuple(flag.replace("{folder}", FOLDER) for flag in flags)

    def run(self, cell: Cell, repetition: int) -> tuple[Row, str]:
        """One run of one cell: its row and the program's whole output.

        Raises:
            AdbError: if the device goes away.
        """
        goes_on = cell.kind == SUSTAINED and self._sustaining == cell
        before, waited = (self.state(), 0.0) if goes_on else self._cool_down()
        self._sustaining = cell if cell.kind == SUSTAINED else None
        mask, pin_note = self._mask(before, cell.num_threads)
        flags = self._flags(cell)
        watch = Stopwatch()
        log, exit_status, late = self._execute(flags, mask)
        timing = watch.fields()
        log, affinity_note = _read_affinity(log, mask)
        after, lost = None, None
        try:
            after = self.state()
        except AdbError as error:  # the run has ended: its result is kept
            lost = error
        fields = judge(
            log,
            exit_status=exit_status,
            delegate=self.options.delegates[cell.delegate],
            num_threads=cell.num_threads,
        )
        notes = [late, *fields.pop("notes"), pin_note, affinity_note]
        if after is None:
            notes.append(f"the state after the run could not be read: {lost}")
        if late:
            fields["status"] = "failed"
        if after and before.boot_id and after.boot_id and before.boot_id != after.boot_id:
            raise AdbError("gone", f"{self.name} rebooted during the run")
        disturbed = self._objections_to_run(before, after)
        if disturbed and fields["status"] == "ok" and cell.kind != SUSTAINED:
            fields["status"] = "throttled"
        notes += disturbed
        notes += self.options.rules.warming(self._first_state, before)
        unknown = device_state.unknown_figures(before)
        if unknown:
            notes.append(f"not known of the phone: {', '.join(unknown)}")
        if self.device.get("emulator"):
            notes.append("an emulator: its times are this machine's, not a phone's")
        if waited >= 1:
            notes.append(f"waited {waited:.0f} s for the device to be fit")
        row = self.make_row(
            cell,
            repetition,
            notes=tuple(note for note in notes if note),
            state_before=before.as_dict(),
            state_after=after.as_dict() if after else {},
            cpu_mask=mask,
            command=flags,
            **timing,
            **fields,
        )
        return row, log

    def _execute(self, flags, mask):
        """Output, exit status (None if unknown) and a note if the program was too late."""
        pin = ["taskset", mask] if mask else []
        command = ["sh", "-c", 'echo $$ > "$0"; exec "$@"', f"{FOLDER}/run.pid", *pin]
        if mask:
            command += ["sh", "-c", _SAY_AFFINITY, "sh"]
        command += [self._remote_binary, *flags]
        limit = self.options.run_seconds
        try:
            before = self._lock.renewal() + self._environment()
            answer = self.adb.script(f"{before}cd {FOLDER} && {shlex.join(command)}", timeout=limit)
        except AdbError as error:
            if error.kind != "timeout":
                raise
            self._kill_leftover()  # raises if the device, not the program, is what hangs
            return "", None, f"the program did not end within {limit:g} s and was stopped"
        return answer.output, answer.status, None

    def _environment(self):
        """A line of shell that makes loaders look for the vendor's libraries."""
        if not self.options.libraries:
            return ""
        return f"export LD_LIBRARY_PATH={FOLDER} ADSP_LIBRARY_PATH='{FOLDER};/vendor/dsp/cdsp'; "

    def _kill_leftover(self):
        """Ends a benchmark of ours that still runs, e.g. after a lost connection."""
        self.adb.script(
            f"p=$(cat {FOLDER}/run.pid 2>/dev/null); case $p in ''|*[!0-9]*) ;; *) "
            f"grep -q keras_hybrid_benchmark /proc/$p/cmdline 2>/dev/null && kill -9 $p;; esac; "
            f"rm -f {FOLDER}/run.pid"
        )

    def interrupt(self) -> None:
        if not self._lock.is_ours:
            return
        try:
            self._kill_leftover()
        except AdbError as error:
            self.say(f"[{self.name}] the present run could not be stopped: {error}")

    def wait_until_back(self, seconds: float) -> bool:
        return self.adb.wait_until_back(seconds)

    def close(self) -> None:
        """Removes what was pushed.

        Raises:
            AdbError: if the device goes away.
        """
        if not self._lock.is_ours:  # what runs there is another's
            return
        self._kill_leftover()
        if self.device.get("fixed_performance"):
            self.adb.run([*_FIXED_PERFORMANCE, "false"])
        if not self.options.keep_files and self._pushed:
            files = [path for name in sorted(self._pushed) for path in (name, f"{name}.part")]
            self._check(["rm", "-f", *files])
            self.adb.script(f"rmdir {FOLDER}")
        self._lock.give_back()
