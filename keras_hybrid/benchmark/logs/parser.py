"""Reads what a `benchmark_model` printed: classic TFLite, LiteRT 2.x, `litert-benchmark`.

The output is not trusted. Every line must match its format as a whole, the same figure printed
twice must agree, and what was cut or contradicts itself is an error, never a number.
"""

import dataclasses
import re

from keras_hybrid.benchmark.figures import Figures
from keras_hybrid.benchmark.logs.counts import NUMBER, Counts, looks_like_counts, read_counts
from keras_hybrid.benchmark.logs.failures import Applied, Delegation, find_failures
from keras_hybrid.benchmark.logs.lines import Line, read_lines
from keras_hybrid.benchmark.logs.profile_tables import Profile, read_initialization, read_profile
from keras_hybrid.benchmark.logs.results_block import ResultsBlock

_TIMINGS = re.compile(
    rf"Inference timings in us: Init: (?P<init>{NUMBER}), First inference: (?P<first>{NUMBER}), "
    rf"Warmup \(avg\): (?P<warmup>{NUMBER}), Inference \(avg\): (?P<inference>{NUMBER})"
)
_OLD_TIMINGS = re.compile(
    rf"Average inference timings in us: Warmup: (?P<warmup>{NUMBER}), Init: (?P<init>{NUMBER}), "
    rf"(?:Inference|no stats): (?P<inference>{NUMBER})"
)
_ANY_TIMINGS = re.compile(r"inference timings in us", re.IGNORECASE)
_SESSION = re.compile(rf"Initialized session in {NUMBER}ms\.?")
_RUNNING = re.compile(
    rf"Running benchmark for at least (\d{{1,12}}) iterations and at least {NUMBER} seconds"
    rf"(?: but terminate if exceeding {NUMBER} seconds\.)?"
)
_MEMORY = (
    (
        re.compile(
            r"Memory footprint delta from the start of the tool \(MB\): "
            rf"init={NUMBER} overall={NUMBER}"
        ),
        ("init_memory_mb", "overall_memory_mb"),
    ),
    (
        re.compile(rf"Peak memory footprint \(MB\): init={NUMBER} overall={NUMBER}"),
        (None, "peak_memory_mb"),  # the peak until then: no growth
    ),
    (
        re.compile(rf"Overall peak memory footprint \(MB\) via periodic monitoring: {NUMBER}"),
        ("peak_memory_mb",),
    ),
)
_UNCONSUMED = re.compile(r"Unconsumed cmdline flags: (.+)")
_PAUSES = ("Inter-run delay (seconds)", "Number of prorated runs per second")
_WITHOUT_SIGNS = ("STARTING!", "Graph", "Loaded model", "Initialized session", "Running", "Log ")
_ONE_RUN = ("STARTING!", "Log parameter values verbosely", "Graph", "Loaded model")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report(Figures):
    """What a log says: the figures, and what they are worth.

    Args:
        valid: whether the numbers may be used: measured to the end, no error, no contradiction.
        errors: why not, and every error line of the log.
        failures: the error lines alone, whatever became of the figures.
        flavour: "classic", "litert" (LiteRT 2.x), "litert_python" or None if unknown.
        unconsumed_flags: flags that the tool did not know and ignored.
        fallbacks: lines that say that a delegate did not run.
        created: delegates that came to be, in the log's words.
        unsupported: operators that a delegate left to the CPU.
        initialization: parts of the initialization in ms, where the log has a table of it.
        parameters: what the tool says it was told, e.g. {"Num threads": "4"}.
    """

    valid: bool
    errors: tuple[str, ...]
    failures: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    flavour: str | None = None
    delegations: tuple[Delegation, ...] = ()
    applied: tuple[Applied, ...] = ()
    fallbacks: tuple[str, ...] = ()
    created: tuple[str, ...] = ()
    unsupported: tuple[str, ...] = ()
    unconsumed_flags: tuple[str, ...] = ()
    parameters: dict[str, str] = dataclasses.field(default_factory=dict)
    profile: Profile | None = None
    initialization: dict[str, float] = dataclasses.field(default_factory=dict)


def prints_as(value: float, printed: float) -> bool:
    """Whether a stream that prints six significant digits shows `value` as `printed`."""
    return float(f"{value:.6g}") == float(f"{printed:.6g}")


def _is_whole(line, *texts):
    """Whether the figures that end `line` can have lost no digit.

    A stream prints six significant digits: a figure that has them all, with two digits or more
    before the point, goes on neither with a digit nor with an exponent.
    """
    digits = texts[-1].replace(".", "").lstrip("-0")
    integer_digits = len(texts[-1].lstrip("-").partition(".")[0])
    return line.complete or ("e" not in texts[-1] and len(digits) >= 6 and integer_digits >= 2)


