"""The contract of a target: what a `Session` needs of whatever times a model.

A further target is one file with a subclass of `Target`: a phone of another maker, a browser, an
NPU's simulator. Nothing else in the room knows which targets there are.
"""

import abc
import datetime
import time

from keras_hybrid.benchmark import provenance
from keras_hybrid.benchmark.plan import Cell
from keras_hybrid.benchmark.rows import Row


class TargetError(RuntimeError):
    """A target could not do what it was asked to.

    Attributes:
        device_is_lost: whether the same call may succeed once somebody has seen to the device:
            then the run is repeated, now or with `--resume`. Otherwise it has failed.
        waiting_helps: whether the device may come back by itself.
        was_ended: whether a signal ended the program that spoke to it, as Ctrl-C does.
        same_device_as: another target of the session that this one turned out to be.
    """

    device_is_lost = False
    waiting_helps = False
    was_ended = False
    same_device_as = ""


class Target(abc.ABC):
    """Something that times models: a phone, an app on one, this machine.

    A session calls `identify` and `prepare` once (again after the target was lost), then `run` for
    each cell and repetition, and `close` at the end, whatever happened. All calls come from one
    thread.

    Attributes:
        target: what rows call this kind of target, e.g. "android".
        name: the user's word for this one, e.g. the address under which adb lists a phone.
        program: what runs the models; times of different programs are never mixed.
        session: the session's mark in rows.
        runs_on_this_machine: whether its runs take this machine's processor: then no other target
            is timed at the same moment.
        device: what is known of the device; "serial" is the same by whatever way it is reached.
        binary: what is known of the program.
    """

    target: str
    name: str
    program: str
    session: str = ""
    runs_on_this_machine: bool = False
    device: dict
    binary: dict

    def identify(self) -> None:  # noqa: B027
        """Learns `device["serial"]`; nothing to do where it is known from the start.

        Raises:
            TargetError: if the device does not answer.
        """

    @abc.abstractmethod
    def prepare(self, cells: list[Cell]) -> None:
        """Fills `device` and `binary` and brings what the runs of `cells` need. May be repeated.

        Raises:
            TargetError: if the device goes away.
            ValueError: if a cell cannot be run here at all.
        """

    def describe_run(self, cell: Cell) -> dict:
        """The fields `command` and `cpu_mask` that the row of a run of this cell will have.

        Asked after `prepare`; an earlier row counts for `--resume` only if they are the same.
        """
        return {}

    @abc.abstractmethod
    def run(self, cell: Cell, repetition: int) -> tuple[Row, str]:
        """Runs one cell once.

        Returns:
            The row, made with `make_row`, whatever became of the run; and the program's whole
            output, which is kept beside the rows ("" where there is none).

        Raises:
            TargetError: if the device goes away before the run has a result.
        """

    def interrupt(self) -> None:  # noqa: B027
        """Ends a present run soon; called from another thread when the user insists."""

    def wait_until_back(self, seconds: float) -> bool:
        """Waits for a lost device; whether it answers again."""
        return True

    def close(self) -> None:  # noqa: B027
        """Removes what was brought to the device.

        Raises:
            TargetError: if the device goes away.
        """

    def make_row(self, cell: Cell, repetition: int, **fields) -> Row:
        """A row of this target for one run, its provenance filled in.

        Args:
            fields: further fields of the `Row`: the figures, the status, the notes.
        """
        common = {
            "device": self.device,
            "binary": self.binary or {"name": self.program},
            "started": now(),
        }
        return Row(
            model=cell.model.name,
            num_threads=cell.num_threads,
            target=self.target,
            delegate=cell.delegate,
            repetition=repetition,
            kind=cell.kind,
            variant=cell.variant,
            model_sha256=cell.model.sha256,
            model_bytes=cell.model.size,
            session=self.session,
            **provenance.harness(),
            **{**common, **fields},
        )


class Stopwatch:
    """When a run began and how long it has taken, in the words of a `Row`."""

    def __init__(self):
        self.started = now()
        self._start = time.monotonic()

    def fields(self) -> dict:
        return {"started": self.started, "seconds": round(time.monotonic() - self._start, 3)}


def now() -> str:
    """The present moment as rows write it."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
