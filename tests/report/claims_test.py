# SPDX-License-Identifier: Apache-2.0
"""results/CLAIMS.md: a claim without a run that shows it does not pass."""

from __future__ import annotations

import json
import tempfile
import unittest
from pathlib import Path

from paths import ROOT
from report import claims

TABLE = "| page | words | run | figure | value | command |\n| --- | --- | --- | --- | --- | --- |\n"


class ClaimsTest(unittest.TestCase):
    def setUp(self) -> None:
        self._directory = tempfile.TemporaryDirectory()
        self.root = Path(self._directory.name)
        run = self.root / "results" / "run"
        run.mkdir(parents=True)
        (run / "context.json").write_text("{}")
        (run / "rows.json").write_text(json.dumps({"format": 1, "rows": [
            {"name": "a/floor"}, {"name": "a/row", "floor": "a/floor"},
            {"name": "a/none", "unavailable": "no such thing here"}]}))
        (run / "samples.jsonl").write_text("".join(json.dumps(one) + "\n" for one in (
            {"round": 0, "row": "a/floor", "values": {"us": [100.0]}},
            {"round": 0, "row": "a/row", "values": {"us": [123.0], "left": [2]}})))
        (self.root / "README.md").write_text("It costs 1.2 times\nas much.\n")

    def tearDown(self) -> None:
        self._directory.cleanup()

    def wrong(self, line: str) -> list[str]:
        (self.root / "results" / "CLAIMS.md").write_text(f"# Claims\n\n{TABLE}| {line} |\n")
        self.assertEqual(len(claims.read(self.root / "results" / "CLAIMS.md")), 1)
        return claims.check_all(self.root)

    def test_what_the_run_shows_holds(self) -> None:
        for figure, value in (("ratio a/row", "1.2"), ("ratio a/row", "1.23"), ("p50 a/row", "123"),
                              ("over a/row", "23"), ("p50 a/row left", "2"),
                              ("p50 a/row / p50 a/floor", "1.2"), ("p50 a/row", "1.2e2")):
            self.assertEqual(self.wrong(f"README.md | 1.2 times as much | run | `{figure}` | {value} "
                                        "| `bench/run`"), [], figure)

    def test_what_stress_wrote_is_a_figure(self) -> None:
        (self.root / "results" / "run" / "stress.json").write_text(
            '[{"unit": "keys", "curve": [], "reached": 200, "drain_ms": 1500},'
            ' {"unit": "keys", "rate_wanted": 50.0, "debt": [], "peak": 7}]')
        for figure, value in (("stress keys reached", "200"), ("storm keys/50 peak", "7"),
                              ("stress keys drain_ms / 1000", "1.5")):
            self.assertEqual(self.wrong(f"README.md | 1.2 times | run | `{figure}` | {value} | x"),
                             [], figure)
        for figure in ("stress keys peak", "storm keys/60 peak", "stress pids-max reached"):
            [found] = self.wrong(f"README.md | 1.2 times | run | `{figure}` | 7 | x")
            self.assertIn("has no", found)

    def test_what_it_does_not_show_fails(self) -> None:
        for line, says in (
                ("README.md | 1.2 times | run | ratio a/row | 1.3 | x", "is 1.23, not 1.3"),
                ("README.md | 1.3 times | run | ratio a/row | 1.2 | x", "does not say"),
                ("README.md | 1.2 times | gone | ratio a/row | 1.2 | x", "no run"),
                ("README.md | 1.2 times | run | ratio a/other | 1.2 | x", "no such row"),
                ("README.md | 1.2 times | run | ratio a/none | 1.2 | x", "no such thing here"),
                ("README.md | 1.2 times | run | mean a/row | 1.2 | x", 'has no "mean"'),
                ("README.md | 1.2 times | run | ratio a/row | fast | x", "no number"),
                ("README.md | 1.2 times | run | ratio a/row | 1.2 |", "the command"),
                ("GONE.md | 1.2 times | run | ratio a/row | 1.2 | x", "no page GONE.md")):
            found = self.wrong(line)
            self.assertEqual(len(found), 1, line)
            self.assertIn(says, found[0])

    def test_the_claims_of_this_project_hold(self) -> None:
        self.assertEqual(claims.check_all(ROOT), [])
        self.assertTrue(claims.read(ROOT / "results" / "CLAIMS.md"))


if __name__ == "__main__":
    unittest.main()
