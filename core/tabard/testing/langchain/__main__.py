"""`python -m tabard.testing.langchain --guard some.module:handler`: a guard's scoreboard."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import warnings

from tabard.errors import ConfigurationError
from tabard.testing.board import RAN, Board
from tabard.testing.langchain.guards import load_guard
from tabard.testing.langchain.scoreboard import COLUMNS, play


def main() -> int:
    """Play and print.

    Returns:
        0 when no body ran that must not, 1 when one did, 2 when there is no such guard.
    """
    parser = argparse.ArgumentParser(prog="python -m tabard.testing.langchain", description=__doc__)
    parser.add_argument("--guard", required=True, metavar="MODULE:NAME", help="handler or function")
    parser.add_argument("--json", action="store_true", help="for machines")
    options = parser.parse_args()
    logging.disable()  # LangChain logs each refusal, and frameworks their own
    warnings.simplefilter("ignore")
    try:
        boards = play(load_guard(options.guard))
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return 2
    _show(boards, as_json=options.json)
    return 1 if any(board.count(RAN) for board in boards) else 0


def _show(boards: list[Board], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({board.title: board.marks for board in boards}, indent=2))
        return
    for board in boards:
        print(*board.lines(COLUMNS), "", sep="\n")


if __name__ == "__main__":
    sys.exit(main())
