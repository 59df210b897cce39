# SPDX-License-Identifier: Apache-2.0
"""Where the code under test is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "bench"))


def synthetic_run(directory: Path, *arguments: str) -> Path:
    """A run that nobody measured, with everything in it."""
    subprocess.run([sys.executable, str(ROOT / "tests/report/synthetic.py"), str(directory),
                    *arguments], check=True, stdout=subprocess.DEVNULL)
    return directory
