"""The figures of one run, by the names that logs' reports, rows and tables share."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figures:
    """What a program says of one run; None what it does not say.

    Times are milliseconds, memory is MB (2**20 bytes).

    Attributes:
        median_ms, mean_ms, p5_ms, p95_ms, std_ms, min_ms, max_ms: of the timed inferences.
        runs: timed inferences; `warmup_runs` came before them and are not among them.
        init_ms: until the model could run.
        first_ms: the first inference of the process, part of the warm-up.
        warmup_ms: mean of the warm-up.
        init_memory_mb, overall_memory_mb: growth of the process since its start, after the model
            was loaded and at the end.
        peak_memory_mb: the most that the whole process held. None on the host's interpreter,
            whose process holds Python, too.
    """

    median_ms: float | None = None
    mean_ms: float | None = None
    p5_ms: float | None = None
    p95_ms: float | None = None
    std_ms: float | None = None
    min_ms: float | None = None
    max_ms: float | None = None
    runs: int | None = None
    init_ms: float | None = None
    first_ms: float | None = None
    warmup_ms: float | None = None
    warmup_runs: int | None = None
    init_memory_mb: float | None = None
    overall_memory_mb: float | None = None
    peak_memory_mb: float | None = None


FIGURES = tuple(field.name for field in dataclasses.fields(Figures))
