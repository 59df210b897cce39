# SPDX-License-Identifier: Apache-2.0
"""The page, as a browser shows it. Exits with 77 where there is none."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import browser
from paths import ROOT, synthetic_run

# Of every drawing that is shown: its chart, whether it has a size, and how many marks are in it.
DRAWINGS = """
return [...document.querySelectorAll('svg')].filter(svg => svg.getClientRects().length)
  .map(svg => ({title: svg.querySelector('title')?.textContent || '',
                width: svg.getBBox().width, height: svg.getBBox().height,
                marks: [...svg.querySelectorAll('path, circle, rect, line, polyline, use')]
                  .filter(mark => mark.getBBox().width + mark.getBBox().height > 0).length,
                words: [...svg.querySelectorAll('text')].map(text => text.textContent).join(' ')}))
"""


class PageTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.directory = tempfile.TemporaryDirectory()
        run = synthetic_run(Path(cls.directory.name) / "run", "--rounds", "8")
        subprocess.run([sys.executable, str(ROOT / "bench/report/make"), str(run)], check=True,
                       stdout=subprocess.DEVNULL)
        cls.run_directory = run
        cls.page = run / "report.html"
        cls.charts = len(list((run / "charts").glob("*.svg")))
        cls.browser = browser.Browser().__enter__()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.browser.__exit__(None, None, None)
        cls.directory.cleanup()

    def test_every_chart_draws_wide_and_narrow_in_light_and_dark(self) -> None:
        for width in (1200, 360):
            for dark in (False, True):
                self.browser.open(self.page, width, dark=dark)
                drawings = self.browser.run(DRAWINGS)
                self.assertEqual(len(drawings), self.charts, f"{width} {dark}")
                for drawing in drawings:
                    self.assertTrue(drawing["title"])
                    self.assertGreater(drawing["width"], 100, drawing["title"])
                    self.assertGreater(drawing["height"], 30, drawing["title"])
                    self.assertGreater(drawing["marks"], 2, drawing["title"])
                    self.assertTrue(drawing["words"], drawing["title"])
                self.assertEqual(self.browser.console(), [])

    def test_nothing_is_wider_than_a_phone(self) -> None:
        self.browser.open(self.page, 360)
        self.assertLessEqual(
            self.browser.run("return document.documentElement.scrollWidth"), 360)

    def test_text_can_be_read_in_the_dark(self) -> None:
        self.browser.open(self.page, 1200, dark=True)
        colours = self.browser.run(
            "const shown = [getComputedStyle(document.body).color,"
            " getComputedStyle(document.documentElement).backgroundColor,"
            " getComputedStyle(document.body).backgroundColor];"
            "return shown.map(colour => colour.match(/[0-9.]+/g).map(Number))")
        text, *backgrounds = ((sum(colour[:3]), colour[3] if len(colour) > 3 else 1)
                              for colour in colours)
        background = next(light for light, opaque in reversed(backgrounds) if opaque)
        self.assertGreater(text[0] - background, 300, colours)

    def test_it_needs_no_network(self) -> None:
        text = self.page.read_text(encoding="utf-8")
        for reference in (' src="', 'href="http', "url(http", "@import"):
            self.assertNotIn(reference, text)

    def test_failures_and_gaps_are_told(self) -> None:
        summary = (self.run_directory / "summary.md").read_text(encoding="utf-8")
        self.assertIn("failed", summary)
        self.assertIn("skipped", summary)


    def test_a_failed_row_is_never_a_figure(self) -> None:
        for width in (1200, 360):
            self.browser.open(self.page, width)
            # Its line in each table has a sentence and no other cell; its lane in a chart a word.
            lines = self.browser.run("""
                return [...document.querySelectorAll('#peers tbody tr')]
                  .filter(line => line.firstElementChild.textContent.startsWith('firejail'))
                  .map(line => [...line.querySelectorAll('td')].map(cell => cell.textContent))""")
            self.assertIn(["failed in 4 of 8 rounds: firejail ended with status 1: cannot mount "
                           "/proc"], lines)
            tips = self.browser.run("return [...document.querySelectorAll('#peers svg title')]"
                                    ".map(title => title.textContent)")
            self.assertTrue([tip for tip in tips if tip.startswith("minijail:")])
            self.assertFalse([tip for tip in tips if tip.startswith("firejail:")])

    def test_tables_have_captions_and_charts_are_described(self) -> None:
        self.browser.open(self.page, 1200)
        self.assertEqual(self.browser.run(
            "return [...document.querySelectorAll('table')]"
            ".filter(one => !one.caption?.textContent).length"), 0)
        self.assertEqual(self.browser.run("""
            return [...document.querySelectorAll('svg')].filter(svg =>
              svg.getAttribute('role') !== 'img' ||
              svg.getAttribute('aria-labelledby').split(' ').some(
                name => !document.getElementById(name)?.textContent)).length"""), 0)
        self.assertEqual(self.browser.run("""
            const names = [...document.querySelectorAll('[id]')].map(one => one.id);
            return names.filter((name, at) => names.indexOf(name) !== at)"""), [])

    def test_paper_has_what_the_screen_folds_away(self) -> None:
        self.browser.open(self.page, 1200)
        self.browser.run("window.dispatchEvent(new Event('beforeprint'))")
        self.assertEqual(self.browser.run(
            "return document.querySelectorAll('details:not([open])').length"), 0)
        self.browser.open(self.page, 700, dark=True, media="print")
        self.assertEqual(self.browser.run("return getComputedStyle(document.documentElement)"
                                          ".backgroundColor"), "rgb(255, 255, 255)")
        self.assertEqual(self.browser.run(
            "return [...document.querySelectorAll('svg.narrow')]"
            ".filter(svg => svg.getClientRects().length).length"), 0)

    def test_what_was_not_measured_is_left_out_and_said(self) -> None:
        run = synthetic_run(Path(self.directory.name) / "part", "--rounds", "2", "--only", "wait")
        subprocess.run([sys.executable, str(ROOT / "bench/report/make"), str(run)], check=True,
                       stdout=subprocess.DEVNULL)
        self.browser.open(run / "report.html", 360)
        self.assertEqual(self.browser.run(
            "return [...document.querySelectorAll('main > section')].map(one => one.id)"),
            ["wait", "run"])
        self.assertIn("peer: this run has no such rows",
                      self.browser.run("return document.querySelector('#run').innerText"))
        self.assertEqual([chart.name for chart in (run / "charts").iterdir()],
                         ["wait-children.svg"])

    def test_what_cannot_be_made_is_a_sentence(self) -> None:
        for directory in ("/no/such/run", str(ROOT / "bench")):
            ended = subprocess.run(
                [sys.executable, str(ROOT / "bench/report/make"), directory],
                capture_output=True, text=True, check=False)
            self.assertEqual(ended.returncode, 2)
            self.assertRegex(ended.stderr, r"^bench/report/make: .*\.\n$")


def missing() -> str:
    packages = [f"python3-{name}" for name in ("jinja2", "matplotlib")
                if importlib.util.find_spec(name) is None]
    return " ".join([*packages, *filter(None, [browser.missing()])])


if __name__ == "__main__":
    if packages := missing():
        print(f"skipped: needs {packages}")
        sys.exit(77)
    unittest.main()
