"""Puts decisions into equal stretches of time, for a chart."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from tabard.audit.reports.report import Timeline

_COUNT = 48
_EFFECTS = ("allow", "ask", "deny")


def timeline(title: str, moments: Sequence[tuple[datetime, str]]) -> Timeline | None:
    """How many decisions of each effect there were when; None without any.

    Args:
        title: Of the chart.
        moments: The time and the effect of each.
    """
    if not moments:
        return None
    began, ended = min(m for m, _ in moments), max(m for m, _ in moments)
    seconds = (ended - began).total_seconds()
    counts = [[0, 0, 0] for _ in range(_COUNT)]
    for when, effect in moments:
        place = int((when - began).total_seconds() / seconds * _COUNT) if seconds else 0
        if effect in _EFFECTS:
            counts[min(place, _COUNT - 1)][_EFFECTS.index(effect)] += 1
    buckets = tuple((one[0], one[1], one[2]) for one in counts)
    return Timeline(title=title, began=began, ended=ended, buckets=buckets)
