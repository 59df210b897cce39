"""An SVG under construction: elements, text, and marks that tell their value when pointed at."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

WIDE = 720.0
NARROW = 340.0
COLOURS = 6  # chart.css has as many

# The width of a character at the size of a chart's text, in the widest of chart.css's fonts.
_CHARACTER = 6.9

_STYLE = Path(__file__).parent.parent / "chart.css"


@dataclass(frozen=True)
class Chart:
    slug: str
    title: str
    description: str  # what is to be seen in it, for who does not see it
    draw: Callable[["Canvas"], None]

    def inline(self) -> str:
        """Two drawings, of which the page's style shows the one that fits."""
        return "".join(_text(self._canvas(width).root) for width in (WIDE, NARROW))

    def file(self) -> str:
        root = self._canvas(WIDE).root
        root.set("xmlns", "http://www.w3.org/2000/svg")
        style = ET.Element("style")
        style.text = _STYLE.read_text(encoding="utf-8")
        root.insert(2, style)
        return _text(root) + "\n"

    def _canvas(self, width: float) -> Canvas:
        canvas = Canvas(self, width)
        self.draw(canvas)
        return canvas


class Canvas:
    def __init__(self, chart: Chart, width: float) -> None:
        self.width = width
        self.narrow = width < WIDE
        kind = "narrow" if self.narrow else "wide"
        name = f"{chart.slug}-{kind}"
        self.root = ET.Element("svg", {
            "class": f"chart {kind}", "role": "img",
            "aria-labelledby": f"{name}-title {name}-desc"})
        ET.SubElement(self.root, "title", {"id": f"{name}-title"}).text = chart.title
        ET.SubElement(self.root, "desc", {"id": f"{name}-desc"}).text = chart.description

    def set_height(self, height: float) -> None:
        self.root.set("viewBox", f"0 0 {self.width:g} {height:.4g}")
        self.root.set("width", f"{self.width:g}")
        self.root.set("height", f"{height:.4g}")

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str) -> ET.Element:
        return self._add("line", kind, x1=x1, y1=y1, x2=x2, y2=y2)

    def text(self, x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> None:
        element = self._add("text", kind, x=x, y=y)
        if anchor != "start":
            element.set("text-anchor", anchor)
        element.text = text

    def bar(self, x: float, y: float, width: float, height: float, kind: str, tip: str) -> None:
        element = self._add("rect", f"mark {kind}", x=x, y=y, width=max(width, 0.75),
                            height=height)
        _tip(element, tip)

    def path(self, points: list[tuple[float, float]], kind: str) -> None:
        steps = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._add("polyline", kind).set("points", steps)

    def area(self, points: list[tuple[float, float]], kind: str) -> None:
        steps = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._add("polygon", kind).set("points", steps)

    def dot(self, x: float, y: float, series: int, tip: str = "", radius: float = 3.6) -> None:
        """A shape of its own for each series: colour alone tells some readers nothing."""
        kind = f"mark dot {colour(series)}"
        r = radius
        shape = series % 4
        if shape == 0:
            element = self._add("circle", kind, cx=x, cy=y, r=r)
        else:
            corners = [
                [(-r, -r), (r, -r), (r, r), (-r, r)],
                [(0, -r * 1.35), (r * 1.35, 0), (0, r * 1.35), (-r * 1.35, 0)],
                [(0, -r * 1.25), (r * 1.2, r * 0.9), (-r * 1.2, r * 0.9)],
            ][shape - 1]
            element = self._add("polygon", kind)
            element.set("points", " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners))
        if tip:
            _tip(element, tip)

    def legend(self, names: list[str], y: float, x: float = 0) -> float:
        """One line, or more where it needs them; returns the height taken."""
        if len(names) < 2:
            return 0
        at, top = x, y
        for series, name in enumerate(names):
            width = 16 + text_width(name)
            if at > x and at + width > self.width:
                at, y = x, y + 18
            self.dot(at + 5, y + 8, series)
            self.text(at + 14, y + 12, name)
            at += width + 14
        return y + 22 - top

    def _add(self, tag: str, kind: str, **places: float) -> ET.Element:
        element = ET.SubElement(self.root, tag)
        if kind:
            element.set("class", kind)
        for name, value in places.items():
            element.set(name, f"{value:.1f}".removesuffix(".0"))
        return element


def colour(series: int) -> str:
    return f"c{series % COLOURS + 1}"


def text_width(text: str) -> float:
    """About, at the size of a chart's text."""
    return _CHARACTER * len(text)


def fitting(text: str, width: float) -> str:
    most = int(width / _CHARACTER)
    return text if len(text) <= most else text[: max(most - 1, 1)] + "…"


def _tip(element: ET.Element, tip: str) -> None:
    ET.SubElement(element, "title").text = tip


def _text(root: ET.Element) -> str:
    return ET.tostring(root, encoding="unicode")
