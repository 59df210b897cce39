"""bench/compare: a change is told, and noise is not."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from paths import ROOT, synthetic_run


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


if __name__ == "__main__":
    unittest.main()
