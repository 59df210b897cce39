"""One quantity against another, in one panel or several with the same axes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .canvas import Canvas, colour, fitting, text_width
from .scale import Linear, Log, Scale, log_around


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
        top = 0.0 if direct else canvas.legend(names, 0)
        canvas.text(0, top + 12, self.y_axis, "quiet")
        top += 24

        y_room = max(text_width(self.y_tick(tick)) for tick in self._y(1, 0).ticks(5)) + 10
        name_room = max(map(text_width, names)) + 14 if direct and len(names) > 1 else 16
        columns = 1 if canvas.narrow else len(self.panels)
        gap = 18.0
        width = (canvas.width - y_room - min(name_room, 200) - gap * (columns - 1)) / columns
        height = (170.0 if len(self.panels) > 1 else 220.0) if canvas.narrow else 240.0
        bottom = top
        for i, panel in enumerate(self.panels):
            left = y_room + (0 if canvas.narrow else i * (width + gap))
            if canvas.narrow and i:
                top = bottom + 34
            if len(self.panels) > 1:
                canvas.text(left, top + 10, panel.title, "head")
            bottom = top + height
            self._panel(canvas, panel, names, (left, left + width),
                        (top + (20 if len(self.panels) > 1 else 4), bottom),
                        with_y=canvas.narrow or i == 0, direct=direct and len(names) > 1)
        canvas.text(canvas.width - (0 if columns > 1 or canvas.narrow else min(name_room, 200)),
                    bottom + 33, self.x_axis, "quiet", "end")
        canvas.set_height(bottom + 40)

    def _panel(self, canvas: Canvas, panel: Panel, names: list[str], across: tuple[float, float],
               down: tuple[float, float], with_y: bool, direct: bool) -> None:
        x, y = self._x(*across), self._y(down[1], down[0])
        for tick in y.ticks(6):
            canvas.line(across[0], y(tick), across[1], y(tick), "grid")
            if with_y:
                canvas.text(across[0] - 7, y(tick) + 4, self.y_tick(tick), "tick", "end")
        canvas.line(across[0], down[1], across[1], down[1], "axis")
        taken = -1e9
        for tick in self._x_ticks(x, across[1] - across[0]):
            half = text_width(self.x_tick(tick)) / 2
            canvas.line(x(tick), down[1], x(tick), down[1] + 4, "axis")
            if x(tick) - half > taken:
                canvas.text(x(tick), down[1] + 17, self.x_tick(tick), "tick", "middle")
                taken = x(tick) + half + 6

        ends = []
        for series in panel.series:
            index = names.index(series.name)
            kind = colour(index)
            points = series.points
            if not points:
                continue
            if len(points) > 1 and any(point.high > point.low for point in points):
                canvas.area([(x(p.x), y(p.high)) for p in points]
                            + [(x(p.x), y(p.low)) for p in reversed(points)], f"band {kind}")
            canvas.path([(x(p.x), y(p.y)) for p in points],
                        f"line {kind}{' dashed' if series.dashed else ''}")
            for point in points:
                canvas.dot(x(point.x), y(point.y), index, f"{series.name}, {point.text}", 3)
            ends.append((y(points[-1].y), x(points[-1].x), series.name, index))
        if direct:
            self._name_ends(canvas, ends)

    def _name_ends(self, canvas: Canvas, ends: list[tuple[float, float, str, int]]) -> None:
        """Moves names apart that would overlap."""
        below = -1e9
        for at, x, name, index in sorted(ends):
            at = max(at, below + 15)
            below = at
            canvas.text(x + 10, at + 4, fitting(name, 190), f"name {colour(index)}")

    def _all(self) -> list[Point]:
        return [point for panel in self.panels for series in panel.series
                for point in series.points]

    def _x(self, start: float, end: float) -> Scale:
        values = [point.x for point in self._all()]
        if self.log_x and min(values) > 0:
            return log_around(values, start, end, 0.03)
        return Linear(min(0, *values) if len(values) > 1 else 0, max(values) * 1.02, start, end)

    def _y(self, start: float, end: float) -> Scale:
        values = [value for point in self._all() for value in (point.y, point.low, point.high)
                  if value > 0 or not self.log_y]
        if self.log_y:
            return log_around(values, start, end, 0.05)
        return Linear(0, max(values) * 1.05, start, end)

    def _x_ticks(self, scale: Scale, width: float) -> list[float]:
        """The measured places themselves, where there are few of them."""
        places = sorted({point.x for point in self._all()})
        if isinstance(scale, Log) or len(places) <= width / 40:
            return places
        return scale.ticks(int(width / 38))
