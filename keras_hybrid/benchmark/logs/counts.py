"""The count line, `count=50 first=.. curr=.. avg=..`, and the checks that its figures must pass."""

import dataclasses
import math
import re

# Quantifiers are bounded wherever a longer run would be tried from each of its places: the time
# for a log of any text is proportional to its length.
NUMBER = r"([-+]?(?:\d{1,30}(?:\.\d{0,30})?|\.\d{1,30})(?:e[-+]?\d{1,3})?)"
_PERCENTILES = rf"(?: p5={NUMBER} median={NUMBER} p95={NUMBER})?"
_ZERO = re.compile(r"count=0(?: p5=\S+ median=\S+ p95=\S+)?")
_SAME = re.compile(rf"count=(\d{{1,12}}) curr={NUMBER}(\(all same\))?{_PERCENTILES}")
_FULL = re.compile(
    rf"count=(\d{{1,12}}) first={NUMBER} curr={NUMBER} min={NUMBER} max={NUMBER} avg={NUMBER} "
    rf"std={NUMBER}{_PERCENTILES}"
)
_LOOKS_LIKE = re.compile(
    r"\bcount=|\bfirst=\S{1,40} curr=|\bcurr=\S{1,40} min=|\bp5=\S{1,40} median="
)
_OF_THE_PROFILE = re.compile(r"(?:Timings \(microseconds\)|Memory \(bytes\)): count=")


@dataclasses.dataclass(frozen=True)
class Counts:
    """Times of one phase in microseconds; percentiles are None where the build prints none."""

    runs: int
    first: float | None = None
    last: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    deviation: float | None = None
    p5: float | None = None
    median: float | None = None
    p95: float | None = None

    def contradiction(self) -> str | None:
        """Why no run can have produced these figures, or None.

        The order of minimum, percentiles and maximum, and the bounds that the extremes put on a
        population's standard deviation, catch most digits that went missing.
        """
        if self.runs == 0:
            return None
        figures = (self.first, self.last, self.minimum, self.maximum, self.mean, self.deviation)
        percentiles = [p for p in (self.p5, self.median, self.p95) if p is not None]
        if not all(math.isfinite(f) and f >= 0 for f in (*figures, *percentiles)):
            return "a time is negative or not finite"
        ordered = [self.minimum, *percentiles, self.maximum]
        slack = 1 + 1e-5 * self.maximum  # the mean is printed with six digits, the rest truncated
        if ordered != sorted(ordered):
            return "minimum, percentiles and maximum are out of order"
        if not (
            self.minimum <= self.first <= self.maximum and self.minimum <= self.last <= self.maximum
        ):
            return "a single time lies outside minimum and maximum"
        if not self.minimum - slack <= self.mean <= self.maximum + slack:
            return "the mean lies outside minimum and maximum"
        above, below = self.maximum - self.mean, self.mean - self.minimum
        if self.deviation > math.sqrt(max(0.0, (above + slack) * (below + slack))) + slack:
            return "the standard deviation is too large for the extremes"
        if self.runs > 1:
            least = (max(above, below) - slack) / math.sqrt(self.runs - 1)
            if self.deviation < 0.98 * least - slack:
                return "the standard deviation is too small for the extremes"
        return None


def looks_like_counts(text: str) -> bool:
    """Whether a line holds pieces of a count line (which must then match as a whole)."""
    return bool(_LOOKS_LIKE.search(text)) and not _OF_THE_PROFILE.match(text)


def read_counts(text: str) -> Counts | None:
    """Reads a whole count line; None if it is not one."""
    if _ZERO.fullmatch(text):
        return Counts(0)
    if match := _SAME.fullmatch(text):
        runs, value, _, *percentiles = match.groups()
        if (int(runs) > 1) != (match[3] is not None):
            return None
        value = float(value)
        return Counts(int(runs), value, value, value, value, value, 0.0, *map(_number, percentiles))
    if match := _FULL.fullmatch(text):
        runs, *figures = match.groups()
        return Counts(int(runs), *map(_number, figures))
    return None


def _number(text):
    return None if text is None else float(text)
