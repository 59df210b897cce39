"""Many things on one axis: a dot for each median, a bar for what holds it with 95 %."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .canvas import Canvas, colour, fitting, text_width
from .scale import Linear, Scale, log_around


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
    reference: tuple[float, str] | None = None  # a line across all lanes, and its name

    def __call__(self, canvas: Canvas) -> None:
        labels = [text_width(lane.label) for lane in self.lanes]
        left = 8.0 if canvas.narrow else min(max(labels, default=0) + 14, 230)
        texts = max((text_width(self._values(lane)) for lane in self.lanes), default=0)
        right = canvas.width - (10 if canvas.narrow else texts + 16)
        top = canvas.legend(self.series, 0) + (18 if self.reference else 4)
        # On a narrow chart the label stands above its dots, which need the whole width.
        height, offset = (36, 24) if canvas.narrow else (23, 11.5)

        scale = self._scale(left, right)
        bottom = top + sum(24 if lane.head else height for lane in self.lanes)
        room = max(text_width(self.tick(tick)) for tick in scale.ticks(4)) + 16
        for tick in scale.ticks(int((right - left) / room)):
            canvas.line(scale(tick), top, scale(tick), bottom, "grid")
            canvas.text(scale(tick), bottom + 15, self.tick(tick), "tick", "middle")
        if self.reference:
            value, name = self.reference
            x = scale(value)
            canvas.line(x, top - 4, x, bottom, "reference")
            anchor = "end" if x + text_width(name) > canvas.width else "start"
            canvas.text(x + (4 if anchor == "start" else -4), top - 6, name, "quiet", anchor)
        y = top
        for lane in self.lanes:
            if lane.head:
                canvas.text(0, y + 17, lane.label, "head")
                y += 24
                continue
            self._lane(canvas, lane, scale, left, y, offset)
            y += height
        canvas.text(right, bottom + 32, self.axis, "quiet", "end")
        canvas.set_height(bottom + 38)

    def _lane(self, canvas: Canvas, lane: Lane, scale: Scale, left: float, top: float,
              offset: float) -> None:
        middle = top + offset
        quiet = " quiet" if lane.instead else ""
        if canvas.narrow:
            canvas.text(0, top + 13, fitting(lane.label, 200), "label" + quiet)
            canvas.text(canvas.width, top + 13, self._values(lane), "value" + quiet, "end")
        else:
            canvas.text(left - 14, middle + 4, fitting(lane.label, left - 12), "label" + quiet,
                        "end")
            canvas.text(canvas.width, middle + 4, self._values(lane), "value" + quiet, "end")
        canvas.line(left, middle, scale(scale.high), middle, "lane")
        # Dots of several series on one line hide each other where they agree.
        spread = 3.5 if len(lane.dots) > 1 else 0
        for i, dot in enumerate(lane.dots):
            y = middle + spread * (2 * i / max(len(lane.dots) - 1, 1) - 1)
            kind = colour(dot.series)
            if dot.whisker:
                canvas.line(scale(dot.value), y, scale(dot.whisker), y, f"whisker {kind}")
            if dot.high > dot.low:
                canvas.line(scale(dot.low), y, scale(dot.high), y, f"interval {kind}")
            name = self.series[dot.series] if self.series else ""
            canvas.dot(scale(dot.value), y, dot.series,
                       f"{lane.label}{', ' + name if name else ''}: {dot.text}")

    def _values(self, lane: Lane) -> str:
        return lane.instead or " · ".join(dot.text for dot in lane.dots)

    def _scale(self, left: float, right: float) -> Scale:
        values = [value for lane in self.lanes for dot in lane.dots
                  for value in (dot.value, dot.low, dot.high, dot.whisker) if value > 0]
        if self.reference:
            values.append(self.reference[0])
        if self.log and values:
            return log_around(values, left + 4, right)
        return Linear(0, max(values, default=1) * 1.04, left, right)
