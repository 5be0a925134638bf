"""Which runs make a matrix, and in which order."""

import collections
import dataclasses
import random
import time
from collections.abc import Callable, Iterable

from keras_hybrid.benchmark.results import statistics
from keras_hybrid.benchmark.rows import SUSTAINED, VERIFICATION, Row

MAKE_UP_RUNS = 2  # flawed runs of a cell that are made up for, whatever they are


@dataclasses.dataclass(frozen=True)
class Model:
    """A `.tflite` file; `name` is what rows call it."""

    path: str
    name: str
    sha256: str
    size: int


@dataclasses.dataclass(frozen=True)
class Cell:
    """One entry of the matrix: what is repeated.

    `variant` is "A" or "B" where one model is run with two binaries or sets of flags.
    """

    model: Model
    num_threads: int
    delegate: str
    kind: str = "latency"
    variant: str = ""

    def matches(self, row: Row) -> bool:
        mine = (self.num_threads, self.delegate, self.kind, self.variant)
        return (row.model_sha256, row.model) == (self.model.sha256, self.model.name) and mine == (
            row.num_threads,
            row.delegate,
            row.kind,
            row.variant,
        )


@dataclasses.dataclass(frozen=True)
class Repetitions:
    """How often a cell is repeated.

    At least `least` processes, then until the 95% interval of their typical time reaches at most
    `max_spread` to either side, at most `most`. The interval, unlike the range of few processes,
    is wide where one of them ran on the wrong cores.

    Attributes:
        minutes: how long a sustained cell is run without a pause.
        open_question: given the "ok" rows of a cell, whether more of them are wanted for a reason
            of its own, e.g. a comparison that is undecided. It is asked of the first `least`
            repetitions alone; where they leave it open, there are `most`: a comparison that is
            looked at after every process finds differences that are none.
        open_pairs: likewise, given the "ok" rows of cells that are run in pairs. It takes the place
            of `max_spread`: what pairs have in common does not matter.
    """

    least: int = 5
    most: int = 20
    max_spread: float = 0.05
    minutes: float = 10.0
    open_question: Callable[[list[Row]], bool] | None = None
    open_pairs: Callable[[list[Row]], bool] | None = None

    def __post_init__(self):
        if not 1 <= self.least <= self.most or self.max_spread <= 0:
            raise ValueError(
                f"1 <= least <= most and max_spread > 0 are expected. Received: {self}"
            )

    def wanted(self, rows: Iterable[Row], partners: Iterable[Row] = ()) -> int:
        """Repetitions that the cell of these rows needs in all.

        Args:
            partners: rows of the cells that it is run in pairs with.
        """
        rows, partners = list(rows), list(partners)
        done = {row.repetition for row in rows}
        if len(done) < self.least:
            return self.least
        if self.open_pairs and partners:
            others = {row.repetition for row in partners}
            if len(others) < len(done):
                return len(done)  # the partner has its turn
            if len(others) > len(done):
                return min(self.most, max(others) + 1)
            looked_at = _good(rows, self.least) + _good(partners, self.least)
            return self.most if self.open_pairs(looked_at) else len(done)
        good = _good(rows)
        wide = len(good) >= 2 and (
            statistics.relative_reach([row.central_ms for row in good]) > self.max_spread
        )
        if self.open_question and self.open_question(_good(rows, self.least)):
            return self.most
        if wide:
            return min(self.most, max(done) + 2)
        return len(done)


def _good(rows, repetitions=None):
    """The "ok" rows, of the first so many repetitions where a number is given."""
    first = sorted({row.repetition for row in rows})[:repetitions]
    return [r for r in rows if r.repetition in first and r.status == "ok" and r.central_ms]


def finished(row: Row) -> bool:
    """Whether a row needs no repetition with `--resume`.

    A delegate that fell back falls back again, and one that computes something else does so again;
    a run that failed, was disturbed or is not understood may come out better.
    """
    return row.status in ("ok", "fell_back", "wrong_output")


def latest(rows: Iterable[Row]) -> list[Row]:
    """Of several rows for the same repetition (after `--resume`), the last.

    Rows of several sessions that count as measured are kept side by side. What a later verification
    found wrong is no "ok" row any more, whenever it was measured.
    """
    kept: dict[tuple, list[Row]] = {}
    for row in rows:
        same = kept.setdefault((row.measurement, row.repetition), [])
        same[:] = [other for other in same if finished(other) and other.session != row.session]
        same.append(row)
    return marked([row for same in kept.values() for row in same])


def marked(rows: list[Row]) -> list[Row]:
    """All rows; "ok" ones are `wrong_output` where a verification among them found them so."""
    wrong = wrong_computations(rows)
    return [
        with_wrong_output(row) if row.status == "ok" and row.computation in wrong else row
        for row in rows
    ]


def wrong_computations(rows: Iterable[Row]) -> set[tuple]:
    """What the last verification of each among these rows found to compute something else."""
    verdicts = {row.computation: row.status for row in rows if row.kind == VERIFICATION}
    return {key for key, status in verdicts.items() if status == "wrong_output"}


