# SPDX-License-Identifier: Apache-2.0
"""Many things on one axis: a dot for each median, a bar for what holds it with 95 %."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from matplotlib.axes import Axes

from .canvas import FAINT, INK, QUIET, Canvas, colour, fitting, marker, reference, text_width
from .scale import divide


@dataclass(frozen=True)
class Dot:
    series: int
    value: float
    low: float
    high: float
    text: str
    whisker: float = 0  # a thin line on to there, such as to the p99; 0: none


@dataclass(frozen=True)
class Lane:
    label: str
    dots: list[Dot] = field(default_factory=list)
    instead: str = ""  # "failed", "skipped"
    head: bool = False  # a heading over the lanes that follow


@dataclass(frozen=True)
class Dots:
    lanes: list[Lane]
    series: list[str]
    axis: str
    tick: Callable[[float], str]
    log: bool = True
    unit: float = 1  # in which the ticks of a linear axis are round
    reference: tuple[float, str] | None = None  # a line across all lanes, and its name

    def __call__(self, canvas: Canvas) -> None:
        labels = [text_width(lane.label) for lane in self.lanes if not lane.head]
        texts = max((text_width(self._values(lane)) for lane in self.lanes), default=0)
        left = 8.0 if canvas.narrow else min(max(labels, default=0) + 14, 230)
        right = canvas.width - (10 if canvas.narrow else texts + 16)
        top = canvas.legend_height(self.series) + (20 if self.reference else 6)
        # On a narrow chart the label stands above its dots, which need the whole width.
        room = 38 if canvas.narrow else 23
        heights = [26 if lane.head else room for lane in self.lanes]
        bottom = top + sum(heights)
        height = bottom + 44
        canvas.set_height(height)
        canvas.legend(self.series, height)
        axes = canvas.axes(left, top, right, bottom, height)
        axes.set_ylim(sum(heights), 0)
        axes.spines["left"].set_visible(False)
        axes.spines["bottom"].set_visible(False)
        axes.set_yticks([])
        axes.grid(axis="x")
        widest = max((text_width(self.tick(value)) for value in self._all()), default=40) + 14
        divide(axes.xaxis, self.log, self._all(), self.tick,
               max(int((right - left) / widest), 2), unit=self.unit)
        axes.set_xlabel(self.axis, loc="right")
        if self.reference:
            reference(axes, *self.reference)
        y = 0.0
        for lane, taken in zip(self.lanes, heights):
            if lane.head:
                canvas.text(0, top + y + 15, lane.label, height, weight="semibold")
            else:
                self._lane(canvas, axes, lane, left, top, y, height)
            y += taken

    def _lane(self, canvas: Canvas, axes: Axes, lane: Lane, left: float, top: float, y: float,
              height: float) -> None:
        middle = y + (27 if canvas.narrow else 11.5)
        words = QUIET if lane.instead else INK
        if canvas.narrow:
            room = canvas.width - text_width(self._values(lane)) - 10
            canvas.text(0, top + y + 9, fitting(lane.label, room), height, color=words)
        else:
            canvas.text(left - 12, top + middle, fitting(lane.label, left - 10), height,
                        color=words, ha="right")
        canvas.text(canvas.width, top + (y + 9 if canvas.narrow else middle), self._values(lane),
                    height, color=words, ha="right")
        axes.axhline(middle, color=FAINT, linewidth=1, zorder=0)
        # Dots of several series on one line hide each other where they agree.
        spread = 3.5 if len(lane.dots) > 1 else 0
        for i, dot in enumerate(lane.dots):
            at = middle + spread * (2 * i / max(len(lane.dots) - 1, 1) - 1)
            line = {"color": colour(dot.series), "solid_capstyle": "butt", "clip_on": False}
            if dot.whisker:
                axes.plot([dot.value, dot.whisker], [at, at], linewidth=1.25, **line)
            if dot.high > dot.low:
                axes.plot([dot.low, dot.high], [at, at], linewidth=5, alpha=0.4, **line)
            name = self.series[dot.series] if self.series else ""
            [mark] = axes.plot([dot.value], [at], **marker(dot.series, 7.5))
            canvas.tip(mark, f"{lane.label}{', ' + name if name else ''}: {dot.text}")

    def _values(self, lane: Lane) -> str:
        return lane.instead or " · ".join(dot.text for dot in lane.dots)

    def _all(self) -> list[float]:
        values = [value for lane in self.lanes for dot in lane.dots
                  for value in (dot.value, dot.low, dot.high, dot.whisker) if value > 0]
        return values + ([self.reference[0]] if self.reference else [])
