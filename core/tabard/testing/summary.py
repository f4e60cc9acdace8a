"""For pytest: prints the matrix of `Conformance` at the end of a run.

`pytest_plugins = ["tabard.testing.summary"]` in the top `conftest.py` switches it on.
"""

from __future__ import annotations

from typing import Any

from tabard.testing.board import Board
from tabard.testing.faults import FAULTS


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print one table for each plugin and kind of call."""
    boards: dict[str, Board] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()):
                if name == "tabard.matrix" and report.when == "call":
                    title, path, fault, mark = value
                    boards.setdefault(title, Board(title=title)).put(path, fault, mark)
    for title in sorted(boards):
        terminalreporter.write_line("")
        for line in boards[title].lines(FAULTS):
            terminalreporter.write_line(line)
