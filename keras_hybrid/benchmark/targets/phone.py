"""One Android phone: what it is, what lies on it, and one run of `benchmark_model` in its shell."""

import re
import shlex
import threading
import time
from collections.abc import Callable
from pathlib import Path

from keras_hybrid.benchmark import provenance
from keras_hybrid.benchmark.health import device_state
from keras_hybrid.benchmark.health.clocks import Clocks
from keras_hybrid.benchmark.health.identity import read_identity
from keras_hybrid.benchmark.health.page_cache import drop_page_cache
from keras_hybrid.benchmark.health.watch import (
    Watch,
    capped_meanwhile,
    energy_of,
    summarize_samples,
)
from keras_hybrid.benchmark.plan import Cell, Model
from keras_hybrid.benchmark.rows import COLD_START, LATENCY, SUSTAINED, VERIFICATION, Row
from keras_hybrid.benchmark.targets import binaries, tool_flags
from keras_hybrid.benchmark.targets.adb import Adb, AdbError
from keras_hybrid.benchmark.targets.options import Options
from keras_hybrid.benchmark.targets.phone_files import FOLDER, PhoneFiles
from keras_hybrid.benchmark.targets.phone_lock import PhoneLock
from keras_hybrid.benchmark.targets.target import Stopwatch, Target
from keras_hybrid.benchmark.verdict import judge
from keras_hybrid.benchmark.verification.on_phone import PhoneOutputs

