# SPDX-License-Identifier: Apache-2.0
"""Two runs side by side: what changed beyond noise."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from .context import differences
from .findings import LATENCY, Figures, Findings
from .stats import Interval, mad, median, median_interval

# Intervals of a long run are narrower than the machine's own drift from run to run: a difference
# smaller than this is none,
LEAST_CHANGE = 0.05
# and none is one smaller than so many of the rounds' own deviations.
LEAST_MADS = 2.0

# What is compared beside the latency, and whether less of it is better.
OTHER_SERIES = {"rate_ratio": False, "worker_bytes": True}
# What there should be none of: any where there was none is worse, whatever the noise.
TOTALS = ["left", "failed"]


class Verdict(Enum):
    WORSE = "worse"
    BETTER = "better"
    SAME = "the same"
    UNKNOWN = "too few rounds to tell"


@dataclass(frozen=True)
class Change:
    row: str
    series: str
    before: float
    after: float
    by_floor: bool  # both are ratios to the floor of their own run
    interval: Interval | None  # of after / before; none for too few rounds, and for counts
    verdict: Verdict
    machine: bool = False  # a floor: it tells of the machine, and not of brood

    @property
    def factor(self) -> float:
        return self.after / self.before if self.before else float("inf")


@dataclass(frozen=True)
class Comparison:
    changes: list[Change]
    now_fail: dict[str, str]  # rows that had figures, and why they have none
    fail_no_more: list[str]
    only_before: list[str]
    only_after: list[str]
    contexts: list[str]  # what makes the two runs hard to compare

    def having(self, verdict: Verdict) -> list[Change]:
        return [one for one in self.changes if one.verdict is verdict and not one.machine]

    @property
    def machine(self) -> list[Change]:
        """What the machine itself did otherwise: a reason for doubt, and no change of brood's."""
        return [one for one in self.changes
                if one.machine and one.verdict in (Verdict.WORSE, Verdict.BETTER)]

    @property
    def worse(self) -> bool:
        return bool(self.now_fail or self.having(Verdict.WORSE))


def compare(before: Findings, after: Findings) -> Comparison:
    olds = [name for name in before.run.rows if before.measured(name)]
    news = [name for name in after.run.rows if after.measured(name)]
    return Comparison(
        changes=[change for name in olds if name in news
                 for change in _changes(name, before, after)],
        now_fail={name: after.why_not(name) for name in olds if after.errors(name)},
        fail_no_more=[name for name in news if before.errors(name)],
        only_before=[name for name in olds if name not in news and not after.errors(name)],
        only_after=[name for name in news if name not in olds and not before.errors(name)],
        contexts=differences(before.run, after.run),
    )


def _changes(name: str, before: Findings, after: Findings) -> list[Change]:
    changes = []
    floors = {row.floor for row in before.run.rows.values()}
    machine = name in floors or name.startswith("floor/")
    for series, less_is_better in {LATENCY: True, **OTHER_SERIES}.items():
        old, new = before.figures(name, series), after.figures(name, series)
        if old and new:
            changes.append(_change(name, series, old, new, less_is_better, machine))
    for series in TOTALS:
        old_total, new_total = (sum(run.values(name, series)) for run in (before, after))
        if bool(old_total) != bool(new_total):
            verdict = Verdict.WORSE if new_total else Verdict.BETTER
            changes.append(Change(name, series, old_total, new_total, False, None, verdict))
    return changes


def _change(name: str, series: str, old: Figures, new: Figures, less_is_better: bool,
            machine: bool) -> Change:
    # A row is compared by its ratio to the floor of its own run, so that a slower day is no change.
    by_floor = old.ratio is not None and new.ratio is not None
    olds, news = _rounds(old, by_floor), _rounds(new, by_floor)
    before, after = median(olds), median(news)
    first, second = median_interval(olds), median_interval(news)
    interval = None
    if first is None or second is None or first.low <= 0:
        verdict = Verdict.UNKNOWN
    else:
        # Free of 1 exactly where the two intervals are apart.
        interval = Interval(second.low / first.high, second.high / first.low)
        deviation = max(mad(olds) / before, mad(news) / after if after else 0)
        least = max(LEAST_CHANGE, LEAST_MADS * deviation)
        if not first.apart_from(second) or abs(after / before - 1) < least:
            verdict = Verdict.SAME
        else:
            verdict = Verdict.WORSE if (after > before) == less_is_better else Verdict.BETTER
    return Change(name, series, before, after, by_floor, interval, verdict, machine)


def _rounds(figures: Figures, by_floor: bool) -> list[float]:
    if by_floor and figures.ratio is not None:
        return list(figures.ratio.rounds.values())
    return list(figures.round_medians.values())
