# SPDX-License-Identifier: Apache-2.0
"""The few statistics that the report is made of. Pure, and free of assumptions about shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

# How many median absolute deviations from the median make an outlier. Outliers are counted, never
# dropped: the tail is what isolation is judged by.
OUTLIER_MADS = 5


def percentile(ascending: Sequence[float], percent: float) -> float:
    """The nearest rank, by the arithmetic of pool/burst/percentile.h. 0 for no values."""
    if not ascending:
        return 0.0
    rank = math.ceil(percent / 100 * len(ascending))
    return ascending[min(max(rank, 1) - 1, len(ascending) - 1)]


def tail(ascending: Sequence[float], percent: float) -> float | None:
    """The percentile, where there are enough values for one to lie beyond it. With fewer it would
    be the maximum under another name."""
    if len(ascending) * (100 - percent) < 100 - 1e-9:
        return None
    return percentile(ascending, percent)


def median(values: Sequence[float]) -> float:
    """The middle value; the mean of the two middle ones for an even count. 0 for no values."""
    if not values:
        return 0.0
    ascending = sorted(values)
    middle = len(ascending) // 2
    if len(ascending) % 2:
        return ascending[middle]
    return (ascending[middle - 1] + ascending[middle]) / 2


def mad(values: Sequence[float]) -> float:
    """Median absolute deviation from the median: a spread that outliers do not move."""
    centre = median(values)
    return median([abs(value - centre) for value in values])


def outliers(values: Sequence[float]) -> int:
    limit = OUTLIER_MADS * mad(values)
    centre = median(values)
    return sum(1 for value in values if abs(value - centre) > limit)


@dataclass(frozen=True)
class Interval:
    low: float
    high: float

    def apart_from(self, other: Interval) -> bool:
        return self.low > other.high or other.low > self.high


# Between the least and the greatest of n values lies the median in all but 2 * 0.5^n of cases.
LEAST_ROUNDS = 6


def median_interval(values: Sequence[float], confidence: float = 0.95) -> Interval | None:
    """What holds the true median with at least `confidence`, whatever the distribution: the k-th
    value from either end, k by the binomial distribution. None for fewer than LEAST_ROUNDS at 95 %,
    which allow no such statement."""
    count = len(values)
    beyond = 0.0  # the probability that fewer than k values lie below the median
    k = 0
    while k < count // 2:
        beyond += math.comb(count, k) * 0.5**count
        if 2 * beyond > 1 - confidence:
            break
        k += 1
    if k == 0:
        return None
    ascending = sorted(values)
    return Interval(ascending[k - 1], ascending[count - k])