TIMED = (LATENCY, SUSTAINED)  # kinds of runs that do nothing but infer
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
        self.files = PhoneFiles(adb)
        self.say = say
        self.options = options
        self.session = options.session
        self.stop = stop or threading.Event()
        self.flavour: tool_flags.Flavour | None = None
        self._flavours: dict[str, tool_flags.Flavour] = {}
        self._outputs = PhoneOutputs(self)
        self.device: dict = {"serial": adb.serial, "transport": adb.serial}
        self.binary: dict = {}
        self._has_taskset = False
        self._first_state: device_state.DeviceState | None = None
        self._sustaining: Cell | None = None
        self._state: device_state.DeviceState | None = None
        self._clocks = Clocks(adb, say)
        self._programs: dict[str, str] = {}
        self._binaries: dict[str, dict] = {}
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
        identity = read_identity(self.adb)
        self.device = identity
        self._state = self.state()
        self._first_state = self._first_state or self._state
        self._prepare_clocks()
        self.device = {**identity, **self._clocks.as_dict()}
        self._prepare_program(cells)
        self.check_flags(cells)
        for model in {cell.model for cell in cells}:
            self.files.bring(model.path, model.sha256, self.remote_path(model))

    def _prepare_clocks(self):
        if self.options.fixed_performance:
            self._clocks.fix_performance()
        if self.options.lock_clocks:
            self._clocks.lock(self.options.lock_clocks, self._state)
            self._state = self.state()

    def check_flags(self, cells: list[Cell]) -> None:
        for cell in cells:
            self.flags(cell)

    def remote_path(self, model: Model) -> str:
        """Where a model lies on the device: named by its contents, never by the user."""
        return f"{FOLDER}/{model.sha256[:32]}.tflite"

    def _prepare_program(self, cells):
        self._kill_leftover()
        for library in self.options.libraries:
            self.files.bring(library, provenance.sha256(library), f"{FOLDER}/{Path(library).name}")
        for delegate in {cell.delegate for cell in cells}:
            for name, text in self.options.delegates[delegate].files.items():
                self.files.write(f"{FOLDER}/{name}", text.replace("{folder}", FOLDER))
        self._has_taskset = self.adb.script("command -v taskset").status == 0
        for variant in sorted({cell.variant for cell in cells}):
            path, executable = self._choose_binary(self.options.variant(variant).binaries)
            self._programs[variant] = remote = self.files.bring_program(path, "benchmark_model")
            flavour = tool_flags.detect_flavour(self.files.ask_for_help(remote))
            self._flavours[variant] = flavour
            self._binaries[variant] = {
                "name": self.program,
                "flavour": flavour.name,
                "abi": executable.abi,
                "sha256": provenance.sha256(path),
                "version": self._version(path),
            }
            self.flavour = self.flavour or flavour
        self.binary = next(iter(self._binaries.values()))
        if any(cell.kind == VERIFICATION for cell in cells):
            self._outputs.prepare(self.device["abis"])

    def _choose_binary(self, paths):
        if not paths:
            raise ValueError(
                "Android needs a benchmark_model: give --benchmark_binary (or --apk). "
                "Received: none"
            )
        reasons = []
        for path in paths:
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
        return self.options.rules.objections(self._clocks.judged(state))

    def _objections_to_run(self, before, after):
        """Why a run between these two states was disturbed; `after` may be None."""
        return self.options.rules.objections_to_run(
            self._clocks.judged(before), after and self._clocks.judged(after)
        )

    def describe_run(self, cell: Cell) -> dict:
        mask = self._mask(self._state, cell.num_threads)[0] if self._state else None
        command = self.flags(cell)
        if cell.kind == VERIFICATION:
            command, mask = (*command, self._outputs.inputs_word(cell)), None
        found = {"command": command, "cpu_mask": mask}
        binary = self._binaries.get(cell.variant)
        return {**found, "binary": binary} if binary else found

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

    def flags(self, cell: Cell) -> tuple[str, ...]:
        """The program's flags for one run of a cell.

        Raises:
            ValueError: if the program cannot do it, or a vendor's library is missing.
        """
        delegate = self.options.delegates[cell.delegate]
        have = [Path(path).name for path in self.options.libraries]
        lacking = [n for n in delegate.libraries if not any(name.startswith(n) for name in have)]
        if lacking:
            raise ValueError(
                f"The delegate {delegate.name!r} needs the vendor's {lacking}: give each with "
                f"--library. Received: libraries={have}"
            )
        if cell.kind == VERIFICATION:
            flags = self._outputs.flags(cell)
        else:
            flags = tool_flags.command_flags(
                self.flavour_of(cell),
                self.options.protocol_of(cell),
                delegate,
                graph=self.remote_path(cell.model),
                num_threads=cell.num_threads,
                profile=cell.kind == "profile",
                extra=self.options.variant(cell.variant).extra_flags,
            )
        return tuple(flag.replace("{folder}", FOLDER) for flag in flags)

    def program_of(self, cell: Cell) -> str:
        """Where the program of a cell lies on the phone."""
        return self._programs[cell.variant]

    def flavour_of(self, cell: Cell) -> tool_flags.Flavour:
        """Which program runs a cell."""
        return self._flavours.get(cell.variant, self.flavour)

    def run(self, cell: Cell, repetition: int) -> tuple[Row, str]:
        """One run of one cell: its row and the program's whole output.

        Raises:
            AdbError: if the device goes away.
        """
        if cell.kind == VERIFICATION:
            self._sustaining = None
            return self._outputs.verify(cell, repetition)
        goes_on = cell.kind == SUSTAINED and self._sustaining == cell
        before, waited = (self.state(), 0.0) if goes_on else self._cool_down()
        self._sustaining = cell if cell.kind == SUSTAINED else None
        mask, pin_note = self._mask(before, cell.num_threads)
        flags = self.flags(cell)
        caches = self._prepare_caches(cell, flags)
        watch = Stopwatch()
        log, exit_status, late, samples = self.execute(
            flags, mask, self._programs.get(cell.variant, ""), self._watch(before)
        )
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
        capped = capped_meanwhile(samples, before)
        if capped and not any("were capped" in reason for reason in disturbed):
            disturbed.append(f"cores {capped} were capped during the run")
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
        during = summarize_samples(samples, before)
        warmer = {
            "waited_seconds": round(waited, 1),
            **device_state.warming_of(self._first_state, before),
        }
        row = self.make_row(
            cell,
            repetition,
            notes=tuple(note for note in notes if note),
            state_before={**before.as_dict(), **warmer},
            state_after=after.as_dict() if after else {},
            caches=caches,
            during=during,
            energy_mj=energy_of(during, fields, flags) if cell.kind in TIMED else None,
            **{**self.describe_run(cell), "cpu_mask": mask, "command": flags},
            **timing,
            **fields,
        )
        return row, log

    def _watch(self, state):
        """What samples the phone during a run, on cores that the run does not use if it can."""
        if not self.options.watch_seconds:
            return None
        numbers = device_state.weak_cores(state.cores) if self._has_taskset else []
        return Watch(
            FOLDER,
            self.options.watch_seconds,
            self.options.run_seconds,
            device_state.cpu_mask(numbers) if numbers else None,
        )

    def _prepare_caches(self, cell, flags):
        """Drops what a cold start must not find, and says what state the caches are in."""
        found = {"page_cache": "as left by earlier runs", **tool_flags.cache_flags(flags)}
        if cell.kind == COLD_START:
            files = [self._programs.get(cell.variant), self.remote_path(cell.model)]
            found["page_cache"] = drop_page_cache(self.adb, [file for file in files if file])
        return found

    def execute(self, flags, mask, program, watch=None):
        """Runs a program on the phone.

        Returns:
            Output, exit status (None if unknown), a note if the program was too late, and samples.
        """
        pin = ["taskset", mask] if mask else []
        command = ["sh", "-c", 'echo $$ > "$0"; exec "$@"', f"{FOLDER}/run.pid", *pin]
        if mask:
            command += ["sh", "-c", _SAY_AFFINITY, "sh"]
        command += [program, *flags]
        limit = self.options.run_seconds
        before = self._lock.renewal() + self._environment()
        script = f"{before}cd {FOLDER} && {shlex.join(command)}"
        try:
            answer = self.adb.script(watch.around(script) if watch else script, timeout=limit)
        except AdbError as error:
            if error.kind != "timeout":
                raise
            self._kill_leftover()  # raises if the device, not the program, is what hangs
            return "", None, f"the program did not end within {limit:g} s and was stopped", []
        output, samples = watch.split(answer.output) if watch else (answer.output, [])
        return output, answer.status, None, samples

    def _environment(self):
        """A line of shell that makes loaders look for the vendor's libraries."""
        if not self.options.libraries:
            return ""
        dsp = [f for d in self.options.delegates.values() for f in d.dsp_folders]
        folders = ";".join(dict.fromkeys([FOLDER, *dsp]))
        return f"export LD_LIBRARY_PATH={FOLDER} ADSP_LIBRARY_PATH={shlex.quote(folders)}; "

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
        self._clocks.restore()
        if not self.options.keep_files:
            self.files.remove()
        self._lock.give_back()
