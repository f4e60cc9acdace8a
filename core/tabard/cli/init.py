"""`tabard init`: a home, and a policy to begin with."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from tabard.authority import Authority
from tabard.cli.output import say
from tabard.errors import ConfigurationError
from tabard.home import DEFAULT_HOME, is_there
from tabard.policy.schema import FILE_NAME, published_schema

POLICY, CASES = "policy.yaml", "policy.test.yaml"


def init(
    context: typer.Context,
    trust_domain: Annotated[
        str, typer.Option(help="Whose agents these are, for example acme.example.")
    ],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where.")] = Path(),
) -> None:
    """Create a home, a policy to begin with, its tests, and the schema for the editor."""
    texts = {
        POLICY: _starter(POLICY),
        FILE_NAME: published_schema(),
        CASES: _starter(CASES),
    }
    # All are looked at before one is written: half a policy is worse than none.
    for name in texts:
        path = directory / name
        if is_there(path) or path.is_symlink():
            raise ConfigurationError(f"{path}: is there already and is not overwritten")
    home = context.obj or directory / DEFAULT_HOME
    Authority.open(home, trust_domain=trust_domain).close()
    for name, text in texts.items():
        _write(directory / name, text)
    for made in (home, *(directory / name for name in texts)):
        say(str(made))
    say(f"next: tabard --home {home} policy apply {directory / POLICY}")


def _starter(name: str) -> str:
    return files("tabard.cli").joinpath("starter", name).read_text(encoding="utf-8")


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:  # refused when it has come meanwhile
            file.write(text)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be written: {error.strerror}") from None
