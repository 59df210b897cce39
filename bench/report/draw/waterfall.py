"""The phases of one spawn, one after the other, for several ways of spawning on the same axis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .canvas import Canvas, colour, fitting, text_width
from .scale import Linear


@dataclass(frozen=True)
class Phase:
    name: str
    duration: float


@dataclass(frozen=True)
class Fall:
    title: str
    total: str  # what the whole takes, as text
    phases: list[Phase]


@dataclass(frozen=True)
class Waterfall:
    falls: list[Fall]
    duration: Callable[[float], str]
    tick: Callable[[float], str]
    reference: tuple[float, str] | None = None

    def __call__(self, canvas: Canvas) -> None:
        names = [phase.name for fall in self.falls for phase in fall.phases]
        left = min(max(map(text_width, names)) + 14, 120 if canvas.narrow else 200)
        right = canvas.width - 58
        ends = [sum(phase.duration for phase in fall.phases) for fall in self.falls]
        if self.reference:
            ends.append(self.reference[0])
        scale = Linear(0, max(ends) * 1.01, left, right)
        top, step, head = 18.0, 17.0, 30.0
        bottom = top + sum(head + step * len(fall.phases) for fall in self.falls)

        for tick in scale.ticks(max(int((right - left) / 62), 2)):
            canvas.line(scale(tick), top, scale(tick), bottom, "grid")
            canvas.text(scale(tick), bottom + 15, self.tick(tick), "tick", "middle")
        if self.reference:
            value, name = self.reference
            canvas.line(scale(value), top - 4, scale(value), bottom, "reference")
            canvas.text(scale(value) + 4, top - 6, name, "quiet")

        y = top
        for index, fall in enumerate(self.falls):
            canvas.text(0, y + 20, fall.title, "head")
            canvas.text(canvas.width, y + 20, fall.total, "head", "end")
            y += head
            at = 0.0
            for phase in fall.phases:
                canvas.text(left - 8, y + 10, fitting(phase.name, left - 8), "label", "end")
                canvas.bar(scale(at), y + 1, scale(at + phase.duration) - scale(at), 11,
                           colour(index),
                           f"{fall.title}, {phase.name}: {self.duration(phase.duration)}, "
                           f"{self.duration(at)} after the request")
                canvas.text(canvas.width, y + 10, self.duration(phase.duration), "value", "end")
                at += phase.duration
                # Where the next one goes on.
                if phase is not fall.phases[-1]:
                    canvas.line(scale(at), y + 12, scale(at), y + step + 1, "step")
                y += step
        canvas.text(right, bottom + 32, "since the request", "quiet", "end")
        canvas.set_height(bottom + 38)
