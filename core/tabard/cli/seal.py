"""`tabard audit checkpoint|seal`: sign what the log looks like."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from tabard.audit.witness_client import WitnessAddress
from tabard.cli.output import AsJson, complain, print_json, say
from tabard.errors import ConfigurationError, StoreError
from tabard.sealing import Seal

app = typer.Typer()

PrivateKey = Annotated[
    Path | None, typer.Option("--key", help="The log's private key; default the one in the home.")
]

Witnesses = Annotated[
    list[str] | None,
    typer.Option("--witness", help="Who has to cosign: URL=VERIFIER-KEY; may be repeated."),
]

Checkpoints = Annotated[
    Path | None,
    typer.Option(
        help="The sealer's own file of what it has signed; default beside a key that is elsewhere."
    ),
]

_IN_HOME = "note: the log's private key lies in the home; in production keep it with the sealer"


@app.command()
def checkpoint(
    context: typer.Context,
    private: PrivateKey = None,
    checkpoints: Checkpoints = None,
    witnesses: Witnesses = None,
    as_json: AsJson = False,
) -> None:
    """Seal every record there is, and print the signed checkpoint: keep it somewhere else."""
    seal = Seal.open(
        context.obj, key=private, checkpoints=checkpoints, witnesses=_addresses(witnesses)
    )
    sealed = seal.seal()
    if sealed is None:
        raise ConfigurationError("the log is empty; there is nothing to seal")
    if as_json:
        print_json([{"size": sealed.size, "note": sealed.note, "key_in_home": seal.in_home}])
        return
    typer.echo(sealed.note, nl=False)
    if seal.in_home:
        typer.echo(_IN_HOME, err=True)


@app.command()
def seal(
    context: typer.Context,
    private: PrivateKey = None,
    checkpoints: Checkpoints = None,
    witnesses: Witnesses = None,
    every: Annotated[
        float, typer.Option(min=0.1, max=3600, help="Seconds between two checkpoints.")
    ] = 1.0,
    as_json: AsJson = False,
) -> None:
    """Seal the log again and again: the process that holds the key in production."""
    sealer = Seal.open(
        context.obj, key=private, checkpoints=checkpoints, witnesses=_addresses(witnesses)
    )
    typer.echo(f"sealing {sealer.key.name} every {every:g} s; end with Ctrl-C", err=True)
    if sealer.in_home:
        typer.echo(_IN_HOME, err=True)
    size, told = None, ""
    try:
        while True:
            try:
                sealed, trouble = sealer.seal(), ""
            except StoreError as error:  # busy, or a witness is away: the next time
                sealed, trouble = None, str(error)
            if trouble and trouble != told:
                complain(f"{trouble}; trying again every {every:g} s")
            told = trouble
            if sealed is not None and sealed.size != size:
                size = sealed.size
                if as_json:
                    print_json([{"size": size, "note": sealed.note}])
                else:
                    say(f"sealed {size} entries")
            time.sleep(every)
    except KeyboardInterrupt:
        return


def _addresses(texts: list[str] | None) -> list[WitnessAddress]:
    return [WitnessAddress.parse(text) for text in texts or ()]
