# SPDX-License-Identifier: Apache-2.0
"""Builds two commits apart from the work tree, and measures them in turns."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .run import ReportError

FAILED_ROW = 1  # brood-bench's exit status when rows failed, which the comparison tells by itself


def commit_of(root: Path, name: str) -> str:
    try:
        found = subprocess.run(["git", "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"],
                               cwd=root, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise ReportError(f"{name} is neither a folder of a run nor a commit, as far as can be "
                          "told without git.") from None
    if found.returncode != 0:
        raise ReportError(f"{name} is neither a folder of a run nor a commit.")
    return found.stdout.strip()


def measure_in_turns(root: Path, commits: list[str], rounds: int, filter: str) -> list[Path]:
    """The folders of two runs, of as many rounds each. A round of the one follows a round of the
    other, so that both have the same machine and the same hour."""
    programs = [_build(root, commit) for commit in commits]
    runs = Path(tempfile.mkdtemp(prefix=time.strftime("runs-%Y-%m-%d-"),
                                 dir=root / "build" / "compare"))
    folders = [runs / f"{letter}-{commit[:12]}" for letter, commit in zip("ab", commits)]
    only = ["--filter", filter] if filter else []
    for done in range(1, rounds + 1):
        # Who goes first changes each round.
        for i in (0, 1) if done % 2 else (1, 0):
            where = ["--out" if done == 1 else "--resume", str(folders[i])]
            _run([str(programs[i]), *where, "--rounds", str(done), *only], root,
                 f"Round {done} of {commits[i][:12]}", (0, FAILED_ROW))
    return folders


def _build(root: Path, commit: str) -> Path:
    """brood-bench of a commit, in a work tree of its own: kept, so that the next time is quick."""
    tree = root / "build" / "compare" / commit[:12]
    what = f"{commit[:12]} in {tree}"
    if not (tree / "CMakeLists.txt").exists():
        # --force: one that somebody has removed is still listed.
        _run(["git", "worktree", "add", "--force", "--detach", str(tree), commit], root,
             f"Checking out {what}")
    _run(["cmake", "--preset", "release"], tree, f"Configuring {what}")
    _run(["cmake", "--build", "--preset", "release", "--target", "brood", "brood-bench"], tree,
         f"Building {what}")
    return tree / "build" / "release" / "brood-bench"


def _run(command: list[str], where: Path, what: str, fine: tuple[int, ...] = (0,)) -> None:
    print(f"bench/compare: {what}", file=sys.stderr, flush=True)
    try:
        # What it prints is progress, for who waits.
        ended = subprocess.run(command, cwd=where, stdout=sys.stderr, check=False)
    except OSError as error:
        raise ReportError(f"{what}: {command[0]} could not be run: {error.strerror}.") from error
    if ended.returncode not in fine:
        raise ReportError(f"{what} failed: {' '.join(command)} exited with {ended.returncode}; "
                          "what it said is above.")
