"""A report as one HTML page that needs nothing else: no script, no network, light or dark."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from tabard.audit.reports.plain import cell_text, header, visible
from tabard.audit.reports.report import Money, Report, Row, Section, Table
from tabard.audit.reports.svg import draw

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --dim: #57606a; --paper: #fff; --line: #d0d7de;
  --soft: #f6f8fa; --allow: #2f7d4f; --ask: #b7791f; --deny: #c0392b; --bar: #3467b0;
  --h1: #dbe7f6; --h2: #b3cdec; --h3: #82abdd; --h4: #4a7fc4; --h5: #245a9e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --dim: #9da7b3; --paper: #0d1117;
  --line: #30363d; --soft: #161b22; --allow: #4cae73; --ask: #d69e2e; --deny: #e5695c;
  --bar: #5b8fd9; --h1: #16263c; --h2: #1c3659; --h3: #244a7d; --h4: #3567ab; --h5: #4d86d6; } }
body { margin: 2rem auto; max-width: 78rem; padding: 0 1rem; color: var(--ink);
  background: var(--paper); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .2rem; }
p { margin: .2rem 0 .6rem; } .dim, dt { color: var(--dim); }
dl { display: grid; grid-template-columns: 8rem 1fr; gap: .1rem 1rem; margin: 1rem 0; }
dd { margin: 0; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem .3rem 0;
  border-bottom: 1px solid var(--line); overflow-wrap: anywhere; min-width: 3.5rem; }
th { color: var(--dim); font-weight: 600; overflow-wrap: normal; min-width: 0; }
td.n { font-variant-numeric: tabular-nums; white-space: nowrap; }
tr.none td { background: var(--soft); } td.mark { white-space: nowrap; }
.statement { border-left: 3px solid var(--line); padding: .3rem .8rem; background: var(--soft); }
svg { display: block; width: 100%; max-width: 60rem; margin: .6rem 0 1rem; }
svg text { fill: var(--ink); font: 12px system-ui, sans-serif; }
svg .end { text-anchor: end; } svg .middle { text-anchor: middle; } svg .light { fill: #fff; }
.bar { fill: var(--bar); } .full { fill: var(--deny); } .limit { fill: var(--soft);
  stroke: var(--line); } .allow { fill: var(--allow); } .ask { fill: var(--ask); }
.deny { fill: var(--deny); } .axis { stroke: var(--line); fill: none; }
.heat0 { fill: var(--soft); } .heat1 { fill: var(--h1); } .heat2 { fill: var(--h2); }
.heat3 { fill: var(--h3); } .heat4 { fill: var(--h4); } .heat5 { fill: var(--h5); }
@media print { body { margin: 0; max-width: none; font-size: 11px; } .scroll { overflow: visible; }
  tr, svg { break-inside: avoid; } h2 { break-after: avoid; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""What a browser lets the page do, should an escape ever be missing."""


def to_html(report: Report) -> str:
    """The page; every text in it is escaped."""
    title = _safe(report.title)
    return "\n".join(
        (
            "<!doctype html>",
            '<html lang="en">',
            '<head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}</title>",
            f"<style>{_STYLE}</style></head>",
            f"<body><h1>{title}</h1>",
            *_facts(report),
            *(line for section in report.sections for line in _section(section)),
            "</body></html>\n",
        )
    )


def _safe(text: str) -> str:
    return escape(visible(text), quote=True)


def _facts(report: Report) -> Iterator[str]:
    yield "<dl>"
    for name, words in header(report):
        yield f"<dt>{_safe(name)}</dt><dd>{_safe(words)}</dd>"
    yield "</dl>"


def _section(section: Section) -> Iterator[str]:
    yield f"<section><h2>{_safe(section.heading)}</h2>"
    yield f'<p class="dim">{_safe(section.intro)}</p>'
    if section.statement:
        yield f'<p class="statement">{_safe(section.statement)}</p>'
    yield from map(draw, section.charts)
    if section.table is not None and (section.table.rows or not section.statement):
        yield from _table(section.table)
    yield "</section>"


def _table(table: Table) -> Iterator[str]:
    if not table.rows:
        yield "<p>(none)</p>"
        return
    heads = "".join(f"<th>{_safe(name)}</th>" for name in (*table.columns, "standing", "entries"))
    yield f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>'
    yield from map(_row, table.rows)
    yield "</tbody></table></div>"


def _row(row: Row) -> str:
    cells = "".join(
        f'<td class="n">{_safe(cell_text(cell))}</td>'
        if isinstance(cell, int | Money)
        else f"<td>{_safe(cell_text(cell))}</td>"
        for cell in row.cells
    )
    kind = ' class="none"' if row.standing == "not evidenced" else ""
    return (
        f'<tr{kind}>{cells}<td class="mark">{_safe(row.standing)}</td>'
        f"<td>{_safe(row.cites.text)}</td></tr>"
    )