class _Reader:
    """Collects the figures of one log, line by line, then confronts them."""

    def __init__(self, lines: list[Line], block: ResultsBlock):
        self.block = block.values
        self.problems: list[str] = []
        self.counts: list[tuple[Counts, int]] = []
        self.phases: list[tuple[int, float, float | None]] = []
        self.timings: list[tuple[dict, Line]] = []
        self.session_ms: float | None = None
        self.memory: dict[str, float] = {}
        self.parameters: dict[str, str] = {}
        self.unconsumed: list[str] = []
        self.starts = dict.fromkeys(_ONE_RUN, 0)
        for line in lines:
            self._read(line, line.text.strip())
        pids = {line.pid for line in lines if line.pid and "count=" in line.text}
        if len(pids) > 1 or max(self.starts.values()) > 1:
            self.problems.append("the log holds the output of several runs")

    def _read(self, line, text):
        if "=" not in text and ":" not in text and not text.startswith(_WITHOUT_SIGNS):
            return
        for start in _ONE_RUN:
            if text == start or text.startswith((start + ":", start + " ")):
                self.starts[start] += 1
        if looks_like_counts(text):
            counts = read_counts(text) if line.complete else None
            if counts:
                self.counts.append((counts, len(self.phases)))
            elif line.complete:
                self.problems.append(f"not a whole count line: {text}")
        elif _ANY_TIMINGS.search(text):
            match = _TIMINGS.fullmatch(text) or _OLD_TIMINGS.fullmatch(text)
            if match:
                self.timings.append((match.groupdict(), line))
            elif line.complete:
                self.problems.append(f"not a whole line of timings: {text}")
        elif match := _RUNNING.fullmatch(text):
            longest = None if match[3] is None else float(match[3])
            self.phases.append((int(match[1]), float(match[2]), longest))
        elif match := _SESSION.fullmatch(text):
            self.session_ms = float(match[1])
        elif match := _UNCONSUMED.fullmatch(text):
            self.unconsumed += [flag.strip() for flag in re.split(r" (?=--)", match[1])]
        elif text.endswith("]") and ": [" in text:
            name, _, value = text[:-1].partition(": [")
            if name and not set("[]") & set(name):
                self.parameters.setdefault(name.rstrip(), value)
        else:
            for pattern, names in _MEMORY:
                match = pattern.fullmatch(text)
                if match and _is_whole(line, *match.groups()):
                    figures = zip(names, map(float, match.groups()), strict=True)
                    self.memory |= {name: figure for name, figure in figures if name}

    def figures(self):
        """Warm-up, measured phase and timings in us; problems are noted along the way."""
        counts = [counts for counts, _ in self.counts]
        timings = self._timings(counts)
        if len(counts) > 2:
            self.problems.append("the log holds more than two count lines")
            return None, None, timings
        warmup, measured = self._roles(timings)
        for name, phase in (("warm-up", warmup), ("measured", measured)):
            reason = phase and phase.contradiction()
            if reason:
                self.problems.append(f"contradiction in the {name} count line: {reason}")
        if len(self.phases) == 2:
            self._check_duration("warm-up", warmup, *self.phases[0])
            self._check_duration("measured", measured, *self.phases[1])
        session_ms = self.session_ms
        if timings and session_ms and not prints_as(timings["init"] / 1000, session_ms):
            self.problems.append("contradiction: two different times of initialisation")
        return warmup, measured, timings

    def _timings(self, counts):
        """The final line's figures, None if there is none that is whole."""
        distinct = []
        for texts, line in self.timings:
            figures = {name: float(value) for name, value in texts.items()}
            if not _is_whole(line, texts["inference"]) and not (
                counts and counts[-1].runs and prints_as(counts[-1].mean, figures["inference"])
            ):
                continue
            if figures not in distinct:
                distinct.append(figures)
        if len(distinct) > 1:
            self.problems.append("the log holds the output of several runs")
        return distinct[0] if len(distinct) == 1 else None

    def _roles(self, timings):
        """Which count line is the warm-up and which the measured phase."""

        def agrees(counts, name):
            return counts.runs > 0 and prints_as(counts.mean, timings[name])

        if len(self.counts) == 2:
            (warmup, _), (measured, _) = self.counts
            if timings:
                same = agrees(measured, "inference") or measured.runs == 0
                same &= agrees(warmup, "warmup") or warmup.runs == 0
                same &= warmup.runs == 0 or timings.get("first", warmup.first) == warmup.first
                if not same:
                    self.problems.append("contradiction: count lines and timings differ")
            return warmup, measured
        if len(self.counts) == 1:
            counts, phase = self.counts[0]
            if not timings:
                return self._role_by_block(counts)
            if agrees(counts, "inference") and (phase == 2 or not agrees(counts, "warmup")):
                return None, counts
            if agrees(counts, "warmup") and timings.get("first", counts.first) == counts.first:
                return counts, None
            self.problems.append("contradiction: count line and timings differ")
        return None, None

    def _role_by_block(self, counts):
        """The role of the only count line by the figures of LiteRT 2.x' block.

        Without them it has none: the other count line may have come before it or after.
        """

        def agrees(mean, runs):
            rounded = self.block.get(mean)
            return (
                rounded is not None
                and self.block.get(runs) == counts.runs > 0
                and abs(rounded - counts.mean / 1000) <= 0.0101
            )

        is_warmup, is_measured = agrees("warmup_ms", "warmup_runs"), agrees("mean_ms", "runs")
        if is_warmup == is_measured:
            return None, None
        return (counts, None) if is_warmup else (None, counts)

    def _check_duration(self, name, counts, least_runs, least_seconds, most_seconds):
        """The loop ends once both minima are reached, or at the maximum.

        Pauses between runs count towards its time and are not in the log: then all is possible.
        """
        pauses = any(self.parameters.get(name, "-1") != "-1" for name in _PAUSES)
        if not counts or not counts.runs or pauses:
            return
        seconds = counts.runs * counts.mean / 1e6
        before_last = seconds - counts.mean / 1e6
        too_few = counts.runs < least_runs and most_seconds and seconds < 0.5 * most_seconds
        too_many = counts.runs > least_runs and before_last > 1.05 * least_seconds + 0.01
        if too_few or too_many:
            self.problems.append(
                f"contradiction: {counts.runs} {name} runs of {counts.mean / 1000:g} ms do not fit "
                f"a loop of {least_runs} runs and {least_seconds:g} s"
            )


