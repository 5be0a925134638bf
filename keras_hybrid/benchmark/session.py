"""Runs a matrix on several targets at once; every row is on disk before the next run starts."""

import concurrent.futures
import dataclasses
import datetime
import itertools
import re
import secrets
import threading
from collections.abc import Callable
from pathlib import Path

from keras_hybrid.benchmark import provenance
from keras_hybrid.benchmark.plan import (
    Cell,
    Model,
    Plan,
    Repetitions,
    with_wrong_output,
    wrong_computations,
)
from keras_hybrid.benchmark.results.tables import plural
from keras_hybrid.benchmark.rows import RowFile, read_rows
from keras_hybrid.benchmark.targets.target import Target, TargetError

ROWS = "rows.jsonl"
_ATTEMPTS = 3
_LOOK_SECONDS = 0.2  # between looks for Ctrl-C
_ENDED_SECONDS = 1.0  # for the signal that ended a program to come here, too


def new_session_id() -> str:
    now = datetime.datetime.now(datetime.timezone.utc)
    return f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def find_models(paths: list[str]) -> list[Model]:
    """The models of a matrix.

    Raises:
        ValueError: if a file is missing or no `.tflite`, or two of them have one name.
    """
    models = []
    for path in paths:
        file = Path(path)
        if not file.is_file():
            raise ValueError(f"A model must be a .tflite file. Received: {path!r}")
        with open(file, "rb") as opened:
            if opened.read(8)[4:] != b"TFL3":
                raise ValueError(
                    f"A model must be a TensorFlow Lite flatbuffer. Received: {path!r}"
                )
        checksum = provenance.sha256(file)
        models.append(Model(str(file.resolve()), file.name, checksum, file.stat().st_size))
    names = [model.name for model in models]
    if len(set(names)) < len(names):
        raise ValueError(f"Models must differ in file name. Received: {sorted(names)}")
    return models


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a target's part of the matrix ended."""

    target: str
    complete: bool
    message: str = ""


