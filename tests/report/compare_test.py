# SPDX-License-Identifier: Apache-2.0
"""bench/compare: a change is told, and noise is not."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import TextIO

from paths import ROOT, synthetic_run
from report.commits import commit_of, measure_in_turns
from report.comparison import Change, Comparison, Verdict
from report.comparison import compare as compare_findings
from report.findings import Findings
from report.run import load


def compare(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(ROOT / "bench/compare"), *arguments],
                          capture_output=True, text=True, check=False)


class CompareTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.directory = tempfile.TemporaryDirectory()
        root = Path(cls.directory.name)
        cls.first = synthetic_run(root / "first", "--rounds", "12", "--seed", "1")
        cls.again = synthetic_run(root / "again", "--rounds", "12", "--seed", "2")
        cls.slower = synthetic_run(root / "slower", "--rounds", "12", "--seed", "3",
                                   "--slower", "^spawn/brood-parked$=1.5")
        cls.short = synthetic_run(root / "short", "--rounds", "3", "--seed", "4")

    @classmethod
    def tearDownClass(cls) -> None:
        cls.directory.cleanup()

    def test_the_same_again_is_no_change(self) -> None:
        ended = compare(str(self.first), str(self.again))
        self.assertIn(" 0 worse, 0 better", ended.stdout, ended.stdout + ended.stderr)
        self.assertEqual(ended.returncode, 0)

    def test_what_got_slower_is_told_and_nothing_else(self) -> None:
        ended = compare(str(self.first), str(self.slower))
        self.assertEqual(ended.returncode, 1)
        worse = ended.stdout.partition("Worse, beyond noise:\n")[2].splitlines()[0]
        self.assertIn("spawn/brood-parked ", worse)
        self.assertIn(" 1 worse, 0 better", ended.stdout)

    def test_what_cannot_be_compared_is_a_sentence(self) -> None:
        ended = compare(str(self.first), "no-such-commit")
        self.assertEqual(ended.returncode, 2)
        self.assertIn("neither a folder of a run nor a commit", ended.stderr)

    def test_too_few_rounds_are_no_proof_of_anything(self) -> None:
        ended = compare(str(self.first), str(self.short))
        self.assertEqual(ended.returncode, 2, ended.stdout)
        self.assertIn("6 rounds or more", ended.stderr)
        self.assertIn(" 0 worse, 0 better, 0 the same, ", ended.stdout)


class CommitsTest(unittest.TestCase):
    """With a project that has the same presets and targets, and measures nothing."""

    BENCH = """#!/usr/bin/env python3
import json, pathlib, sys
words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
out = pathlib.Path(words.get("--out") or words["--resume"])
done = int(words["--rounds"]) - 1
out.mkdir(parents=True, exist_ok=("--resume" in words))
(out / "context.json").write_text("{}")
(out / "rows.json").write_text(json.dumps({"format": 1, "rows": [{"name": "b/row"}]}))
with (out / "samples.jsonl").open("a") as file:
    file.write(json.dumps({"round": done, "row": "b/row", "values": {"us": [%d]}}) + "\\n")
with (out.parent / "order").open("a") as file:
    file.write("%d ")
