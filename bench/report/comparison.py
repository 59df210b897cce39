"""Two runs side by side: what changed beyond noise."""

from __future__ import annotations

from dataclasses import dataclass

from .findings import Figures, Findings
from .stats import median

# Where both intervals are narrower than the machine's own drift from run to run, a difference
# smaller than this is none.
LEAST_CHANGE = 0.05


@dataclass(frozen=True)
class Change:
    row: str
    before: float
    after: float
    unit: str  # "×": against the floor; "us": a floor itself
    beyond_noise: bool

    @property
    def factor(self) -> float:
        return self.after / self.before if self.before else float("inf")


@dataclass(frozen=True)
class Comparison:
    changes: list[Change]
    only_before: list[str]
    only_after: list[str]
    contexts: list[str]  # sentences: what makes the two runs hard to compare

    @property
    def worse(self) -> list[Change]:
        return [one for one in self.changes if one.beyond_noise and one.factor > 1]

    @property
    def better(self) -> list[Change]:
        return [one for one in self.changes if one.beyond_noise and one.factor < 1]


def compare(before: Findings, after: Findings) -> Comparison:
    names = [name for name in before.run.rows if before.figures(name)]
    both = [name for name in names if after.figures(name)]
    changes = [change for name in both if (change := _change(name, before, after))]
    return Comparison(
        changes,
        [name for name in names if name not in both],
        [name for name in after.run.rows if after.figures(name) and name not in both],
        _contexts(before, after),
    )


def _change(name: str, before: Findings, after: Findings) -> Change | None:
    old, new = before.figures(name), after.figures(name)
    if old is None or new is None:
        return None
    # A row is compared by its ratio to the floor of its own run, so that a slower day is no change.
    by_ratio = old.ratio is not None and new.ratio is not None
    olds, news = _rounds(old, by_ratio), _rounds(new, by_ratio)
    return Change(name, median(olds), median(news), "×" if by_ratio else "us",
                  _beyond_noise(old, new, by_ratio))


def _rounds(figures: Figures, by_ratio: bool) -> list[float]:
    if by_ratio and figures.ratio is not None:
        return list(figures.ratio.rounds.values())
    return list(figures.round_medians.values())


def _beyond_noise(old: Figures, new: Figures, by_ratio: bool) -> bool:
    first = old.ratio.interval if by_ratio and old.ratio else old.interval
    second = new.ratio.interval if by_ratio and new.ratio else new.interval
    # Too few rounds for an interval say nothing.
    if first is None or second is None or not first.apart_from(second):
        return False
    before = median(_rounds(old, by_ratio))
    after = median(_rounds(new, by_ratio))
    return before > 0 and abs(after / before - 1) >= LEAST_CHANGE


def _contexts(before: Findings, after: Findings) -> list[str]:
    places = {"machine": "machine", "cpu/model": "processor", "kernel/release": "kernel",
              "mitigations/active": "mitigations", "cgroup/favordynmods": "favordynmods",
              "build/type": "build type", "build/compiler": "compiler"}
    return [f"the {what} differs: {old} and {new}"
            for path, what in places.items()
            if (old := before.run.at(path)) != (new := after.run.at(path))]
