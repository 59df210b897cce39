# SPDX-License-Identifier: Apache-2.0
"""Statistics on known data, and what a run's figures are made of."""

from __future__ import annotations

import importlib.util
import json
import math
import random
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import paths  # noqa: F401
from report import stats, text
from report.findings import Findings
from report.run import ReportError, load


class StatsTest(unittest.TestCase):
    def test_percentiles_are_the_nearest_rank(self) -> None:
        hundred = [float(n) for n in range(1, 101)]
        for percent, expected in ((0, 1), (1, 1), (50, 50), (90, 90), (99, 99), (99.9, 100),
                                  (100, 100)):
            self.assertEqual(stats.percentile(hundred, percent), expected, percent)
        self.assertEqual(stats.percentile([7.0], 99), 7)
        self.assertEqual(stats.percentile([], 50), 0)

    def test_no_tail_of_too_few_values(self) -> None:
        self.assertIsNone(stats.tail([1.0] * 99, 99))
        self.assertEqual(stats.tail([1.0] * 100, 99), 1)

    def test_spread_that_outliers_do_not_move(self) -> None:
        values = [10.0, 11.0, 12.0, 13.0, 14.0, 1000.0]
        self.assertEqual(stats.median(values), 12.5)
        self.assertEqual(stats.mad(values), 1.5)
        self.assertEqual(stats.outliers(values), 1)

    def test_interval_of_the_median_by_order(self) -> None:
        # Of 9 values the 2nd and the 8th: the probability outside is 2 * (1 + 9) / 512 = 3.9 %.
        interval = stats.median_interval([float(n) for n in (9, 1, 8, 2, 7, 3, 6, 4, 5)])
        assert interval is not None
        self.assertEqual((interval.low, interval.high), (2, 8))
        self.assertIsNone(stats.median_interval([1.0, 2.0, 3.0, 4.0, 5.0]))


    def test_interval_holds_what_it_promises(self) -> None:
        # Of medians of 15 values from a lopsided distribution whose median is known, ln 2.
        draw = random.Random(1)
        held = 0
        for _ in range(1000):
            interval = stats.median_interval([draw.expovariate(1) for _ in range(15)])
            assert interval is not None
            held += interval.low <= math.log(2) <= interval.high
        self.assertGreaterEqual(held, 945)


class TextTest(unittest.TestCase):
    def test_three_digits_and_the_unit_that_needs_the_fewest(self) -> None:
        for us, said in ((0, "0 us"), (0.1234, "0.123 us"), (9.996, "10.0 us"), (857.4, "857 us"),
                         (999.6, "1.00 ms"), (12345, "12.3 ms"), (1.5e6, "1.50 s")):
            self.assertEqual(text.time(us), said)
        for value, said in ((0.9, "×0.90"), (9.997, "×10.0"), (103.4, "×103"), (1234, "×1,230")):
            self.assertEqual(text.ratio(value), said)
        self.assertEqual(text.size(150_000), "146 KiB")
        self.assertEqual(text.signed_time(-2.5), "−2.50 us")

    def test_a_series_name_tells_its_unit(self) -> None:
        for series, unit in (("us", "us"), ("reap_us", "us"), ("floor_per_s", "per_s"),
                             ("worker_bytes", "bytes"), ("rate_ratio", ""), ("left", ""),
                             ("status", "")):
            self.assertEqual(text.unit_of(series), unit, series)


