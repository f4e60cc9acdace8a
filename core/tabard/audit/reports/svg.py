"""Draws the charts of a report as inline SVG; every text in one is escaped, colours are classes."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from tabard.audit.reports.plain import visible
from tabard.audit.reports.reading import moment
from tabard.audit.reports.report import Bar, Bars, Chart, Matrix, Timeline

_WIDTH = 760
_LABEL = 240
"""The width of the labels at the left."""
_WORDS = 190
"""That of the words at the right of a bar."""
_LINE = 24
_SHORT = 34
"""Characters of a label that fit."""
_LEVELS = 5
"""Shades of a heat cell."""


def draw(chart: Chart) -> str:
    """One chart as an SVG element."""
    if isinstance(chart, Bars):
        return _frame(chart.title, len(chart.bars) * _LINE + 4, _bars(chart))
    if isinstance(chart, Matrix):
        return _frame(chart.title, _matrix_height(chart), _matrix(chart))
    return _frame(chart.title, 190, _timeline(chart))


def _frame(title: str, height: int, parts: Iterator[str]) -> str:
    name = _safe(title)
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{name}">'
        f"<title>{name}</title>{''.join(parts)}</svg>"
    )


def _safe(text: str) -> str:
    return escape(visible(text), quote=True)


def _label(text: str, x: float, y: float, kind: str = "") -> str:
    """A text, cut to what fits; a pointer held over it shows all of it."""
    short = text if len(text) <= _SHORT else text[: _SHORT - 1] + "…"
    whole = f"<title>{_safe(text)}</title>" if short != text else ""
    return f'<text x="{x:g}" y="{y:g}" class="{kind}">{_safe(short)}{whole}</text>'


def _box(x: float, y: float, width: float, height: float, kind: str, tip: str) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
        f'class="{kind}"><title>{_safe(tip)}</title></rect>'
    )


def _bars(chart: Bars) -> Iterator[str]:
    most = max((max(bar.value, bar.limit or 0) for bar in chart.bars), default=0) or 1
    for place, bar in enumerate(chart.bars):
        yield from _bar(bar, place * _LINE + 2, most)


def _bar(bar: Bar, y: float, most: int) -> Iterator[str]:
    """A bar; against a limit it fills a frame of its own, since limits are of many sizes."""
    room = _WIDTH - _LABEL - _WORDS
    tip = f"{bar.label}: {bar.words}"
    yield _label(bar.label, _LABEL - 8, y + 15, "end")
    if bar.limit is None:
        yield _box(_LABEL, y, room * bar.value / most, _LINE - 6, "bar", tip)
    else:
        share = min(1.0, bar.value / bar.limit) if bar.limit else 1.0
        yield _box(_LABEL, y, room, _LINE - 6, "limit", tip)
        yield _box(_LABEL, y, room * share, _LINE - 6, "full" if share >= 1 else "bar", tip)
    yield _label(bar.words, _WIDTH - _WORDS + 8, y + 15)


def _matrix_height(chart: Matrix) -> int:
    return len(chart.rows) * _LINE + len(chart.columns) * 16 + 12


def _matrix(chart: Matrix) -> Iterator[str]:
    """Heat cells with their counts; the columns are named above, one line each."""
    most = max((count for line in chart.counts for count in line), default=0) or 1
    width = min(90.0, (_WIDTH - _LABEL) / max(1, len(chart.columns)))
    top = len(chart.columns) * 16 + 8
    for place, column in enumerate(chart.columns):
        x, y = _LABEL + place * width, place * 16 + 12
        yield _label(column, x - 6, y, "end") if x > _WIDTH * 0.66 else _label(column, x + 4, y)
        yield f'<path d="M{x + 1:.1f} {y - 10} V{top}" class="axis"/>'
    for line, name in enumerate(chart.rows):
        y = top + line * _LINE
        yield _label(name, _LABEL - 8, y + 15, "end")
        for place, count in enumerate(chart.counts[line]):
            level = 0 if not count else max(1, -(-count * _LEVELS // most))
            x, tip = _LABEL + place * width, f"{name}, {chart.columns[place]}: {count}"
            yield _box(x + 1, y, width - 2, _LINE - 2, f"heat{level}", tip)
            if count:
                kind = "middle light" if level > 3 else "middle"
                yield _label(str(count), x + width / 2, y + 15, kind)


def _timeline(chart: Timeline) -> Iterator[str]:
    most = max((sum(bucket) for bucket in chart.buckets), default=0) or 1
    width = (_WIDTH - 20) / max(1, len(chart.buckets))
    kinds = (("allowed", "allow"), ("asked", "ask"), ("denied", "deny"))
    for place, (word, kind) in enumerate(kinds):
        yield f'<rect x="{place * 110 + 10}" y="4" width="12" height="12" class="{kind}"/>'
        yield _label(word, place * 110 + 28, 14)
    yield _label(f"highest: {most}", _WIDTH - 10, 14, "end")
    for place, bucket in enumerate(chart.buckets):
        y = 160.0
        for count, (word, kind) in zip(bucket, kinds, strict=True):
            if count:
                height = 130 * count / most
                y -= height
                x = 10 + place * width
                yield _box(x, y, max(1.0, width - 1), height, kind, f"{count} {word}")
    yield f'<path d="M10 160.5 H{_WIDTH - 10}" class="axis"/>'
    yield _label(moment(chart.began), 10, 178)
    yield _label(moment(chart.ended), _WIDTH - 10, 178, "end")