def with_wrong_output(row: Row) -> Row:
    """A row of what a verification found to compute something else."""
    note = "what runs here computes something else: see its verification"
    return dataclasses.replace(row, status="wrong_output", notes=(note, *row.notes))


class Plan:
    """Hands out the runs of one device in interleaved order.

    Verifications come first, each once. Then every round holds each cell at most once, in an order
    of its own: a drift of the device falls on all cells alike instead of on the last. A run that
    was throttled or failed is made up for in a later round, while there is hope: not where nothing
    but failures came of a cell.

    Args:
        rows: of an earlier session, which count if they are finished.
        paired: whether cells that differ in model or variant alone follow each other directly.
    """

    def __init__(
        self,
        cells: list[Cell],
        repetitions: Repetitions,
        rows: Iterable[Row] = (),
        seed: int = 0,
        paired: bool = False,
    ):
        sustained = [cell for cell in cells if cell.kind == SUSTAINED]
        self._sustained = collections.deque(sustained)
        self._began: float | None = None
        self._next_number: dict[Cell, int] = {}
        for row in rows:
            for cell in sustained:
                if cell.matches(row):
                    number = max(self._next_number.get(cell, 0), row.repetition + 1)
                    self._next_number[cell] = number
        cells = [cell for cell in cells if cell.kind != SUSTAINED]
        self.repetitions = repetitions
        self.paired = paired
        self._flawed: dict[Cell, list[Row]] = {cell: [] for cell in cells}
        self._random = random.Random(seed)
        self._round: list[Cell] = []
        self._rows: dict[Cell, dict[int, Row]] = {cell: {} for cell in cells}
        for row in latest(rows):
            for cell in cells:
                if cell.matches(row) and finished(row):
                    self._rows[cell][row.repetition] = row

    def record(self, cell: Cell, row: Row, final: bool = False) -> None:
        """Takes note of a run; one that was interrupted or is to be made up for stays open.

        Args:
            final: whether a flawed run is not to be made up for.
        """
        if cell.kind == SUSTAINED:
            self._next_number[cell] = row.repetition + 1
            if row.status == "failed":  # it would fail all the while
                self._end_sustained()
            return
        if row.status == "interrupted":
            return
        if not finished(row):
            self._flawed[cell].append(row)
            if not final and not self._given_up(cell):
                return
        self._rows[cell][row.repetition] = row

    def _given_up(self, cell):
        """Whether a cell has had its share of flawed runs."""
        flawed = self._flawed[cell]
        return len(flawed) >= max(MAKE_UP_RUNS, self.repetitions.least) or self._hopeless(cell)

    def _hopeless(self, cell):
        failed = [row for row in self._flawed[cell] if row.status in ("failed", "invalid")]
        good = any(finished(row) for row in self._rows[cell].values())
        return len(failed) > MAKE_UP_RUNS and not good

    def next(self) -> tuple[Cell, int] | None:
        """The next run as (cell, repetition), None when the matrix is complete.

        Sustained cells come last: each is run without a pause until its minutes are over.
        """
        found = self._next_of_matrix()
        while found is None and self._sustained:
            cell = self._sustained[0]
            if self._began is None:
                self._began = time.monotonic()
            if time.monotonic() - self._began < 60 * self.repetitions.minutes:
                return cell, self._next_number.get(cell, 0)
            self._end_sustained()
        return found

    def _end_sustained(self):
        self._sustained.popleft()
        self._began = None

    def _next_of_matrix(self):
        while True:
            if not self._round:
                self._round = [cell for cell in self._rows if self._missing(cell) is not None]
                first = [cell for cell in self._round if cell.kind == VERIFICATION]
                self._round = first or self._round
                self._shuffle()
                if not self._round:
                    return None
            cell = self._round.pop()
            repetition = self._missing(cell)
            if repetition is not None:
                return cell, repetition

    def remaining(self) -> int:
        """Runs that are still needed, as far as is known now."""
        return sum(
            max(0, self._wanted(cell) - len(rows))
            for cell, rows in self._rows.items()
            if not self._hopeless(cell)
        ) + len(self._sustained)

    def _shuffle(self):
        if not self.paired:
            self._random.shuffle(self._round)
            return
        groups: dict[tuple, list[Cell]] = {}
        for cell in self._round:
            groups.setdefault(self._group(cell), []).append(cell)
        order = list(groups.values())
        self._random.shuffle(order)
        for group in order:
            self._random.shuffle(group)
        self._round = [cell for group in order for cell in group]

    def _missing(self, cell):
        rows = self._rows[cell]
        if self._hopeless(cell) and rows:
            return None
        return next((number for number in range(self._wanted(cell)) if number not in rows), None)

    @staticmethod
    def _group(cell):
        """What cells have in common that are run in pairs."""
        return (cell.num_threads, cell.delegate, cell.kind)

    def _wanted(self, cell):
        if cell.kind == VERIFICATION:
            return 1
        partners = [
            row
            for other, rows in self._rows.items()
            if self.paired and other != cell and self._group(other) == self._group(cell)
            for row in rows.values()
        ]
        return self.repetitions.wanted(self._rows[cell].values(), partners)
