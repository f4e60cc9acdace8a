"""What commands print: tables for people, JSON lines for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tabard.redaction import redact

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]

Reason = Annotated[str, typer.Option(help="Why; goes into the audit log.")]
OptionalReason = Annotated[
    str | None, typer.Option("--reason", help="Why; goes into the audit log.")
]
Author = Annotated[str | None, typer.Option(help="Who decided; goes into the audit log.")]

_NEVER_FOLDED = 3
"""The columns before this one (a number, a time, a name) stay on one line."""
_PROSE = 22
"""Characters the last column gets at least: it has the words."""
_ROOMY = 100
"""Characters a terminal needs before a column can be promised any."""
_BAR = 16
"""Characters a bar is wide."""


def clean(value: object) -> str:
    """Text with nothing unseen in it: what a model wrote must not steer a terminal or an eye.

    Beside control characters that takes out those that turn the direction of writing, by which
    an approver could be shown another argument than the one that counts.
    """
    text = "" if value is None else str(value)
    return "".join(c if c.isprintable() else "?" for c in text)


def moment(seconds: float) -> str:
    """POSIX seconds as a person reads them, in UTC."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError, OSError):
        return str(seconds)  # a token may say anything of itself


def print_json(rows: Iterable[Mapping[str, Any]]) -> None:
    """One JSON object a line, ASCII only; a number that JSON cannot say (`Infinity`) as text."""
    for row in rows:
        typer.echo(json.dumps(_sayable(row), allow_nan=False))


def _sayable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _sayable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_sayable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return json.dumps(value)
    return value


def is_roomy() -> bool:
    """Whether the terminal has the room for a table of many columns."""
    return Console().width >= _ROOMY


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on standard output."""
    console = Console()
    # A column that is promised more than there is gets its words cut off.
    prose = _PROSE if console.width >= _ROOMY else None
    table = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for position, column in enumerate(columns, start=1):
        table.add_column(
            column,
            overflow="fold",
            no_wrap=position < _NEVER_FOLDED,
            min_width=prose if position == len(columns) else None,
        )
    for row in rows:
        table.add_row(*(c if isinstance(c, ProgressBar) else Text(clean(c)) for c in row))
    console.print(table)


def bar(used: int, limit: int) -> ProgressBar:
    """How much of a limit is used, as a bar for a cell of a table."""
    return ProgressBar(total=limit, completed=used, width=_BAR, finished_style="red")


def say(text: str) -> None:
    """One line on standard output."""
    Console().print(Text(clean(text)), soft_wrap=True)


def complain(text: str) -> None:
    """One line on standard error for each line of a message, without what may be a credential."""
    for line in redact(text).splitlines():
        Console(stderr=True).print(Text(f"tabard: {clean(line)}"), soft_wrap=True)
