# SPDX-License-Identifier: Apache-2.0
"""The claims that the pages make, held against the runs they come from: results/CLAIMS.md.

Each line of its table is one claim:

  | page | words | run | figure | value | command |

`words` stand in the page as they are here, the number among them. `figure` is computed anew from
the run's own samples:

  p50 ROW, p90 ROW, p99 ROW          of the row's latency, in microseconds
  p50 ROW SERIES, ...                of another of its series, in the series' unit
  ratio ROW                          the row against its floor, the median of the rounds
  over ROW                           what the row takes more than its floor at p50
  stress UNIT KEY                    what brood stress wrote of a unit
  storm UNIT/RATE KEY                or of a storm at that rate
  p50 ROW / p50 OTHER                any two of these, divided; or one by a number

`value` is what comes out, as many digits as are claimed. The command measures it again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from .findings import LATENCY, Findings
from .run import ReportError, Run, load

HEADER = ["page", "words", "run", "figure", "value", "command"]


@dataclass(frozen=True)
class Claim:
    line: int
    page: str
    words: str
    run: str
    figure: str
    value: str
    command: str


def read(path: Path) -> list[Claim]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ReportError(f"Reading {path}: {error.strerror}.") from error
    claims: list[Claim] = []
    in_table = False
    for number, line in enumerate(lines, start=1):
        if not line.startswith("|"):
            in_table = False
            continue
        cells = [cell.strip().strip("`") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        cells = [cell.replace(r"\|", "|") for cell in cells]
        if cells == HEADER:
            in_table = True
        elif in_table and not all(set(cell) <= set("-: ") for cell in cells):
            if len(cells) != len(HEADER):
                raise ReportError(
                    f"{path}, line {number}, has {len(cells)} cells, not {len(HEADER)}.")
            claims.append(Claim(number, *cells))
    return claims


def check(claim: Claim, root: Path, runs: dict[str, Findings]) -> str:
    """What is wrong with a claim, as a sentence; empty when it holds."""
    where = f"CLAIMS.md, line {claim.line}:"
    page = root / claim.page
    if not page.is_file():
        return f"{where} there is no page {claim.page}."
    # A line's end in the page is a space here.
    if claim.words not in re.sub(r"\s+", " ", page.read_text(encoding="utf-8")):
        return f"{where} {claim.page} does not say \"{claim.words}\"."
    if not claim.command:
        return f"{where} it does not tell the command that shows it."
    try:
        if claim.run not in runs:
            runs[claim.run] = Findings(load(root / "results" / claim.run))
        found = evaluate(claim.figure, runs[claim.run])
        stated = number(claim.value)
    except ReportError as error:
        return f"{where} {error}"
    if abs(found - stated) > half_of_last_digit(claim.value) * (1 + 1e-9):
        return f"{where} {claim.figure} of {claim.run} is {found:.4g}, not {claim.value}."
    return ""


def number(text: str) -> float:
    try:
        return float(text.replace(",", ""))
    except ValueError as error:
        raise ReportError(f"\"{text}\" is no number.") from error


def half_of_last_digit(text: str) -> float:
    """0.05 for "1.2", 0.5 for "303"; 50 for "1.2e3"."""
    mantissa, _, exponent = text.replace(",", "").lower().partition("e")
    decimals = len(mantissa.partition(".")[2])
    return 0.5 * 10.0 ** (int(exponent or 0) - decimals)


def evaluate(figure: str, findings: Findings) -> float:
    above, slash, below = figure.partition(" / ")
    if not slash:
        return _term(above, findings)
    divisor = _term(below, findings)
    if divisor == 0:
        raise ReportError(f"{below} is 0.")
    return _term(above, findings) / divisor


def _term(text: str, findings: Findings) -> float:
    words = text.split()
    if len(words) == 1:
        return number(text)
    if len(words) not in (2, 3):
        raise ReportError(f"\"{text}\" is no figure: write p50 ROW, ratio ROW or over ROW.")
    what, row = words[0], words[1]
    if what in ("stress", "storm"):
        return _stress(what, row, words[-1], findings.run)
    series = words[2] if len(words) == 3 else LATENCY
    figures = findings.figures(row, series)
    if figures is None:
        raise ReportError(f"{row} has no {series}: {findings.why_not(row)}.")
    if what == "ratio" and figures.ratio is not None:
        return figures.ratio.value
    if what == "over":
        known = findings.row(row)
        floor = findings.figures(known.floor) if known is not None and known.floor else None
        if floor is not None:
            return figures.p50 - floor.p50
    simple = {"p50": figures.p50, "p90": figures.p90, "p99": figures.p99}.get(what)
    if simple is None:
        raise ReportError(f"{row} has no \"{what}\".")
    return simple


def _stress(what: str, name: str, key: str, run: Run) -> float:
    unit, _, rate = name.partition("/")
    for one in run.stress:
        wanted = one.get("rate_wanted") == number(rate) if what == "storm" else "curve" in one
        if one["unit"] == unit and wanted and isinstance(one.get(key), (int, float)):
            return float(one[key])
    raise ReportError(f"{run.name} has no {key} of a {what} of {name}.")


def check_all(root: Path) -> list[str]:
    runs: dict[str, Findings] = {}
    return [wrong for claim in read(root / "results" / "CLAIMS.md")
            if (wrong := check(claim, root, runs))]
