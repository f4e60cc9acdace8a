"""`tabard audit export|verify|key`: the log proves itself, to anyone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tabard.audit.checkpoint_file import CheckpointFile
from tabard.audit.export import export_log, new_export
from tabard.audit.export_verifier import ExportVerification, verify_export
from tabard.audit.note import MAX_NOTE
from tabard.audit.verify import Verification
from tabard.cli.output import AsJson, print_json, say
from tabard.cli.seal import Checkpoints, PrivateKey
from tabard.errors import AuditError, ConfigurationError, StoreError
from tabard.home import Home
from tabard.sealing import Seal, read_verifier_key, verify_home
from tabard.store import SqliteStore

app = typer.Typer()


@app.command()
def key(context: typer.Context, as_json: AsJson = False) -> None:
    """Show the public key that verifies this log's checkpoints and exports."""
    place = Home.locate(context.obj)
    found = read_verifier_key(place)
    if as_json:
        facts = {"key": str(found), "private_key_in_home": place.sealing_key.exists()}
        print_json([facts])
        return
    typer.echo(str(found))


@app.command()
def export(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="The file to write; must not exist.")],
    first: Annotated[int, typer.Option("--from", min=1, help="The first entry.")] = 1,
    last: Annotated[
        int | None,
        typer.Option(
            "--to", min=1, help="An entry to reach; ends at the first checkpoint from there on."
        ),
    ] = None,
    session: Annotated[str | None, typer.Option(help="Show one session's records only.")] = None,
    private: PrivateKey = None,
    checkpoints: Checkpoints = None,
    as_json: AsJson = False,
) -> None:
    """Write the log to a file that anyone with the public key can verify offline."""
    place = Home.locate(context.obj)
    if private is not None or place.sealing_key.exists():
        Seal.open(context.obj, key=private, checkpoints=checkpoints).seal()
    store, vkey = SqliteStore(place.database), read_verifier_key(place)
    kept = CheckpointFile(place.checkpoints).last()
    asked: dict[str, Any] = {"first": first, "last": last, "session": session}
    with new_export(out) as file:
        done = export_log(store, file, **asked, key=vkey, kept=None if kept is None else kept.note)
    if as_json:
        facts = {"file": str(out), "first": done.start + 1, "last": done.size, "shown": done.shown}
        print_json([{**facts, "key": str(vkey)}])
        return
    beyond = "" if last in (None, done.size) else f" (the first checkpoint from entry {last} on)"
    say(f"{out}: entries {done.start + 1} to {done.size}{beyond}, {done.shown} of them shown")
    say(f"verify it anywhere: tabard audit verify {out} --key {vkey}")


@app.command()
def verify(
    context: typer.Context,
    file: Annotated[Path | None, typer.Argument(help="An export; default the home's log.")] = None,
    keys: Annotated[
        list[str] | None, typer.Option("--key", help="The log's verifier key, or a file with it.")
    ] = None,
    known: Annotated[
        list[Path] | None, typer.Option(help="A checkpoint of this log from earlier on.")
    ] = None,
    witnesses: Annotated[
        list[str] | None, typer.Option("--witness", help="A witness's verifier key, or its file.")
    ] = None,
    quorum: Annotated[
        int | None, typer.Option("-k", min=0, help="How many witnesses it needs; default all.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check every record: nothing changed, nothing missing, nothing out of order."""
    asked: dict[str, Any] = {
        "keys": [_key(text) for text in keys or ()],
        "known": [note for path in known or () for note in _notes(path)],
        "witnesses": [_key(text) for text in witnesses or ()],
        "quorum": quorum,
    }
    try:
        if file is None:
            place = Home.locate(context.obj)
            inside = verify_home(place, SqliteStore(place.database), **asked)
            facts, limits = _facts_of_home(inside), inside.not_proven
        else:
            found = verify_export(file, **asked)
            facts, limits = _facts(found), found.not_proven
    except AuditError as error:
        if as_json:
            print_json([{"verified": False, "entry": error.entry, "reason": str(error)}])
            raise typer.Exit(1) from None
        raise
    if as_json:
        print_json([{"verified": True, **facts, "not_proven": list(limits)}])
        return
    say(str(_summary(facts)))
    for writer in facts.get("open_writers", ()):
        say(f"open: writer {writer} is still running, or ended without a closing record")
    for limit in limits:
        say(f"not proven: {limit}")


def _facts_of_home(found: Verification) -> dict[str, Any]:
    return {
        "records": found.records,
        "pruned": found.pruned,
        "sealed": found.sealed,
        "writers": found.writers,
        "open_writers": list(found.open_writers),
        "witnesses": list(found.witnesses),
        "compared_with": list(found.known),
    }


def _facts(found: ExportVerification) -> dict[str, Any]:
    return {
        "records": found.records,
        "first": found.start + 1,
        "last": found.size,
        "part": found.is_part,
        "session": found.session,
        "writers": found.writers,
        "origin": found.checkpoint.checkpoint.origin,
        "witnesses": [name for name, _ in found.checkpoint.witnesses],
        "compared_with": list(found.known),
    }


def _summary(facts: dict[str, Any]) -> str:
    by = f"by {facts['writers']} writers, none changed or missing"
    who = f"; witnessed by {', '.join(facts['witnesses'])}" if facts["witnesses"] else ""
    if "sealed" in facts:
        records, pruned = facts["records"], facts["pruned"]
        if pruned:
            records = f"{pruned + records} records, {pruned} of them pruned: of the {records} left"
            by = f"by {facts['writers']} writers none is changed or missing"
        else:
            records = f"{records} records"
        return f"verified: {records} {by}; {facts['sealed']} sealed{who}"
    which = f" of session {facts['session']}" if facts["session"] else ""
    span = f"entries {facts['first']} to {facts['last']} of {facts['origin']}"
    span += " (a part that ends before the log does)" if facts["part"] else ""
    return f"verified: {facts['records']} records{which} {by}; {span}{who}"


def _key(text: str) -> str:
    """A verifier key as given, or from the file that is named."""
    path = Path(text)
    try:
        return path.read_text("utf-8").strip() if path.is_file() else text
    except (OSError, ValueError):
        raise ConfigurationError(f"{text}: no readable verifier key") from None


def _notes(path: Path) -> list[str]:
    """The checkpoints in a file: one signed note, or a `checkpoints.log`."""
    try:
        if not path.is_file():  # a pipe could keep one waiting for ever
            raise ValueError("no file")
        with path.open(encoding="utf-8", newline="") as file:
            text = file.read(MAX_NOTE + 1)
        if not text.startswith("{"):
            return [text]
        notes = [kept.note for kept in CheckpointFile(path).read()]
    except (OSError, ValueError, StoreError):
        raise ConfigurationError(f"{path}: no readable checkpoint") from None
    except AuditError as error:
        raise ConfigurationError(str(error)) from None
    if not notes:
        raise ConfigurationError(f"{path}: no checkpoint in it")
    return notes
