# SPDX-License-Identifier: Apache-2.0
"""The phases of one spawn, one after the other, for several ways of spawning on the same axis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .canvas import QUIET, Canvas, colour, fitting, reference, text_width
from .scale import divide


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
        right = canvas.width - 62
        ends = [sum(phase.duration for phase in fall.phases) for fall in self.falls]
        top, step, head = 20.0, 17.0, 30.0
        bottom = top + sum(head + step * len(fall.phases) for fall in self.falls)
        height = bottom + 44
        canvas.set_height(height)
        axes = canvas.axes(left, top, right, bottom, height)
        axes.set_ylim(bottom - top, 0)
        axes.spines["left"].set_visible(False)
        axes.spines["bottom"].set_visible(False)
        axes.set_yticks([])
        axes.grid(axis="x")
        divide(axes.xaxis, False, [*ends, self.reference[0] if self.reference else 0], self.tick,
               max(int((right - left) / 70), 2), 0.01)
        axes.set_xlabel("since the request", loc="right")
        if self.reference:
            reference(axes, *self.reference)
        y = 0.0
        for index, fall in enumerate(self.falls):
            canvas.text(0, top + y + 18, fall.title, height, weight="semibold")
            canvas.text(canvas.width, top + y + 18, fall.total, height, weight="semibold",
                        ha="right")
            y += head
            at = 0.0
            for phase in fall.phases:
                middle = y + step / 2
                canvas.text(left - 8, top + middle, fitting(phase.name, left - 8), height,
                            ha="right")
                canvas.text(canvas.width, top + middle, self.duration(phase.duration), height,
                            ha="right")
                [bar] = axes.barh(middle, phase.duration, 11, at, color=colour(index))
                canvas.tip(bar, f"{fall.title}, {phase.name}: {self.duration(phase.duration)}, "
                                f"{self.duration(at)} after the request")
                at += phase.duration
                # Where the next one goes on.
                if phase is not fall.phases[-1]:
                    axes.plot([at, at], [middle, middle + step], color=QUIET, linewidth=0.75,
                              zorder=1)
                y += step
