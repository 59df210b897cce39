# SPDX-License-Identifier: Apache-2.0
"""A chart, drawn by matplotlib for a wide and for a narrow page.

The page's colours follow its reader's day and night, which no picture can: so matplotlib draws in
stand-in colours, and in its SVG they become the names of chart.css's. Text stays text.
"""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import blended_transform_factory

WIDE = 720.0
NARROW = 340.0

INK, QUIET, FAINT, PAPER = "#010101", "#020202", "#030303", "#040404"
SERIES = [f"#1000{n:02x}" for n in range(1, 7)]  # chart.css has as many
MARKERS = ["o", "s", "D", "^"]  # colour alone tells some readers nothing

_NAMES = {INK: "var(--ink)", QUIET: "var(--quiet)", FAINT: "var(--faint)", PAPER: "var(--paper)",
          **{stand_in: f"var(--c{n})" for n, stand_in in enumerate(SERIES, start=1)}}
_STYLE = Path(__file__).parent.parent / "chart.css"
# The fonts of chart.css, since matplotlib names its own in each text.
_FONTS = "system-ui, 'Segoe UI', 'Liberation Sans', 'DejaVu Sans', sans-serif"
_SVG = "http://www.w3.org/2000/svg"
# About the width of a character at the size of a chart's text, in the widest of its fonts.
_CHARACTER = 6.9

matplotlib.rcParams.update({
    "svg.fonttype": "none", "font.size": 12, "font.family": "DejaVu Sans", "text.color": INK,
    "axes.edgecolor": QUIET, "axes.labelcolor": QUIET, "axes.labelsize": 11, "axes.linewidth": 0.8,
    "xtick.color": QUIET, "ytick.color": QUIET, "xtick.labelsize": 11, "ytick.labelsize": 11,
    "axes.facecolor": "none", "figure.facecolor": "none", "savefig.facecolor": "none",
    "axes.spines.top": False, "axes.spines.right": False, "grid.color": FAINT,
    "grid.linewidth": 1, "legend.frameon": False, "legend.fontsize": 12, "axes.axisbelow": True,
    "path.simplify": False,
})


@dataclass(frozen=True)
class Chart:
    slug: str
    title: str
    description: str  # what is to be seen in it, for who does not see it
    draw: Callable[["Canvas"], None]

    def inline(self) -> str:
        """Two drawings, of which the page's style shows the one that fits."""
        return "".join(ET.tostring(self._drawn(width), encoding="unicode")
                       for width in (WIDE, NARROW))

    def file(self) -> str:
        root = self._drawn(WIDE)
        style = ET.Element(f"{{{_SVG}}}style")
        style.text = _STYLE.read_text(encoding="utf-8")
        root.insert(2, style)
        return ET.tostring(root, encoding="unicode") + "\n"

    def _drawn(self, width: float) -> ET.Element:
        canvas = Canvas(width)
        self.draw(canvas)
        kind = "narrow" if canvas.narrow else "wide"
        name = f"{self.slug}-{kind}"
        root = canvas.svg(name)
        root.set("class", f"chart {kind}")
        root.set("role", "img")
        root.set("aria-labelledby", f"{name}-title {name}-desc")
        for place, (tag, text) in enumerate((("title", self.title), ("desc", self.description))):
            element = ET.Element(f"{{{_SVG}}}{tag}", {"id": f"{name}-{tag}"})
            element.text = text
            root.insert(place, element)
        return root


