"""The command `tabard`: one file per noun, every read with `--json`.

Exit codes: 0 ok, 1 refused or tampered with, 2 unusable input.
"""

from tabard.cli.app import main

__all__ = ["main"]
