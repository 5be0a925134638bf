"""Statistics in plain Python: quantiles, and the confidence interval of a ratio of latencies."""

import functools
import math
import random
from collections.abc import Sequence


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of `values` lies, linearly interpolated.

    Raises:
        ValueError: if `values` is empty or `share` is not in [0, 1].
    """
    if not values or not 0 <= share <= 1:
        raise ValueError(
            "At least one value and a share in [0, 1] are expected. "
            f"Received: {len(values)} values, share={share}"
        )
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (position - low) * (ordered[high] - ordered[low])


def median(values: Sequence[float]) -> float:
    return quantile(values, 0.5)


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def standard_deviation(values: Sequence[float]) -> float:
    """Population standard deviation, as `benchmark_model` reports it."""
    centre = mean(values)
    return math.sqrt(math.fsum((value - centre) ** 2 for value in values) / len(values))


def relative_spread(values: Sequence[float]) -> float:
    """Half the range over the median: 0.05 means that all values lie within about 5%."""
    return (max(values) - min(values)) / 2 / median(values)


@functools.lru_cache(maxsize=1024)
def student_quantile(share: float, degrees: float) -> float:
    """The quantile of Student's t distribution, for shares of one half and above.

    Args:
        degrees: of freedom; fractions are allowed, as in Welch's test.
    """
    if not 0.5 <= share < 1 or degrees <= 0:
        raise ValueError(
            "0.5 <= share < 1 and degrees > 0 are expected. "
            f"Received: share={share}, degrees={degrees}"
        )
    scale = math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)) / math.sqrt(
        degrees * math.pi
    )

    def below(angle):
        """P(T < sqrt(degrees) tan(angle)), by Simpson's rule: smooth in the angle."""
        steps = 80
        width = angle / steps
        total = math.fsum(
            (1 if n in (0, steps) else 4 if n % 2 else 2) * math.cos(n * width) ** (degrees - 1)
            for n in range(steps + 1)
        )
        return 0.5 + scale * math.sqrt(degrees) * total * width / 3

    low, high = 0.0, math.pi / 2 - 1e-9
    for _ in range(45):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) < share else (low, middle)
    return math.sqrt(degrees) * math.tan(low)


def typical_interval(
    values: Sequence[float], confidence: float = 0.95
) -> tuple[float, float, float]:
    """Geometric mean of positive values with its interval: Student's, of the logarithms.

    Args:
        values: at least two, independent of each other: one for each process, pair or session.

    Returns:
        (mean, lower bound, upper bound).

    Raises:
        ValueError: for fewer than two values or one that is not positive.
    """
    if len(values) < 2 or min(values) <= 0 or not 0 < confidence < 1:
        raise ValueError(
            "At least two positive values and a confidence in (0, 1) are expected. "
            f"Received: {list(values)}, confidence={confidence}"
        )
    logs = [math.log(value) for value in values]
    centre, count = mean(logs), len(logs)
    error = math.sqrt(math.fsum((x - centre) ** 2 for x in logs) / (count - 1) / count)
    reach = student_quantile((1 + confidence) / 2, count - 1) * error
    return math.exp(centre), math.exp(centre - reach), math.exp(centre + reach)


def relative_reach(values: Sequence[float], confidence: float = 0.95) -> float:
    """How far the interval of `typical_interval` reaches, relative to the mean."""
    centre, _, high = typical_interval(values, confidence)
    return high / centre - 1


def grouped_ratio_interval(
    earlier: Sequence[Sequence[float]],
    later: Sequence[Sequence[float]],
    confidence: float = 0.95,
) -> tuple[float, float, float]:
    """Ratio of two typical latencies whose interval includes the spread between sessions.

    Welch's interval of the difference of the sessions' mean logarithms: a session is one draw, how
    ever many processes it has.

    Args:
        earlier, later: the times of each session, at least two sessions on either side.

    Raises:
        ValueError: for fewer sessions or a time that is not positive.
    """
    if min(len(earlier), len(later)) < 2 or min(t for s in (*earlier, *later) for t in s) <= 0:
        raise ValueError(
            "At least two sessions of positive times on either side are expected. "
            f"Received: {len(earlier)} and {len(later)} sessions"
        )
    sides = [
        [mean([math.log(t) for t in session]) for session in side] for side in (earlier, later)
    ]
    parts = [
        math.fsum((x - mean(side)) ** 2 for x in side) / (len(side) - 1) / len(side)
        for side in sides
    ]
    difference, variance = mean(sides[1]) - mean(sides[0]), sum(parts)
    if variance == 0:
        return (math.exp(difference),) * 3
    degrees = variance**2 / sum(
        part**2 / (len(side) - 1) for part, side in zip(parts, sides, strict=True)
    )
    reach = student_quantile((1 + confidence) / 2, degrees) * math.sqrt(variance)
    return math.exp(difference), math.exp(difference - reach), math.exp(difference + reach)


def ratio_interval(
    earlier: Sequence[float],
    later: Sequence[float],
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Ratio of two typical latencies, later over earlier, with a bootstrap interval.

    Compares geometric means of independent repetitions (one figure for each process; inferences
    of one process are not independent). The interval is the symmetric bootstrap-t interval of
    the difference of mean logarithms: unlike the percentile bootstrap it keeps its coverage with
    as few as three repetitions.

    Args:
        earlier, later: at least three positive times each.
        confidence: nominal coverage.
        seed: of the resampling, so that the same data give the same verdict.

    Returns:
        (ratio, lower bound, upper bound).

    Raises:
        ValueError: for fewer than three times or one that is not positive.
    """
    if min(len(earlier), len(later)) < 3 or min(*earlier, *later) <= 0 or not 0 < confidence < 1:
        raise ValueError(
            "At least three positive times on either side and a confidence in (0, 1) are expected. "
            f"Received: earlier={list(earlier)}, later={list(later)}, confidence={confidence}"
        )
    sides = [[math.log(value) for value in values] for values in (earlier, later)]
    generator = random.Random(seed)
    difference = mean(sides[1]) - mean(sides[0])
    error = _standard_error(sides)
    if error == 0:
        return math.exp(difference), math.exp(difference), math.exp(difference)
    statistics = []
    for _ in range(resamples):
        drawn = [generator.choices(side, k=len(side)) for side in sides]
        drawn_error = _standard_error(drawn)
        shift = abs(mean(drawn[1]) - mean(drawn[0]) - difference)
        # A resample without spread gives no scale to its shift: unless there is none, it counts
        # among the extreme ones, which widens the interval.
        statistics.append(shift / drawn_error if drawn_error else math.inf if shift else 0.0)
    reach = sorted(statistics)[math.ceil(confidence * resamples) - 1] * error
    return math.exp(difference), math.exp(difference - reach), math.exp(difference + reach)


def _standard_error(sides):
    """Of the difference of two means."""
    total = 0.0
    for side in sides:
        count = len(side)
        centre = sum(side) / count
        total += sum((value - centre) ** 2 for value in side) / (count - 1) / count
    return math.sqrt(total)
