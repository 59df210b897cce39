# SPDX-License-Identifier: Apache-2.0
"""What a run found, row by row: figures, or the sentence that stands in their place."""

from __future__ import annotations

from dataclasses import dataclass

from .run import Row, Run
from .stats import Interval, mad, median, median_interval, outliers, percentile, tail

LATENCY = "us"


@dataclass(frozen=True)
class Ratio:
    """A row against its floor. It is taken in each round, so that what slows a whole round slows
    both sides of it."""

    rounds: dict[int, float]

    @property
    def value(self) -> float:
        return median(list(self.rounds.values()))

    @property
    def interval(self) -> Interval | None:
        return median_interval(list(self.rounds.values()))


@dataclass(frozen=True)
class Figures:
    """One series of one row: percentiles of all its values, spread of its rounds' medians."""

    count: int
    p50: float
    p90: float
    p99: float | None  # None: too few values for one to lie beyond it
    p999: float | None
    least: float
    most: float
    outliers: int
    round_medians: dict[int, float]
    ratio: Ratio | None = None

    @property
    def mad(self) -> float:
        return mad(list(self.round_medians.values()))

    @property
    def interval(self) -> Interval | None:
        """Of the median, by its rounds."""
        return median_interval(list(self.round_medians.values()))


@dataclass(frozen=True)
class Noise:
    """How much a floor, which does the same in every round, differed between rounds."""

    floor: str
    rounds: int
    mad: float  # both as shares of the median
    spread: float


class Findings:
    def __init__(self, run: Run) -> None:
        self.run = run
        self._figures: dict[tuple[str, str], Figures | None] = {}

    def row(self, name: str) -> Row | None:
        return self.run.rows.get(name)

    def rows(self, section: str) -> list[Row]:
        return [row for row in self.run.rows.values() if row.section == section]

    def measured(self, name: str) -> bool:
        return not self.errors(name) and bool(self.series_names(name))

    def errors(self, name: str) -> list[str]:
        return [one.error for one in self.run.by_row.get(name, []) if one.error]

    def labels(self, name: str) -> list[str]:
        """Remarks made while measuring, each once."""
        return list(dict.fromkeys(
            one.label for one in self.run.by_row.get(name, []) if one.label))

    def series_names(self, name: str) -> list[str]:
        names: dict[str, None] = {}
        for one in self.run.by_row.get(name, []):
            names.update(dict.fromkeys(key for key, values in one.values.items() if values))
        return list(names)

    def values(self, name: str, series: str = LATENCY) -> list[float]:
        """All of them, of all rounds. None of a row that failed: half of what it was to do would
        look like a faster whole."""
        return [value for values in self._by_round(name, series).values() for value in values]

    def figures(self, name: str, series: str = LATENCY) -> Figures | None:
        key = (name, series)
        if key not in self._figures:
            self._figures[key] = self._compute(name, series)
        return self._figures[key]

    def why_not(self, name: str) -> str:
        """Why a row has no figures."""
        row = self.row(name)
        errors = self.errors(name)
        if errors:
            measured = len(self.run.by_row[name])
            often = "" if measured == 1 else f" in {len(errors)} of {measured} rounds"
            return f"failed{often}: {errors[0]}"
        if row is None:
            return "skipped: this run has no such row"
        if self.measured(name):
            return "not told: it was measured, and this could not be had"
        if row.unavailable:
            return f"skipped: {row.unavailable}"
        if row.every > 1 and name not in self.run.by_row:
            return f"skipped: it takes part in every {row.every}th round, and none was reached"
        return "skipped: the run ended before it was measured"

    def noise(self) -> list[Noise]:
        """Of every row that others are compared with, the noisiest first."""
        floors = dict.fromkeys(row.floor for row in self.run.rows.values() if row.floor)
        found = []
        for name in floors:
            figures = self.figures(name)
            if figures is None or not figures.p50 or len(figures.round_medians) < 2:
                continue
            medians = list(figures.round_medians.values())
            centre = median(medians)
            found.append(Noise(name, len(medians), figures.mad / centre,
                               (max(medians) - min(medians)) / centre))
        return sorted(found, key=lambda noise: -noise.mad)

    def failed(self) -> list[str]:
        return [name for name in self.run.rows if self.errors(name)]

    def skipped(self) -> list[str]:
        return [name for name in self.run.rows
                if not self.errors(name) and not self.measured(name)]

    def _by_round(self, name: str, series: str) -> dict[int, list[float]]:
        if self.errors(name):
            return {}
        return {one.round: one.values[series] for one in self.run.by_row.get(name, [])
                if one.values.get(series)}

    def _compute(self, name: str, series: str) -> Figures | None:
        rounds = self._by_round(name, series)
        values = sorted(value for each in rounds.values() for value in each)
        if not values:
            return None
        medians = {number: median(each) for number, each in rounds.items()}
        return Figures(
            count=len(values),
            p50=percentile(values, 50),
            p90=percentile(values, 90),
            p99=tail(values, 99),
            p999=tail(values, 99.9),
            least=values[0],
            most=values[-1],
            outliers=outliers(values),
            round_medians=medians,
            ratio=self._ratio(name, medians) if series == LATENCY else None,
        )

    def _ratio(self, name: str, medians: dict[int, float]) -> Ratio | None:
        row = self.row(name)
        if row is None or not row.floor or row.floor == name:
            return None
        floor = self.figures(row.floor)
        if floor is None:
            return None
        rounds = {number: value / floor.round_medians[number]
                  for number, value in medians.items()
                  if floor.round_medians.get(number, 0) > 0}
        return Ratio(rounds) if rounds else None
