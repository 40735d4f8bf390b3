"""A diagnosis as one HTML file, with its charts inside. Whatever comes from the model is escaped."""

import math
import re
from collections.abc import Iterator
from html import escape

from gradserve import Diagnosis, Repaired
from gradserve.cli import console
from gradserve.cli.doctor import svg
from gradserve.cli.doctor.grouped import groups, samples, summary

CONFLICT, MOST_CONFLICT = 1.0, 2.5
"""Where the doctor's finding begins, and where bars end."""
DEAD = 90.0
MOST_LAYERS = 64
"""Layers with a chart of their own: those furthest from the data."""

_STYLE = """
:root { --ink: #1d2733; --dim: #66727f; --line: #dfe4ea; --card: #f7f9fb; --error: #b3261e; --warning: #9a6700;
  --info: #3b6ea5; --good: #5b8fc7; --band: #c8d6e5; --mark: #c2410c; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: #fff; max-width: 60rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0; }
h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem; }
p { margin: .25rem 0; }
code { font-family: ui-monospace, monospace; font-size: .92em; }
.dim, figcaption { color: var(--dim); }
.card { background: var(--card); border-left: 4px solid; border-radius: 4px; padding: .6rem .9rem; margin: .6rem 0; }
.card.error { border-color: var(--error); }
.card.warning { border-color: var(--warning); }
.card.info { border-color: var(--info); }
.tag { font-size: .72rem; font-weight: 700; letter-spacing: .05em; text-transform: uppercase; margin-right: .6rem; }
.error .tag { color: var(--error); }
.warning .tag { color: var(--warning); }
.info .tag { color: var(--info); }
.where { margin-left: .6rem; }
table { border-collapse: collapse; width: 100%; }
th { text-align: left; font-weight: 600; color: var(--dim); }
td, th { padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
summary { cursor: pointer; color: var(--dim); }
svg { width: 100%; height: auto; }
svg text { font: 11px system-ui, sans-serif; fill: var(--ink); paint-order: stroke; stroke: #fff; stroke-width: 3px; }
svg .axis { fill: var(--dim); font-size: 10px; }
.good { fill: var(--good); }
.bad { fill: var(--error); }
.limit { stroke: var(--error); stroke-dasharray: 3 3; }
.band { fill: var(--band); }
.whisker, .mark { fill: var(--mark); }
.layers { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: .8rem; }
figure { margin: 0; border: 1px solid var(--line); border-radius: 4px; padding: .5rem; }
figcaption { font-size: .85rem; }
"""


def page(diagnosis: Diagnosis, before: Diagnosis | None = None, repairs: tuple[Repaired, ...] = ()) -> str:
    """The whole file.

    Args:
        diagnosis: What to show; after repairs, of the repaired file.
        before: The model's before that.
        repairs: What was done.
    """
    title = f"{diagnosis.model}, version {diagnosis.version}"
    body = "".join([*_head(title, diagnosis), *_repairs(before, repairs), *_findings(diagnosis), *_charts(diagnosis)])
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>doctor: {escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>{body}</body></html>\n'
    )


def _head(title: str, diagnosis: Diagnosis) -> Iterator[str]:
    yield f"<h1>{escape(title)}</h1><p><strong>{summary(diagnosis)}</strong></p>"
    yield f'<p class="dim">{samples(diagnosis)} &middot; sha256 <code>{escape(diagnosis.sha256)}</code></p>'
    for note in diagnosis.notes:
        yield f'<p class="dim">Note: {escape(note)}</p>'


def _repairs(before: Diagnosis | None, repairs: tuple[Repaired, ...]) -> Iterator[str]:
    if before is None:
        return
    yield f"<h2>Repairs</h2><p>Before: {summary(before)}.</p>"
    yield "<table><tr><th>repair</th><th>what</th><th>largest change of an output</th></tr>"
    for one in repairs:
        done = "<br>".join(map(escape, one.done)) or f"not done: {escape(one.problem)}"
        change = (
            "not known"
            if math.isnan(one.change)
            else f"{console.number(one.change)} ({one.relative:.2%} of the largest value)"
        )
        yield f"<tr><td><code>{escape(one.repair)}</code></td><td>{done}</td><td>{change}</td></tr>"
    yield "</table>"


def _findings(diagnosis: Diagnosis) -> Iterator[str]:
    yield "<h2>Findings</h2>"
    if not diagnosis.findings:
        yield "<p>None.</p>"
    for group in groups(diagnosis):
        first = group.first
        yield f'<div class="card {first.severity}"><p><span class="tag">{first.severity}</span>'
        yield f'<code>{escape(first.code)}</code><span class="where">{escape(group.where)}</span></p>'
        yield f"<p>{_words(first.effect)}</p>"
        if group.detail:
            yield f'<p class="dim">{escape(group.detail)}</p>'
        if first.repair:
            yield f"<p>Repair: {_words(first.repair)}</p>"
        if len(group.findings) > 1:
            rows = "".join(f"<tr><td>{escape(one.node)}</td><td>{escape(one.detail)}</td></tr>" for one in group.findings)
            yield f"<details><summary>all {len(group.findings)}</summary><table>{rows}</table></details>"
        yield "</div>"


def _words(text: str) -> str:
    """A sentence; what stands between backticks is code."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text))


def _charts(diagnosis: Diagnosis) -> Iterator[str]:
    if diagnosis.statistics:
        kind = "given" if diagnosis.given else "made-up (so a conflict means little)"
        yield "<h2>Running statistics and those of the data</h2>"
        yield f'<p class="dim">How far apart they are, in order of the graph; the data is {kind}.</p>'
        rows = [(one.node, one.conflict) for one in diagnosis.statistics]
        yield svg.bars(rows, most=MOST_CONFLICT, limit=CONFLICT)
        yield '<p class="dim">Each layer, furthest first. By channel, mean &plusmn; deviation: a band is what the file has, '
        yield "a mark what the data has.</p>"
        yield '<div class="layers">'
        for one in sorted(diagnosis.statistics, key=lambda one: -one.conflict)[:MOST_LAYERS]:
            yield f"<figure>{svg.channels(one)}<figcaption>{escape(one.node)}: {one.conflict:.3g}</figcaption></figure>"
        yield "</div>"
    if diagnosis.activity:
        yield '<h2>Dead units of ReLUs</h2><p class="dim">Units that are 0 for every sample, at every position.</p>'
        yield svg.bars([(one.node, 100 * one.dead) for one in diagnosis.activity], most=100, limit=DEAD, unit=" %")