class FindingsTest(unittest.TestCase):
    def setUp(self) -> None:
        self._directory = tempfile.TemporaryDirectory()
        self.run_directory = Path(self._directory.name)

    def tearDown(self) -> None:
        self._directory.cleanup()

    def findings(self, rows: list[dict], samples: list[dict]) -> Findings:
        (self.run_directory / "context.json").write_text("{}")
        (self.run_directory / "rows.json").write_text(json.dumps({"format": 1, "rows": rows}))
        (self.run_directory / "samples.jsonl").write_text(
            "".join(json.dumps(one) + "\n" for one in samples))
        return Findings(load(self.run_directory))

    def test_ratio_is_taken_in_each_round(self) -> None:
        # The third round is three times as slow for both.
        samples = []
        for number, slow in enumerate((1, 1, 3)):
            samples.append({"round": number, "row": "a/floor", "values": {"us": [10 * slow]}})
            samples.append({"round": number, "row": "a/row", "values": {"us": [20 * slow]}})
        found = self.findings([{"name": "a/floor"}, {"name": "a/row", "floor": "a/floor"}], samples)
        figures = found.figures("a/row")
        assert figures is not None and figures.ratio is not None
        self.assertEqual(figures.ratio.rounds, {0: 2, 1: 2, 2: 2})

    def test_failed_row_has_no_figure(self) -> None:
        found = self.findings(
            [{"name": "a/floor"}, {"name": "a/row", "floor": "a/floor"}],
            [{"round": 0, "row": "a/floor", "values": {"us": [10]}},
             {"round": 0, "row": "a/row", "values": {"us": [1]}},
             {"round": 1, "row": "a/row", "error": "the payload exited with status 1"}])
        self.assertIsNone(found.figures("a/row"))
        self.assertIn("status 1", found.why_not("a/row"))
        self.assertEqual(found.failed(), ["a/row"])

    def test_noise_is_the_spread_of_a_floor(self) -> None:
        floor = [{"round": n, "row": "a/floor", "values": {"us": [us]}}
                 for n, us in enumerate((90, 100, 110, 100))]
        found = self.findings([{"name": "a/floor"}, {"name": "a/row", "floor": "a/floor"}], floor)
        [noise] = found.noise()
        self.assertEqual((noise.floor, noise.rounds), ("a/floor", 4))
        self.assertAlmostEqual(noise.mad, 0.05)
        self.assertAlmostEqual(noise.spread, 0.2)

    @unittest.skipUnless(importlib.util.find_spec("matplotlib"), "needs python3-matplotlib")
    def test_a_line_of_a_sweep_keeps_its_other_parameters(self) -> None:
        from report.questions.section import sweep

        rows = [{"name": f"scale/zygotes={z}/concurrency={c}",
                 "parameters": {"zygotes": z, "concurrency": c}} for z in (1, 2) for c in (4, 1)]
        rows.append({"name": "floor/fork/parent=16MiB", "parameters": {"parent_mib": 16}})
        found = self.findings(rows, [])
        self.assertEqual(
            {base: list(points) for base, points in sweep(found, "concurrency", "scale").items()},
            {"scale/zygotes=1": [1, 4], "scale/zygotes=2": [1, 4]})
        self.assertEqual(list(sweep(found, "parent_mib", "floor")), ["floor/fork"])

    def test_half_a_line_at_the_end_is_no_measurement(self) -> None:
        found = self.findings([{"name": "a/row"}],
                              [{"round": 0, "row": "a/row", "values": {"us": [10]}}])
        with (self.run_directory / "samples.jsonl").open("a") as file:
            file.write('{"round": 1, "row": "a/r')
        self.assertEqual(len(load(self.run_directory).measurements), 1)
        self.assertEqual(found.values("a/row"), [10])

    @unittest.skipUnless(shutil.which("zstd"), "needs zstd")
    def test_compressed_samples_are_read_as_well(self) -> None:
        found = self.findings([{"name": "a/row"}],
                              [{"round": 0, "row": "a/row", "values": {"us": [10]}}])
        samples = self.run_directory / "samples.jsonl"
        subprocess.run(["zstd", "-q", "--rm", samples], check=True)
        self.assertFalse(samples.exists())
        self.assertEqual(load(self.run_directory).measurements, found.run.measurements)
        samples.with_name("samples.jsonl.zst").write_bytes(b"nonsense")
        with self.assertRaisesRegex(ReportError, "no whole file"):
            load(self.run_directory)

    def test_what_cannot_be_read_is_a_sentence(self) -> None:
        self.findings([{"name": "a/row"}], [])
        for text, says in (("nonsense\n", "line 1"),
                           ('{"round": 0, "row": "b/other", "values": {}}\n', "b/other"),
                           ('{"round": 0, "row": "a/row", "values": {"us": [NaN]}}\n', "no number")):
            (self.run_directory / "samples.jsonl").write_text(text)
            with self.assertRaisesRegex(ReportError, says):
                load(self.run_directory)
        with self.assertRaisesRegex(ReportError, "no run"):
            load(self.run_directory / "none")


if __name__ == "__main__":
    unittest.main()
