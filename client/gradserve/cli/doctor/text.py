"""A diagnosis on a terminal."""

import math
from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from gradserve import Diagnosis, Repaired, Severity
from gradserve.cli import console
from gradserve.cli.doctor.grouped import groups, samples, summary

STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.INFO: "dim"}
INDENT = 9
WORST = 5
"""Layers of a table."""


def show(diagnosis: Diagnosis) -> None:
    """Prints findings, and the layers that stand out."""
    console.show(*_parts(diagnosis))


def show_repairs(repairs: Sequence[Repaired]) -> None:
    """Prints what became of each repair."""
    rows = [
        (one.repair, "; ".join(one.done) or f"not done: {one.problem}", _change(one.change), _change(one.relative))
        for one in repairs
    ]
    columns = ["repair", "what", "largest change", "relative"]
    if rows:
        console.show("", console.table("repairs", columns, rows, right=columns[2:]))
    else:
        console.show("", "nothing to repair")


def _change(value: float) -> str:
    return "not known" if math.isnan(value) else console.number(value)


def _parts(diagnosis: Diagnosis) -> Iterator[RenderableType]:
    title = Text.assemble((f"{diagnosis.model}, version {diagnosis.version}", "bold"), f": {summary(diagnosis)}")
    yield title
    yield Text(f"{samples(diagnosis)}; sha256 {diagnosis.sha256[:12] or 'not known'}", "dim")
    for group in groups(diagnosis):
        first = group.first
        yield ""
        yield Text.assemble(
            (f"{first.severity.upper():<{INDENT}}", STYLES[first.severity]), (first.code, "bold"), f"  {group.where}"
        )
        yield Padding(Text(first.effect), (0, 0, 0, INDENT))
        for text, style in ((group.detail, "cyan"), (first.repair and f"repair: {first.repair}", "green")):
            if text:
                yield Padding(Text(text, style), (0, 0, 0, INDENT))
    yield from _layers(diagnosis)
    for note in diagnosis.notes:
        yield Text(f"\nnote: {note}", "dim")


def _layers(diagnosis: Diagnosis) -> Iterator[RenderableType]:
    if diagnosis.given and diagnosis.statistics:
        worst = sorted(diagnosis.statistics, key=lambda one: -one.conflict)[:WORST]
        rows = [(one.node, one.conflict) for one in worst]
        yield ""
        yield console.table("furthest from the data", ["node", "conflict"], rows, right=["conflict"])
    dead = [one for one in diagnosis.activity if one.dead]
    if dead:
        worst_dead = sorted(dead, key=lambda one: -one.dead)[:WORST]
        cells = [(one.node, f"{one.dead:.0%}", one.units) for one in worst_dead]
        yield ""
        yield console.table("dead ReLUs", ["node", "dead", "units"], cells, right=["dead", "units"])
