"""A report as JSON, on one line: amounts in whole nano-units, times as RFC 3339 writes them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from tabard.audit.reports.report import Cell, LogFacts, Money, Report, Row, Section


def to_json(report: Report) -> str:
    """The report as one line of ASCII JSON."""
    return json.dumps(as_object(report), allow_nan=False) + "\n"


def as_object(report: Report) -> dict[str, Any]:
    """The report as plain JSON values."""
    span, extent = report.span, report.extent
    return {
        "report": report.name,
        "title": report.title,
        "question": report.question,
        "refers_to": list(report.law),
        "span": {
            "since": _moment(span.since),
            "until": _moment(span.until),
            "session": span.session,
        },
        "found": {
            "entries": extent.entries,
            "first": extent.first or None,
            "last": extent.last or None,
            "began": _moment(extent.began),
            "ended": _moment(extent.ended),
            "not_sealed": report.unsealed,
        },
        "log": _log(report.log),
        "policy": report.policy,
        "sections": [_section(section) for section in report.sections],
    }


def _log(log: LogFacts) -> dict[str, Any]:
    sealed = {"size": log.sealed, "root": log.root} if log.sealed else None
    return {
        "origin": log.origin,
        "size": log.size,
        "pruned": log.pruned,
        "checkpoint": sealed,
        "made_at": _moment(log.made_at),
    }


def _section(section: Section) -> dict[str, Any]:
    found: dict[str, Any] = {"heading": section.heading, "intro": section.intro}
    if section.statement:
        found["statement"] = section.statement
    if section.table is not None:
        found["columns"] = list(section.table.columns)
        found["rows"] = [_row(row) for row in section.table.rows]
    return found


def _row(row: Row) -> dict[str, Any]:
    return {
        "cells": [_cell(cell) for cell in row.cells],
        "standing": row.standing,
        "entries": list(row.cites.entries),
        "more_entries": row.cites.more,
    }


def _cell(cell: Cell) -> Any:
    if isinstance(cell, Money):
        return {"amount": cell.amount, "currency": cell.currency}
    return cell


def _moment(when: datetime | None) -> str | None:
    return None if when is None else when.astimezone(UTC).isoformat().replace("+00:00", "Z")
