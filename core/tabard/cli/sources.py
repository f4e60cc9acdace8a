"""Where a command takes its policy from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tabard.errors import ConfigurationError
from tabard.policies import CentralPolicy
from tabard.policy import Policy, load
from tabard.store import Store

PolicyOption = Annotated[
    Path | None,
    typer.Option(
        "--policy",
        envvar="TABARD_POLICY",
        metavar="FILE",
        help="A policy file; default the one in force.",
    ),
]


def chosen_policy(store: Store | None, file: Path | None) -> Policy:
    """The policy of a file, else the one in force.

    Raises:
        ConfigurationError: The file has problems, or no policy was ever applied.
    """
    if file is not None:
        return load(file)
    if store is None:
        raise ConfigurationError("no home here and no --policy, so no policy to look at")
    return CentralPolicy(store).current()
