# SPDX-License-Identifier: Apache-2.0
"""report.html: one page that needs no network and no other file."""

from __future__ import annotations

from pathlib import Path

import jinja2
from markupsafe import Markup

from . import context
from .findings import Findings
from .questions import absent, ask_all
from .questions.section import Section, command

_HERE = Path(__file__).parent


def render(findings: Findings, sections: list[Section] | None = None) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True)
    style = "".join((_HERE / name).read_text(encoding="utf-8")
                    for name in ("chart.css", "page.css"))
    return environment.get_template("page.html").render(
        run=findings.run,
        style=Markup(style),
        sections=ask_all(findings) if sections is None else sections,
        command=lambda section: command(findings, section),
        inline=lambda chart: Markup(chart.inline()),
        warnings=context.warnings(findings),
        paragraphs=context.paragraphs(findings.run),
        noise=context.noise(findings),
        noise_in_short=context.noise_in_short(findings),
        absent=absent(findings),
        skipped={name: findings.why_not(name) for name in findings.skipped()},
    )
