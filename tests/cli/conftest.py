"""The command line in this process: what a person types, sees, and gets as an exit code."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tabard.cli import main


@dataclass(frozen=True)
class Answer:
    """What a command has said."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        """What `--json` printed."""
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def tabard(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Answer]:
    """Runs a command on this test's home, with `stdin` typed into it."""

    def run(*arguments: object, stdin: str = "", home: Path | None = home) -> Answer:
        for name, value in {"COLUMNS": "250", "NO_COLOR": "1"}.items():
            monkeypatch.setenv(name, value)
        given = [] if home is None else ["--home", str(home)]
        monkeypatch.setattr(sys, "argv", ["tabard", *given, *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        capsys.readouterr()
        code: Any = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        out, err = capsys.readouterr()
        return Answer(code, out, err)

    return run
