# SPDX-License-Identifier: Apache-2.0
"""summary.md: the same answers and tables as the page, where only text can be read."""

from __future__ import annotations

from . import context
from .findings import Findings
from .questions import absent, ask_all
from .questions.section import Section, command
from .table import markdown


def render(findings: Findings, sections: list[Section] | None = None) -> str:
    run = findings.run
    sections = ask_all(findings) if sections is None else sections
    lines = [f"# What isolation costs: {run.at('machine', run.name)}", ""]
    for warning in context.warnings(findings):
        lines += [f"> **Warning:** {warning}", ""]
    lines += ["| question | answer |", "| --- | --- |"]
    lines += [f"| {section.question} | {_cell(section.answer)} |" for section in sections]
    lines += ["", "The same with charts is in report.html.", ""]
    for section in sections:
        lines += [f"## {section.question}", "", section.answer, ""]
        for table in section.tables:
            lines += [markdown(table)]
        lines += [section.method, "", f"To reproduce: `{command(findings, section)}`", ""]
    lines += ["## The run", ""]
    for paragraph in context.paragraphs(run):
        lines += [paragraph, ""]
    lines += [context.noise(findings), ""]
    missing = absent(findings)
    if missing:
        lines += ["This run does not hold:", ""]
        lines += [f"- {name}: {why}" for name, why in missing.items()]
        lines.append("")
    return "\n".join(lines)


def _cell(said: str) -> str:
    return said.replace("|", "\\|")