def parse_log(log: str) -> Report:
    """Reads the whole output (standard output and error together) of one run.

    Args:
        log: the output, plain or as `adb logcat` shows it.

    Returns:
        A `Report`; whatever the log is, this raises nothing. Numbers that may be wrong (cut,
        contradicting) are None and `valid` is False.
    """
    lines = read_lines(log)
    block = ResultsBlock(lines)
    reader = _Reader(lines, block)
    failures = find_failures(lines)
    warmup, measured, timings = reader.figures()
    if reader.problems:
        warmup = measured = timings = None
    values = _values(warmup, measured, timings, reader, block)
    problems = list(reader.problems)
    if block.blocks > 1 or block.broken:
        problems.append("the results block is broken or there are several")
        values = {}
    if values.get("runs") == 0:
        problems.append("no inference was run")
    elif values.get("mean_ms") is None and not problems:
        problems.append("the log holds no measurement" if log.strip() else "the log is empty")
    elif not problems and not (timings or block.closed or (measured and block.values)):
        problems.append("the end of the report is missing")
    return Report(
        valid=not problems and not failures.errors,
        errors=(*problems, *failures.errors),
        failures=failures.errors,
        warnings=failures.warnings,
        flavour=_flavour(block, timings, lines),
        delegations=failures.delegations,
        applied=failures.applied,
        fallbacks=failures.fallbacks,
        created=failures.created,
        unsupported=failures.unsupported,
        unconsumed_flags=tuple(reader.unconsumed),
        parameters=reader.parameters,
        profile=read_profile(lines),
        initialization=read_initialization(lines),
        **values,
        **({} if reader.problems else reader.memory),
    )


def _values(warmup, measured, timings, reader, block):
    """Figures in ms by the names of `Report`'s fields, from the most precise source of each."""
    values = dict(block.values)
    if reader.problems:
        return {}
    precise = {}
    if reader.session_ms is not None:
        precise["init_ms"] = reader.session_ms
    if timings:
        precise["init_ms"] = timings["init"] / 1000
        precise["mean_ms"] = timings["inference"] / 1000
        precise["warmup_ms"] = timings["warmup"] / 1000
        if "first" in timings:
            precise["first_ms"] = timings["first"] / 1000
    if warmup:
        precise["warmup_runs"] = warmup.runs
        if warmup.runs:
            precise |= {"first_ms": warmup.first / 1000, "warmup_ms": warmup.mean / 1000}
    if measured:
        precise["runs"] = measured.runs
        if measured.runs:
            for name, figure in (
                ("mean_ms", measured.mean),
                ("median_ms", measured.median),
                ("p5_ms", measured.p5),
                ("p95_ms", measured.p95),
                ("std_ms", measured.deviation),
                ("min_ms", measured.minimum),
                ("max_ms", measured.maximum),
            ):
                if figure is not None:
                    precise[name] = figure / 1000
    for name in precise.keys() & values.keys():
        integers = name in ("runs", "warmup_runs")
        if abs(values[name] - precise[name]) > (0 if integers else 0.0101):
            reader.problems.append(f"contradiction: two different values of {name}")
            return {}
    for name in ("init_memory_mb", "overall_memory_mb", "peak_memory_mb"):
        if name in reader.memory:
            values.pop(name, None)
    return values | precise


def _flavour(block, timings, lines):
    if block.blocks:
        return "litert_python" if block.python else "litert"
    if timings or any(_ANY_TIMINGS.search(line.text) for line in lines):
        return "classic"
    return None
