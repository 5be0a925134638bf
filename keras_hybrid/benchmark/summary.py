"""Statistics in plain Python: quantiles, and the confidence interval of a ratio of latencies."""

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
