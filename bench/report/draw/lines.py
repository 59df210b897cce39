# SPDX-License-Identifier: Apache-2.0
"""One quantity against another, in one panel or several with the same axes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.axes import Axes

from .canvas import QUIET, Canvas, colour, fitting, marker, text_width
from .scale import divide


@dataclass(frozen=True)
class Point:
    x: float
    y: float
    low: float
    high: float
    text: str


@dataclass(frozen=True)
class Series:
    name: str
    points: list[Point]
    dashed: bool = False


@dataclass(frozen=True)
class Panel:
    title: str
    series: list[Series]


@dataclass(frozen=True)
class Lines:
    panels: list[Panel]
    x_axis: str
    y_axis: str
    x_tick: Callable[[float], str]
    y_tick: Callable[[float], str]
    log_x: bool = True
    log_y: bool = True

    def __call__(self, canvas: Canvas) -> None:
        names = list(dict.fromkeys(series.name for panel in self.panels
                                   for series in panel.series))
        # One panel has room for its lines' names at their ends; several share a legend.
        direct = len(self.panels) == 1 and not canvas.narrow
        legend = [] if direct else names
        top = canvas.legend_height(legend) + 26
        y_room = max(text_width(self.y_tick(point.y)) for point in self._all()) + 14
        name_room = max(map(text_width, names)) + 18 if direct and len(names) > 1 else 16
        columns = 1 if canvas.narrow else len(self.panels)
        gap, titled = 18.0, len(self.panels) > 1
        width = (canvas.width - y_room - min(name_room, 200) - gap * (columns - 1)) / columns
        each = (170.0 if titled else 220.0) if canvas.narrow else 240.0
        rows = len(self.panels) if canvas.narrow else 1
        height = top + rows * (each + 34) + 14
        canvas.set_height(height)
        canvas.legend(legend, height)
        canvas.text(0, top - 12, self.y_axis, height, color=QUIET, fontsize=11)
        for i, panel in enumerate(self.panels):
            left = y_room + (0 if canvas.narrow else i * (width + gap))
            above = top + (i * (each + 34) if canvas.narrow else 0)
            axes = canvas.axes(left, above + (20 if titled else 4), left + width, above + each,
                               height)
            if titled:
                canvas.text(left, above + 8, panel.title, height, weight="semibold")
            self._panel(canvas, axes, panel, names, width, canvas.narrow or i == 0,
                        direct and len(names) > 1)
        axes.set_xlabel(self.x_axis, loc="right")

    def _panel(self, canvas: Canvas, axes: Axes, panel: Panel, names: list[str], width: float,
               with_y: bool, direct: bool) -> None:
        divide(axes.yaxis, self.log_y, [value for point in self._all()
                                        for value in (point.y, point.low, point.high)],
               self.y_tick, 6)
        places = sorted({point.x for point in self._all()})
        divide(axes.xaxis, self.log_x and places[0] > 0, places, self.x_tick,
               max(int(width / 52), 2), 0.03)
        # The measured places themselves, where there is room for them.
        if len(places) * 22 <= width:
            axes.set_xticks(places)
            axes.set_xticklabels(self._apart(axes, places, width))
        axes.grid(axis="y")
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="x", length=4)
        if not with_y:
            axes.tick_params(labelleft=False)
        ends = []
        for series in panel.series:
            index = names.index(series.name)
            if not series.points:
                continue
            xs = [point.x for point in series.points]
            ys = [point.y for point in series.points]
            if len(xs) > 1 and any(point.high > point.low for point in series.points):
                axes.fill_between(xs, [point.low for point in series.points],
                                  [point.high for point in series.points], color=colour(index),
                                  alpha=0.15, linewidth=0)
            axes.plot(xs, ys, color=colour(index), linewidth=1.75,
                      linestyle=(0, (5, 3)) if series.dashed else "-", solid_joinstyle="round")
            for point in series.points:
                [mark] = axes.plot([point.x], [point.y], **marker(index, 6))
                canvas.tip(mark, f"{series.name}, {point.text}")
            ends.append((xs[-1], ys[-1], series.name, index))
        if direct:
            self._name_ends(axes, ends)

    def _apart(self, axes: Axes, places: list[float], width: float) -> list[str]:
        """The labels of the places, empty where one would run into its right neighbour."""
        shares = axes.transScale.transform([(place, 1) for place in places])[:, 0]
        low, high = axes.transScale.transform([(end, 1) for end in axes.get_xlim()])[:, 0]
        labels: list[str] = []
        free = float("inf")
        for place, share in zip(reversed(places), reversed(shares)):
            label = self.x_tick(place)
            middle, half = (share - low) / (high - low) * width, text_width(label) / 2
            labels.append(label if middle + half < free else "")
            if labels[-1]:
                free = middle - half - 6
        return labels[::-1]

    def _name_ends(self, axes: Axes, ends: list[tuple[float, float, str, int]]) -> None:
        """Moves names apart that would overlap."""
        below = -1e9
        placed = [(axes.transData.transform((x, y))[1] / axes.figure.dpi * 72, x, y, name, index)
                  for x, y, name, index in ends]
        for at, x, y, name, index in sorted(placed):
            shift = max(0.0, below + 15 - at)
            below = at + shift
            axes.annotate(fitting(name, 190), (x, y), xytext=(10, shift),
                          textcoords="offset points", color=colour(index), va="center",
                          weight="semibold", annotation_clip=False)

    def _all(self) -> list[Point]:
        return [point for panel in self.panels for series in panel.series
                for point in series.points]