class Session:
    """A matrix, the folder that its results go to, and the targets that run it.

    Args:
        folder: gets `rows.jsonl` and `logs/`.
        cells: what to run on each target.
        resume: continue the rows of the folder; without it they must not exist.
        paired: whether the models of a cell follow each other directly, for an A/B comparison.
        reconnect_seconds: how long to wait for a device that went away.
        say: called with each line for the user.

    Raises:
        ValueError: if the folder holds rows already, or `resume` finds none.
    """

    def __init__(
        self,
        folder,
        cells: list[Cell],
        repetitions: Repetitions,
        *,
        resume: bool = False,
        seed: int = 0,
        paired: bool = False,
        reconnect_seconds: float = 60.0,
        stop: threading.Event | None = None,
        say: Callable[[str], None] = print,
    ):
        self.folder = Path(folder)
        self.path = self.folder / ROWS
        self.cells = cells
        self.repetitions = repetitions
        self.seed = seed
        self.paired = paired
        self._claimed: dict[tuple, str] = {}
        self._claiming = threading.Lock()
        self._insisted = threading.Event()
        self.reconnect_seconds = reconnect_seconds
        self.stop = stop or threading.Event()
        self.say = say
        if self.path.exists() and not resume:
            raise ValueError(
                f"{self.path} exists: continue it with --resume or choose another --output"
            )
        self._rows = RowFile(self.path)
        self._earlier = read_rows(self.path) if self.path.exists() else []

    def run(self, targets: list[Target]) -> list[Outcome]:
        """Runs the matrix on every target, each in a thread of its own.

        A target that takes this machine's processor is run before all others, alone.
        """
        alone = [target for target in targets if target.runs_on_this_machine]
        together = [target for target in targets if not target.runs_on_this_machine]
        groups = [[target] for target in alone] + ([together] if together else [])
        found = {}
        for group in groups:
            found |= zip(map(id, group), self._run_together(group), strict=True)
        return [found[id(target)] for target in targets]

    def _run_together(self, targets):
        begin = threading.Event()  # not before this thread is ready to be interrupted
        with concurrent.futures.ThreadPoolExecutor(max_workers=len(targets)) as pool:
            try:
                futures = [pool.submit(self._run_target, target, begin) for target in targets]
                return self._outcomes(futures, targets, begin)
            except BaseException:
                self.stop.set()  # the pool waits for its threads
                begin.set()
                raise

    def _outcomes(self, futures, targets, begin):
        interrupts = 0
        while True:
            try:
                begin.set()
                # In pieces: a signal that another thread takes does not wake this one.
                while concurrent.futures.wait(futures, timeout=_LOOK_SECONDS).not_done:
                    pass
                return [future.result() for future in futures]
            except KeyboardInterrupt:
                interrupts += 1
                self.stop.set()
                if interrupts == 1:
                    self.say(
                        "stopping after the present runs; continue with --resume "
                        "(again: stop them, too)"
                    )
                    continue
                self.say("stopping the present runs; continue with --resume")
                self._insisted.set()
                for target in targets:
                    target.interrupt()

    def _run_target(self, target, begin):
        begin.wait()
        if self.stop.is_set():
            return Outcome(target.name, False, "stopped by the user; continue with --resume")
        try:
            outcome = self._measure(target)
        except ValueError as error:
            outcome = Outcome(target.name, False, str(error))
        try:
            target.close()
        except TargetError as error:
            self.say(f"[{target.name}] what was pushed could not be removed: {error}")
        if not outcome.complete:
            self.say(f"[{target.name}] incomplete: {outcome.message}")
        return outcome

    def _measure(self, target):
        error = self._prepare(target)
        if error and not error.same_device_as:
            return self._give_up(target, error)
        other = error.same_device_as if error else self._claim(target)
        if other:
            self.say(f"[{target.name}] is the same device as {other}: left out")
            return Outcome(target.name, True, f"the same device as {other}")
        plan = Plan(
            self.cells, self.repetitions, self._earlier_rows(target), self.seed, self.paired
        )
        lost = {}
        wrong = wrong_computations(self._earlier)
        while not self.stop.is_set():
            following = plan.next()
            if following is None:
                return Outcome(target.name, True)
            cell, repetition = following
            try:
                row, log = target.run(cell, repetition)
            except TargetError as error:
                if error.was_ended and self.stop.wait(_ENDED_SECONDS):
                    continue
                lost[following] = lost.get(following, 0) + 1
                is_final = not error.device_is_lost or lost[following] >= _ATTEMPTS
                status = "failed" if is_final and not self.stop.is_set() else "interrupted"
                row = target.make_row(
                    cell,
                    repetition,
                    status=status,
                    notes=(str(error),),
                    **target.describe_run(cell),
                )
                self._rows.append(row)
                plan.record(cell, row, final=True)
                self.say(f"[{target.name}] {cell.model.name}: {error}")
                if error.device_is_lost and not self.stop.is_set():
                    final_error = self._recover(target, error)
                    if final_error:
                        return self._give_up(target, final_error)
                continue
            if self._insisted.is_set():
                row = dataclasses.replace(
                    row, status="interrupted", notes=(*row.notes, "stopped by the user")
                )
            wrong |= wrong_computations([row])
            if row.status == "ok" and row.computation in wrong:
                row = with_wrong_output(row)
            if log:
                row = dataclasses.replace(row, log=self._keep_log(target, row, log))
            self._rows.append(row)
            plan.record(cell, row)
            self._tell(target, row, plan)
        return Outcome(target.name, False, "stopped by the user; continue with --resume")

    def _claim(self, target):
        """The name of another target of this session that is the same device, or None."""
        key = (target.target, target.program, str(target.device.get("serial") or target.name))
        with self._claiming:
            other = self._claimed.setdefault(key, target.name)
        return None if other == target.name else other

    def _earlier_rows(self, target):
        """Rows of the folder that a run of today would repeat exactly."""
        wanted = {
            cell: target.make_row(cell, 0, **target.describe_run(cell)) for cell in self.cells
        }
        return [
            row
            for row in self._earlier
            if any(
                cell.matches(row) and row.measurement == template.measurement
                for cell, template in wanted.items()
            )
        ]

    def _prepare(self, target):
        """Prepares the target, waiting for it if it goes away; the error if it stays away."""
        for attempt in range(_ATTEMPTS):
            try:
                target.identify()
                target.prepare(self.cells)
                return None
            except TargetError as error:
                last = error
                if not error.waiting_helps or self.stop.is_set():
                    return error
                self.say(f"[{target.name}] {error}")
                if attempt + 1 < _ATTEMPTS and not target.wait_until_back(self.reconnect_seconds):
                    return error
        return last

    def _recover(self, target, error):
        """Waits for a lost target and prepares it again; the error if that is of no use."""
        if not error.waiting_helps or self.stop.is_set():
            return error
        self.say(f"[{target.name}] waiting up to {self.reconnect_seconds:g} s for the device")
        if not target.wait_until_back(self.reconnect_seconds):
            return error
        return self._prepare(target)

    @staticmethod
    def _give_up(target, error):
        return Outcome(
            target.name, False, f"{error}. No row is lost: then run the same command with --resume"
        )

    def _keep_log(self, target, row, log):
        """Writes the program's output and returns its path relative to the folder."""
        safe = re.sub(r"[^\w.-]", "_", f"{target.name}-{row.model}-{row.delegate}{row.variant}")[
            :100
        ]
        stem = f"{row.session}-{safe}-t{row.num_threads}-{row.kind}-{row.repetition}"
        numbers = itertools.chain([""], (f"-again{n}" for n in itertools.count(1)))
        name = next(
            name
            for name in (f"logs/{stem}{number}.txt" for number in numbers)
            if not (self.folder / name).exists()
        )
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(log, encoding="utf-8", errors="replace")
        return name

    def _tell(self, target, row, plan):
        time = "" if row.central_ms is None else f"  {row.central_ms:.3f} ms"
        if row.agreement.get("decibels") is not None:
            time = f"  {row.agreement['decibels']:.1f} dB"
        model = f"{row.model} {row.variant}".rstrip()
        self.say(
            f"[{target.name}] {model}  {row.delegate}  {plural(row.num_threads, 'thread')}  "
            f"#{row.repetition}  {row.status}{time}  ({plan.remaining()} to go)"
            + "".join(f"\n    {note}" for note in row.notes)
        )
