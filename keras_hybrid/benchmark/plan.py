"""Which runs make a matrix, and in which order."""

import dataclasses
import random
from collections.abc import Iterable

from keras_hybrid.benchmark.results import statistics
from keras_hybrid.benchmark.rows import Row


@dataclasses.dataclass(frozen=True)
class Model:
    """A `.tflite` file; `name` is what rows call it."""

    path: str
    name: str
    sha256: str
    size: int


@dataclasses.dataclass(frozen=True)
class Cell:
    """One entry of the matrix: what is repeated."""

    model: Model
    num_threads: int
    delegate: str
    kind: str = "latency"

    def matches(self, row: Row) -> bool:
        return (row.model_sha256, row.model, row.num_threads, row.delegate, row.kind) == (
            self.model.sha256,
            self.model.name,
            self.num_threads,
            self.delegate,
            self.kind,
        )


@dataclasses.dataclass(frozen=True)
class Repetitions:
    """How often a cell is repeated: at least `least` processes, then until the medians' spread
    (half their range over their median) is at most `max_spread`, at most `most`."""

    least: int = 3
    most: int = 10
    max_spread: float = 0.05

    def __post_init__(self):
        if not 1 <= self.least <= self.most or self.max_spread <= 0:
            raise ValueError(
                f"1 <= least <= most and max_spread > 0 are expected. Received: {self}"
            )

    def wanted(self, rows: Iterable[Row]) -> int:
        """Repetitions that the cell of these rows needs in all."""
        times = [row.central_ms for row in rows if row.status == "ok" and row.central_ms]
        finished = {row.repetition for row in rows}
        if len(finished) < self.least:
            return self.least
        if len(times) >= 2 and statistics.relative_spread(times) > self.max_spread:
            return min(self.most, max(finished) + 2)
        return len(finished)


def finished(row: Row) -> bool:
    """Whether a row needs no repetition with `--resume`.

    A delegate that fell back falls back again; a run that failed, was disturbed or is not
    understood may come out better.
    """
    return row.status in ("ok", "fell_back")


def latest(rows: Iterable[Row]) -> list[Row]:
    """Of several rows for the same repetition (after `--resume`), the last."""
    newest = {}
    for row in rows:
        newest[(*row.configuration, row.model_sha256, row.repetition)] = row
    return list(newest.values())


class Plan:
    """Hands out the runs of one device in interleaved order.

    Every round holds each cell at most once, in an order of its own: a drift of the device
    falls on all cells alike instead of on the last.
    """

    def __init__(
        self, cells: list[Cell], repetitions: Repetitions, rows: Iterable[Row] = (), seed: int = 0
    ):
        self.repetitions = repetitions
        self._random = random.Random(seed)
        self._round: list[Cell] = []
        self._rows: dict[Cell, dict[int, Row]] = {cell: {} for cell in cells}
        for row in latest(rows):
            for cell in cells:
                if cell.matches(row) and finished(row):
                    self._rows[cell][row.repetition] = row

    def record(self, cell: Cell, row: Row) -> None:
        """Takes note of a run; one that was interrupted stays to be done."""
        if row.status != "interrupted":
            self._rows[cell][row.repetition] = row

    def next(self) -> tuple[Cell, int] | None:
        """The next run as (cell, repetition), None when the matrix is complete."""
        while True:
            if not self._round:
                self._round = [cell for cell in self._rows if self._missing(cell) is not None]
                self._random.shuffle(self._round)
                if not self._round:
                    return None
            cell = self._round.pop()
            repetition = self._missing(cell)
            if repetition is not None:
                return cell, repetition

    def remaining(self) -> int:
        """Runs that are still needed, as far as is known now."""
        return sum(
            max(0, self.repetitions.wanted(rows.values()) - len(rows))
            for rows in self._rows.values()
        )

    def _missing(self, cell):
        rows = self._rows[cell]
        wanted = self.repetitions.wanted(rows.values())
        return next((number for number in range(wanted) if number not in rows), None)
