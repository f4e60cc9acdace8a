"""`tabard witness`: stand for somebody else's log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tabard.audit.note import COSIGNATURE, NoteError, NoteKey
from tabard.audit.sealing_key import load_sealing_key, make_sealing_key
from tabard.audit.witness import Witness
from tabard.audit.witness_server import serve_witness
from tabard.cli.output import AsJson, print_json
from tabard.clock import system_clock
from tabard.errors import ConfigurationError

app = typer.Typer(help="Witness another log's checkpoints.", no_args_is_help=True)

KeyFile = Annotated[Path, typer.Option("--key", help="The private key's file, in a 0700 folder.")]
Name = Annotated[str, typer.Option(help="The witness's name, e.g. witness.example/w1.")]


@app.command()
def key(file: KeyFile, name: Name, as_json: AsJson = False) -> None:
    """Show the witness's public key; make its private key when there is none yet."""
    make_sealing_key(file)
    try:
        vkey = str(load_sealing_key(file, name=name, algorithm=COSIGNATURE).key)
    except NoteError as error:
        raise ConfigurationError(f"--name: {error}") from None
    if as_json:
        print_json([{"key": vkey}])
        return
    typer.echo(vkey)


@app.command()
def serve(
    file: KeyFile,
    name: Name,
    logs: Annotated[list[str], typer.Option("--log", help="The verifier key of a log.")],
    state: Annotated[Path, typer.Option(help="The file with what was seen; never lose it.")],
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes any.")] = 8787,
    as_json: AsJson = False,
) -> None:
    """Cosign checkpoints of some logs, and never one that goes back."""
    try:
        keys = [NoteKey.parse(text) for text in logs]
        signer = load_sealing_key(file, name=name, algorithm=COSIGNATURE)
    except NoteError as error:
        raise ConfigurationError(str(error)) from None
    witness = Witness(signer, keys, state, clock=system_clock)
    try:
        server = serve_witness(witness, host, port)
    except OSError as error:
        raise ConfigurationError(f"{host}:{port}: {error.strerror}") from None
    url = f"http://{host}:{server.server_address[1]}"
    if as_json:
        print_json([{"url": url, "key": str(witness.key)}])
    else:
        typer.echo(f"witness at {url}={witness.key}")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()