"""

    @unittest.skipUnless(all(map(shutil.which, ("git", "cmake", "ninja"))),
                         "needs git, cmake and ninja-build")
    def test_commits_are_built_apart_and_measured_in_turns(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            root = Path(directory)
            shutil.copy(ROOT / "CMakePresets.json", root)
            (root / ".gitignore").write_text("/build/\n")
            (root / "CMakeLists.txt").write_text(
                "cmake_minimum_required(VERSION 3.25)\nproject(none NONE)\n"
                "add_custom_target(brood)\nadd_custom_target(brood-bench COMMAND cp "
                "${PROJECT_SOURCE_DIR}/bench.py ${PROJECT_BINARY_DIR}/brood-bench)\n")
            commits = []
            for us in (100, 200):
                (root / "bench.py").write_text(self.BENCH % (us, us))
                (root / "bench.py").chmod(0o755)
                for words in (["init", "-q"], ["add", "."],
                              ["-c", "user.name=n", "-c", "user.email=e", "commit", "-qm", "c"]):
                    subprocess.run(["git", *words], cwd=root, check=True)
                commits.append(commit_of(root, "HEAD"))
            with contextlib.redirect_stderr(self.silence()):
                folders = measure_in_turns(root, commits, 6, "")
                again = measure_in_turns(root, commits[1:] * 2, 1, "b/")
            result = compare_findings(*(Findings(load(folder)) for folder in folders))
            self.assertEqual(result.having(Verdict.WORSE)[0].factor, 2)
            order = (folders[0].parent / "order").read_text().split()
            self.assertEqual(order[:8], ["100", "200", "200", "100", "100", "200", "200", "100"])
            self.assertEqual([len(load(folder).measurements) for folder in again], [1, 1])

    def silence(self) -> TextIO:
        sink = open(os.devnull, "w", encoding="utf-8")
        self.addCleanup(sink.close)
        return sink


class ComparisonTest(unittest.TestCase):
    def setUp(self) -> None:
        self._directory = tempfile.TemporaryDirectory()

    def tearDown(self) -> None:
        self._directory.cleanup()

    def findings(self, name: str, values: dict[str, dict[str, list[float]]],
                 error: str = "", kernel: str = "6.18") -> Findings:
        """A run with row -> series -> one value a round; the very last may have failed."""
        directory = Path(self._directory.name) / name
        directory.mkdir()
        (directory / "context.json").write_text(json.dumps({"kernel": {"release": kernel}}))
        rows = [{"name": row, **({"floor": "a/floor"} if row == "a/row" else {})} for row in values]
        (directory / "rows.json").write_text(json.dumps({"format": 1, "rows": rows}))
        lines = []
        for row, series in values.items():
            for number in range(max(map(len, series.values()))):
                lines.append({"round": number, "row": row, "values": {
                    key: [each[number]] for key, each in series.items()}})
        if error:
            lines[-1] = {"round": lines[-1]["round"], "row": lines[-1]["row"], "error": error}
        (directory / "samples.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
        return Findings(load(directory))

    def only(self, result: Comparison, row: str) -> Change:
        [change] = [one for one in result.changes if one.row == row]
        return change

    def test_a_slower_day_is_no_change(self) -> None:
        day = [10.0, 11, 10, 11, 10, 11, 10, 11]
        result = compare_findings(
            self.findings("a", {"a/floor": {"us": day}, "a/row": {"us": [2 * us for us in day]}}),
            self.findings("b", {"a/floor": {"us": [3 * us for us in day]},
                                "a/row": {"us": [6 * us for us in day]}}))
        self.assertEqual(self.only(result, "a/row").verdict, Verdict.SAME)
        self.assertFalse(result.worse)
        self.assertEqual([one.row for one in result.machine], ["a/floor"])

    def test_ratio_stands_in_its_interval(self) -> None:
        first = [100.0, 101, 102, 103, 104, 105, 106, 107]
        result = compare_findings(self.findings("a", {"b/row": {"us": first}}),
                                  self.findings("b", {"b/row": {"us": [2 * us for us in first]}}))
        change = self.only(result, "b/row")
        assert change.interval is not None
        # Of 8 values the 1st and the 8th: 2 * 0.5^8 = 0.8 % outside, and 7 % for the next.
        self.assertEqual((change.interval.low, change.interval.high), (200 / 107, 214 / 100))
        self.assertEqual((change.factor, change.verdict), (2, Verdict.WORSE))

    def test_a_change_within_the_rounds_own_deviation_is_none(self) -> None:
        wild = [100.0, 100, 100, 200, 200, 200, 200, 100, 150, 150]
        result = compare_findings(
            self.findings("a", {"b/row": {"us": wild}}),
            self.findings("b", {"b/row": {"us": [210.0 + n / 10 for n in range(10)]}}))
        self.assertEqual(self.only(result, "b/row").verdict, Verdict.SAME)

    def test_of_a_rate_more_is_better(self) -> None:
        lower, higher = [0.80 + n / 1000 for n in range(8)], [0.95 + n / 1000 for n in range(8)]
        a = self.findings("a", {"spawn/burst": {"rate_ratio": lower}})
        b = self.findings("b", {"spawn/burst": {"rate_ratio": higher}})
        self.assertEqual(self.only(compare_findings(a, b), "spawn/burst").verdict, Verdict.BETTER)
        self.assertEqual(self.only(compare_findings(b, a), "spawn/burst").verdict, Verdict.WORSE)

    def test_what_is_left_behind_now_is_worse(self) -> None:
        a = self.findings("a", {"b/row": {"left": [0.0, 0]}})
        b = self.findings("b", {"b/row": {"left": [0.0, 1]}})
        self.assertTrue(compare_findings(a, b).worse)
        self.assertFalse(compare_findings(b, a).worse)

    def test_a_row_that_fails_now_is_worse(self) -> None:
        us = [10.0] * 8
        a = self.findings("a", {"a/floor": {"us": us}, "a/row": {"us": us}})
        b = self.findings("b", {"a/floor": {"us": us}, "a/row": {"us": us}}, error="no such thing")
        result = compare_findings(a, b)
        self.assertTrue(result.worse)
        self.assertIn("no such thing", result.now_fail["a/row"])
        self.assertEqual(compare_findings(b, a).fail_no_more, ["a/row"])

    def test_another_kernel_is_told(self) -> None:
        rows = {"b/row": {"us": [1.0]}}
        result = compare_findings(self.findings("a", rows, kernel="6.18"),
                                  self.findings("b", rows, kernel="7.0"))
        self.assertEqual(result.contexts, ["the kernel (kernel/release): 6.18 and 7.0"])


if __name__ == "__main__":
    unittest.main()
