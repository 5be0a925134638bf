"""The per-operator tables that `benchmark_model` prints when it profiles."""

import dataclasses
import re

from keras_hybrid.benchmark.logs.lines import Line

_NUMBER = r"[-+]?\d{1,30}(?:\.\d{1,30})?(?:e[-+]?\d{1,3})?"
_COLUMNS = ("[node type]", "[first]", "[avg ms]", "[Name]")
_CSV_HEADER = re.compile(
    r"node type, (?:start, )?first, avg_ms, %, cdf%, mem KB, times called, name"
)
_SUMMARY_HEADER = re.compile(r"\[Node type\]\s+\[count\]|node type, count, avg_ms")
_NODES = re.compile(r"Number of nodes executed: (\d{1,12})")
_SUBGRAPH = re.compile(
    r"Primary graph.*profile:|Subgraph \(index: \d+.*profile:|Delegate internal: ?"
)
INITIALIZATION_TITLE = "Profiling Info for Benchmark Initialization:"
RUN_TITLE = "Operator-wise Profiling Info for Regular Benchmark Runs:"


def _is_header(text):
    """Whether the columns stand in a line in their order."""
    place = 0
    for column in _COLUMNS:
        place = text.find(column, place)
        if place < 0:
            return False
    return True


def _row_pattern(separator, has_start):
    """Anchored on the two percentages: node types and names may hold commas and numbers."""
    in_csv = separator == ", "
    time = _NUMBER if in_csv else r"\d{1,30}\.\d{3}"
    after_percent = separator if in_csv else r"\s{0,80}"
    start = rf"{time}{separator}" if has_start else ""
    return re.compile(
        rf"\s*(?P<kind>\S.*?){separator}{start}(?P<first>{time}){separator}(?P<average>{time})"
        rf"{separator}(?P<percent>{_NUMBER})%{after_percent}(?P<cumulated>{_NUMBER})%{separator}"
        rf"(?P<memory>{_NUMBER}){separator}(?P<calls>\d{{1,12}}){separator}(?P<name>.*)"
    )


_ROWS = {
    (separator, has_start): _row_pattern(separator, has_start)
    for separator in (", ", r"\s{1,80}")
    for has_start in (False, True)
}


@dataclasses.dataclass(frozen=True)
class Operator:
    """One row of the table in run order: time in ms of one inference."""

    kind: str
    name: str
    average_ms: float
    first_ms: float
    percent: float
    calls: int
    subgraph: str = ""


@dataclasses.dataclass(frozen=True)
class Profile:
    """Operators in run order.

    Args:
        complete: whether the log names as many nodes as the table has rows; a cut table is not.
    """

    operators: tuple[Operator, ...]
    complete: bool


def read_initialization(lines: list[Line]) -> dict[str, float]:
    """Parts of the initialization in ms, by kind, from its own table; empty where there is none.

    The tables of a log are in run order and in order of time: the first one counts.
    """
    found: dict[str, float] = {}
    inside, pattern = False, None
    for line in lines:
        stripped = line.text.strip()
        if stripped == INITIALIZATION_TITLE:
            inside = True
        elif inside and "[" in stripped and _is_header(stripped):
            pattern = _ROWS[r"\s{1,80}", "[start]" in stripped]
        elif inside and _CSV_HEADER.fullmatch(stripped):
            pattern = _ROWS[", ", " start," in stripped]
        elif pattern and (match := pattern.fullmatch(line.text)):
            kind = match["kind"].strip()
            found[kind] = found.get(kind, 0.0) + float(match["average"])
        elif pattern:
            return found
    return {}  # cut


def read_profile(lines: list[Line]) -> Profile | None:
    """Reads the table of the timed runs (not the one of the initialisation), None if absent.

    Understands the old tables with a `[start]` column, tables without titles, padding by tabs
    or blanks, and CSV.
    """
    texts = [line.text for line in lines]
    begin = 0
    if any(text.strip() == RUN_TITLE for text in texts):
        begin = max(n for n, text in enumerate(texts) if text.strip() == RUN_TITLE)
    elif any(text.strip() == INITIALIZATION_TITLE for text in texts):
        return None
    operators, counted, subgraph = [], 0, ""
    expected_total = None
    pattern, wanted = None, True
    for line in lines[begin:]:
        text = line.text
        stripped = text.strip()
        if _SUBGRAPH.fullmatch(stripped):
            subgraph, wanted, pattern = stripped.rstrip(": "), True, None
        elif _CSV_HEADER.fullmatch(stripped):
            pattern = _ROWS[", ", " start," in stripped] if wanted else None
            wanted = False
        elif "[" in stripped and _is_header(stripped):
            pattern = _ROWS[r"\s{1,80}", "[start]" in stripped] if wanted else None
            wanted = False
        elif _SUMMARY_HEADER.match(stripped) or not stripped or stripped.startswith("====="):
            pattern = None
        elif match := _NODES.fullmatch(stripped):
            if line.complete:
                expected_total = (expected_total or 0) + int(match[1])
        elif pattern and (match := pattern.fullmatch(text)):
            counted += 1
            operators.append(
                Operator(
                    kind=match["kind"].strip(),
                    name=match["name"].strip(),
                    average_ms=float(match["average"]),
                    first_ms=float(match["first"]),
                    percent=float(match["percent"]),
                    calls=int(match["calls"]),
                    subgraph=subgraph,
                )
            )
    if not operators:
        return None
    return Profile(tuple(operators), complete=expected_total == counted)
