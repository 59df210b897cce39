# SPDX-License-Identifier: Apache-2.0
"""One run as brood-bench wrote it: what bench/harness/record.h tells."""

from __future__ import annotations

import json
import math
import subprocess
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

FORMAT = 1


class ReportError(Exception):
    """One sentence: what was being done, on what, and what to do about it."""


@dataclass(frozen=True)
class Row:
    name: str
    floor: str = ""
    parameters: dict[str, float] = field(default_factory=dict)
    note: str = ""
    unavailable: str = ""
    leaves_debt: bool = False
    iterations: int = 0
    every: int = 1
    steps: tuple[str, ...] = ()  # the order of its step_<name>_us series, where it is told

    @property
    def section(self) -> str:
        return self.name.split("/", 1)[0]

    @property
    def base(self) -> str:
        """The name without the parameters at its end: the same for all points of a sweep."""
        parts = self.name.split("/")
        while len(parts) > 1 and "=" in parts[-1]:
            parts.pop()
        return "/".join(parts)

    def without(self, parameter: str) -> str:
        """The name without this parameter alone: the same for all points of one line."""
        if len(self.parameters) < 2:
            return self.base
        return "/".join(part for part in self.name.split("/")
                        if not part.startswith(f"{parameter}="))


@dataclass(frozen=True)
class Measurement:
    """A row in a round."""

    round: int
    row: str
    at_s: float
    values: dict[str, list[float]]
    label: str = ""
    error: str = ""


@dataclass(frozen=True)
class Run:
    directory: Path
    context: dict[str, Any]
    rows: dict[str, Row]
    measurements: list[Measurement]
    stress: list[dict[str, Any]] = field(default_factory=list)  # what brood stress wrote
    clients: list[dict[str, Any]] = field(default_factory=list)  # what bench/functions/clients did

    @property
    def name(self) -> str:
        return self.directory.resolve().name

    @cached_property
    def by_row(self) -> dict[str, list[Measurement]]:
        rows: dict[str, list[Measurement]] = {}
        for one in self.measurements:
            rows.setdefault(one.row, []).append(one)
        return rows

    @cached_property
    def rounds(self) -> int:
        return len({one.round for one in self.measurements})

    def at(self, path: str, otherwise: Any = None) -> Any:
        """What the context holds at a path such as "kernel/hz"."""
        value: Any = self.context
        for key in path.split("/"):
            if not isinstance(value, dict) or key not in value:
                return otherwise
            value = value[key]
        return value


def load(directory: Path) -> Run:
    if not directory.is_dir():
        raise ReportError(f"There is no run in {directory}: name a folder that brood-bench wrote.")
    if not (directory / "rows.json").exists() and (directory / "samples.json").exists():
        raise ReportError(
            f"The run in {directory} was written before rows.json was: measure again with "
            "bench/run, or read the summary.md it came with."
        )
    context = _read_json(directory / "context.json")
    listed = _read_json(directory / "rows.json")
    if listed.get("format") != FORMAT:
        raise ReportError(
            f"{directory / 'rows.json'} has format {listed.get('format')}, and this reads format "
            f"{FORMAT}: use the bench/report of the commit that measured."
        )
    rows = {}
    for one in listed.get("rows", []):
        row = _row(one, directory / "rows.json")
        if row.name in rows:
            raise ReportError(f"{directory / 'rows.json'} has the row {row.name} twice.")
        rows[row.name] = row
    measurements = _read_samples(directory / "samples.jsonl", rows)
    return Run(directory, context, rows, measurements, _read_stress(directory),
               _read_clients(directory / "functions.json"))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ReportError(f"Reading {path}: {error.strerror}.") from error
    except ValueError as error:
        raise ReportError(
            f"{path} is no JSON ({error}): the run was cut short; repeat it.") from error
    if not isinstance(value, dict):
        raise ReportError(f"{path} holds no JSON object.")
    return value


def _read_stress(directory: Path) -> list[dict[str, Any]]:
    """Of all stress*.json, each of which is what one `brood stress --json` printed."""
    found: list[dict[str, Any]] = []
    for path in sorted(directory.glob("stress*.json")):
        try:
            units = json.loads(path.read_text(encoding="utf-8"))
            found += [one for one in units if isinstance(one["unit"], str)]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ReportError(
                f"{path} is not what `brood stress --json` prints: write it again.") from error
    return found


def _read_clients(path: Path) -> list[dict[str, Any]]:
    """What bench/functions/clients printed, where it was measured."""
    if not path.exists():
        return []
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        for one in found:
            if not isinstance(one["client"], str):
                raise TypeError("client")
            if "failed" not in one and "skipped" not in one:
                _ = one["connections"] + one["rate_per_s"] + one["latency_us"]["p99"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReportError(
            f"{path} is not what bench/functions/clients prints: write it again.") from error
    return list(found)


def _row(one: Any, path: Path) -> Row:
    if not isinstance(one, dict) or not isinstance(one.get("name"), str):
        raise ReportError(f"{path} has a row without a name.")
    known = {key: one[key] for key in Row.__dataclass_fields__ if key in one}
    if "steps" in known:
        known["steps"] = tuple(known["steps"])
    return Row(**known)


def _samples_text(path: Path) -> str:
    """Of the file, or of the same compressed: what is published has PATH.zst."""
    packed = path.with_name(path.name + ".zst")
    try:
        if path.exists() or not packed.exists():
            return path.read_text(encoding="utf-8")
        return subprocess.run(["zstd", "-dcq", packed], check=True, capture_output=True,
                              encoding="utf-8").stdout
    except FileNotFoundError as error:
        if error.filename == "zstd":
            raise ReportError(f"Reading {packed} takes zstd: apt install zstd.") from error
        raise ReportError(f"Reading {path}: {error.strerror}.") from error
    except OSError as error:
        raise ReportError(f"Reading {path}: {error.strerror}.") from error
    except subprocess.CalledProcessError as error:
        raise ReportError(f"{packed} is no whole file of zstd's: take it anew from git.") from error


def _read_samples(path: Path, rows: dict[str, Row]) -> list[Measurement]:
    lines = _samples_text(path).split("\n")
    # What follows the last newline is nothing, or a line that a killed run left half written.
    lines.pop()
    measurements = []
    seen = set()
    for number, line in enumerate(lines, start=1):
        where = f"{path}, line {number},"
        try:
            one = json.loads(line)
            measurement = Measurement(
                int(one["round"]),
                one["row"],
                float(one.get("at_s", 0)),
                {name: [float(value) for value in values]
                 for name, values in one.get("values", {}).items()},
                one.get("label", ""),
                one.get("error", ""),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ReportError(f"{where} is no measurement: repeat the run.") from error
        if measurement.row not in rows:
            raise ReportError(f"{where} is of {measurement.row}, which rows.json does not have.")
        if (measurement.round, measurement.row) in seen:
            raise ReportError(
                f"{where} has {measurement.row} in round {measurement.round} a second time."
            )
        for name, values in measurement.values.items():
            if not all(math.isfinite(value) for value in values):
                raise ReportError(f"{where} has a value of {name} that is no number.")
        seen.add((measurement.round, measurement.row))
        measurements.append(measurement)
    return measurements