class Canvas:
    """A figure in the making. Lengths are in pixels, which an SVG's own are."""

    def __init__(self, width: float) -> None:
        self.width = width
        self.narrow = width < WIDE
        # Matplotlib's SVG has 72 units an inch.
        self.figure = Figure(figsize=(width / 72, 1))
        self._tips: list[str] = []

    def set_height(self, height: float) -> None:
        self.figure.set_size_inches(self.width / 72, height / 72)

    def axes(self, left: float, top: float, right: float, bottom: float, height: float) -> Axes:
        """Between these places, of a figure that is `height` high in the end."""
        axes = self.figure.add_axes((left / self.width, 1 - bottom / height,
                                     (right - left) / self.width, (bottom - top) / height))
        axes.tick_params(length=0, pad=5)
        return axes

    def text(self, x: float, y: float, text: str, height: float, **how: object) -> None:
        """At a place of the figure."""
        self.figure.text(x / self.width, 1 - y / height, text,
                         **{"va": "center", "color": INK, **how})

    def legend_height(self, names: list[str]) -> float:
        """What a legend takes from the top; nothing when it has nothing to tell apart."""
        return self._legend_places(names)[-1][1] + 24 if len(names) > 1 else 0.0

    def legend(self, names: list[str], height: float) -> None:
        if len(names) < 2:
            return
        for index, (name, (at, down)) in enumerate(zip(names, self._legend_places(names))):
            axes = self.axes(at, down + 2, at + 12, down + 16, height)
            axes.set_axis_off()
            axes.plot([0], [0], **marker(index, 6))
            self.text(at + 15, down + 9, name, height)

    def _legend_places(self, names: list[str]) -> list[tuple[float, float]]:
        """In lines, as words are."""
        places = []
        at = down = 0.0
        for name in names:
            width = 15 + text_width(name)
            if at > 0 and at + width > self.width:
                at, down = 0.0, down + 18
            places.append((at, down))
            at += width + 16
        return places

    def tip(self, artist: Artist, text: str) -> None:
        """What a mark tells who points at it."""
        artist.set_gid(f"tip-{len(self._tips)}")
        self._tips.append(text)

    def svg(self, name: str) -> ET.Element:
        buffer = io.StringIO()
        # The same input is the same file: no date, and names for clips from the chart's own name.
        with matplotlib.rc_context({"svg.hashsalt": name}):
            self.figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        text = buffer.getvalue()
        for stand_in, colour in _NAMES.items():
            text = text.replace(stand_in, colour)
        text = text.replace("'DejaVu Sans'", _FONTS)
        # Many drawings share one page, and so one space of names.
        text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)
        ET.register_namespace("", _SVG)
        ET.register_namespace("xlink", "http://www.w3.org/1999/xlink")
        root = ET.fromstring(text[text.index("<svg"):])
        for metadata in root.findall(f"{{{_SVG}}}metadata"):
            root.remove(metadata)
        for group in root.iter(f"{{{_SVG}}}g"):
            if match := re.fullmatch(re.escape(name) + r"-tip-(\d+)", group.get("id", "")):
                title = ET.Element(f"{{{_SVG}}}title")
                title.text = self._tips[int(match[1])]
                group.insert(0, title)
        width, height = root.get("viewBox", "0 0 0 0").split()[2:]
        root.set("width", width)
        root.set("height", height)
        return root


def colour(series: int) -> str:
    return SERIES[series % len(SERIES)]


def marker(series: int, size: float) -> dict[str, object]:
    return {"marker": MARKERS[series % len(MARKERS)], "markersize": size, "color": colour(series),
            "markeredgecolor": PAPER, "markeredgewidth": 0.8, "linestyle": "none",
            "clip_on": False}


def beside(axes: Axes) -> object:
    """Across in the axes' own share (0 to 1), down in its data."""
    return blended_transform_factory(axes.transAxes, axes.transData)


def reference(axes: Axes, value: float, name: str) -> None:
    axes.axvline(value, color=QUIET, linewidth=1, linestyle=(0, (3, 3)), zorder=1)
    axes.annotate(name, (value, 1), xycoords=axes.get_xaxis_transform(), xytext=(4, 3),
                  textcoords="offset points", color=QUIET, va="bottom", fontsize=11,
                  annotation_clip=False)


def text_width(text: str) -> float:
    """About, at the size of a chart's text."""
    return _CHARACTER * len(text)


def fitting(text: str, width: float) -> str:
    most = int(width / _CHARACTER)
    return text if len(text) <= most else text[: max(most - 1, 1)] + "…"
