"""A row: one process that timed one model once, with everything needed to judge it later."""

import dataclasses
import json
import os
import threading
from pathlib import Path

from keras_hybrid.benchmark.figures import Figures

# Kinds of rows.
LATENCY, PROFILE, SUSTAINED = "latency", "profile", "sustained"
VERIFICATION, COLD_START = "verification", "cold_start"
SCHEMA = 3  # 1: what the interpreter on the host called its peak was growth; 2: without variants

# What a row is worth. Only "ok" rows enter tables, plots and comparisons as numbers; every other
# row stays in the results, with the reason in its notes.
STATUSES = (
    "ok",
    "throttled",  # measured, but the device was hot, capped, asleep or busy
    "fell_back",  # measured, but not on the delegate that was asked for
    "wrong_output",  # measured, but what ran there computes something else than the file says
    "invalid",  # the output holds errors, contradicts itself or is not understood
    "failed",  # the program did not finish: exit status, time limit
    "interrupted",  # the device went away; to be repeated with --resume
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row(Figures):
    """The result of one run: its figures, and all that it takes to judge them later.

    A number that the tool did not report is None: old builds of `benchmark_model` print no
    percentiles, and none prints the 90th.

    Args:
        model: file name of the model; `model_sha256` identifies it.
        target: "host" or "android".
        delegate: what was asked for; `status` is "fell_back" where something else ran.
        status: one of `STATUSES`.
        p90_ms: of the timed inferences, from targets that take the times themselves.
        delegated_nodes: operators that the delegate took, of `total_nodes`.
        partitions: pieces of the graph, delegated and not; `delegate_kernels` of them delegated.
        variant: "A" or "B" where two binaries or sets of flags of one model are compared.
        agreement: of a verification: how far the outputs are from this machine's.
        during: what was sampled while the program ran: clocks, temperature, power.
        energy_mj: of one inference of the whole device; None where it does not tell.
        caches: the state of the page cache and of delegates' caches before the run.
        initialization: parts of `init_ms` in ms, where the program prints them.
        log: name of the file with the program's whole output, beside the results.
    """

    model: str
    num_threads: int
    target: str
    delegate: str = "cpu"
    repetition: int = 0
    kind: str = "latency"
    status: str = "ok"
    notes: tuple[str, ...] = ()
    p90_ms: float | None = None
    delegated_nodes: int | None = None
    total_nodes: int | None = None
    partitions: int | None = None
    delegate_kernels: int | None = None
    profile: tuple[dict, ...] = ()
    variant: str = ""
    agreement: dict = dataclasses.field(default_factory=dict)
    during: dict = dataclasses.field(default_factory=dict)
    energy_mj: float | None = None
    caches: dict = dataclasses.field(default_factory=dict)
    initialization: dict = dataclasses.field(default_factory=dict)
    device: dict = dataclasses.field(default_factory=dict)
    state_before: dict = dataclasses.field(default_factory=dict)
    state_after: dict = dataclasses.field(default_factory=dict)
    cpu_mask: str | None = None
    binary: dict = dataclasses.field(default_factory=dict)
    command: tuple[str, ...] = ()
    model_sha256: str = ""
    model_bytes: int | None = None
    started: str = ""
    seconds: float | None = None
    git_commit: str | None = None
    harness_version: str = ""
    session: str = ""
    log: str | None = None
    schema: int = SCHEMA

    def __post_init__(self):
        if self.status not in STATUSES:
            raise ValueError(f"status must be one of {STATUSES}. Received: status={self.status!r}")

    @property
    def central_ms(self) -> float | None:
        """The median, or the mean where the tool printed no median."""
        return self.mean_ms if self.median_ms is None else self.median_ms

    @property
    def device_id(self) -> str:
        return str(self.device.get("serial") or self.device.get("model") or self.target)

    @property
    def program(self) -> str:
        """What ran the model: times of different programs are not mixed."""
        return str(self.binary.get("name", ""))

    @property
    def conditions(self) -> tuple:
        """What else makes a measurement: the program's bytes, its flags, the cores, the system.

        Rows that differ in it are never put into one median, and a comparison says so.
        """
        return (
            str(self.binary.get("sha256") or ""),
            str(self.binary.get("version") or ""),
            str(self.device.get("fingerprint") or self.device.get("system") or "")
            + (" in fixed performance mode" if self.device.get("fixed_performance") else "")
            + (" with locked clocks" if self.device.get("locked_khz") else ""),
            tuple(flag for flag in self.command if not flag.startswith("--graph=")),
            self.cpu_mask or "",
        )

    @property
    def measurement(self) -> tuple:
        """Rows with equal ones are repetitions of one measurement of one file."""
        return (*self.configuration, self.model_sha256, self.variant, self.conditions)

    @property
    def configuration(self) -> tuple:
        """What was measured, in the user's words: rows with equal ones are comparable."""
        return (
            self.device_id,
            self.program,
            self.model,
            self.num_threads,
            self.delegate,
            self.kind,
        )

    @property
    def computation(self) -> tuple:
        """What computes an output: rows with equal ones share the verdict of a verification."""
        return (
            self.device_id,
            self.program,
            str(self.binary.get("sha256") or self.binary.get("version") or ""),
            self.model_sha256,
            self.num_threads,
            self.delegate,
            self.variant,
        )

    def as_dict(self) -> dict:
        """The row as plain JSON types, `from_dict`'s inverse."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_dict(cls, values: dict) -> "Row":
        """Builds a row from `as_dict`'s result.

        Raises:
            ValueError: for another schema, an unknown field or a missing one.
        """
        if values.get("schema") not in range(1, SCHEMA + 1):
            raise ValueError(
                f"A row of schema {SCHEMA} is expected. Received: schema={values.get('schema')!r}"
            )
        if values["schema"] == 1 and values.get("binary", {}).get("flavour") == "interpreter":
            values = {**values, "peak_memory_mb": None}
        values = {**values, "schema": SCHEMA}
        names = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - names)
        missing = sorted({"model", "num_threads", "target"} - set(values))
        if unknown or missing:
            raise ValueError(
                f"A row with the fields of Row is expected. Received: unknown={unknown}, "
                f"missing={missing}"
            )
        tuples = {
            name: tuple(values[name]) for name in ("notes", "profile", "command") if name in values
        }
        return cls(**{**values, **tuples})


def read_rows(path) -> list[Row]:
    """Reads a JSON-lines file of rows.

    A last line that was cut (the program was killed while writing it) is left out; any other
    broken line is an error.

    Raises:
        ValueError: if a line is not a row; the message names the line.
    """
    text = Path(path).read_text(encoding="utf-8")
    lines = text.split("\n")
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            rows.append(Row.from_dict(json.loads(line)))
        except (ValueError, TypeError, AttributeError) as error:
            if number == len(lines):
                break
            raise ValueError(
                f"Each line of {path} must be a row. Received: line {number}: {error}"
            ) from error
    return rows


class RowFile:
    """Appends rows to a JSON-lines file; a row is on disk when `append` returns.

    Several threads may append. A half-written last line of an earlier, killed program is cut
    off on opening.
    """

    def __init__(self, path):
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        if self.path.exists():
            data = self.path.read_bytes()
            if data and not data.endswith(b"\n"):
                with open(self.path, "r+b") as file:
                    file.truncate(data.rfind(b"\n") + 1)

    def append(self, row: Row) -> None:
        line = json.dumps(row.as_dict(), sort_keys=True) + "\n"
        with self._lock, open(self.path, "a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
