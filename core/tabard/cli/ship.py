"""`tabard audit ship`: sends the log on to where other logs are looked at."""

from __future__ import annotations

import logging
import os
import sys
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import typer

from tabard.audit.delivery import Undelivered
from tabard.audit.destinations import open_destination
from tabard.audit.shipping import Shipping
from tabard.audit.shipping_state import Position, StateFile
from tabard.cli.output import AsJson, complain, print_json, say
from tabard.errors import ConfigurationError
from tabard.home import Home
from tabard.store import SqliteStore

app = typer.Typer()


@app.command()
def ship(
    context: typer.Context,
    form: Annotated[
        str, typer.Option("--format", help="ocsf, ecs, syslog, cloudevents, jsonl or otel.")
    ],
    to: Annotated[
        str, typer.Option(help="FILE, -, tcp://HOST:PORT, udp://HOST:PORT, or http(s)://...")
    ],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as entries come.")] = False,
    after: Annotated[
        int | None, typer.Option(min=0, help="Begin after this entry; default with the first.")
    ] = None,
    state: Annotated[
        Path | None, typer.Option(help="A file to remember in how far it got, and go on from.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send entries on; decisions never wait for it. What arrives is derived, not the evidence."""
    place = Home.locate(context.obj)
    if as_json and to == "-":
        raise ConfigurationError("audit ship: --json and --to - both want the standard output")
    store = SqliteStore(place.database)
    _keep_out_of(place, to)
    file = None if state is None else StateFile(state)
    position = _position(store, file, f"{form} {_whole(to)}", after)
    if file is not None:
        file.write(position)  # that it cannot be kept shows before anything is sent
    # What an exporter has to say is said by us, in one sentence.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL + 1)
    shipping = Shipping(
        store=store,
        destination=open_destination(form, to, sys.stdout),
        position=position,
        state=file,
        follow=follow,
        tell=complain,
    )
    _run(shipping, to, as_json=as_json)


def _run(shipping: Shipping, to: str, *, as_json: bool) -> None:
    shipped = 0
    try:
        for count in shipping.run():
            shipped += count
            if as_json and shipping.follow:
                print_json([{"shipped": shipped, "entry": shipping.position.entry}])
    except Undelivered as error:
        complain(str(error))
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        return
    if as_json:
        print_json([{"shipped": shipped, "entry": shipping.position.entry}])
    elif to != "-":
        say(f"shipped {shipped} entries, up to entry {shipping.position.entry}")


def _position(store: SqliteStore, file: StateFile | None, to: str, after: int | None) -> Position:
    """Where to begin.

    Raises:
        ConfigurationError: The state is of another log or destination, or says something else.
    """
    destination = sha256(os.fsencode(to)).hexdigest()
    found = None if file is None else file.read()
    if found is None:
        if after is not None and after > store.extent()[0]:
            raise ConfigurationError(f"audit ship: --after {after}, and the log is shorter")
        return Position(origin=store.origin, destination=destination, entry=after or 0)
    if after is not None:
        raise ConfigurationError("audit ship: --after, and a state file that says where to begin")
    if found.origin != store.origin:
        raise ConfigurationError("audit ship: the state file is of another log")
    if found.destination != destination:
        raise ConfigurationError("audit ship: the state file is of another --to or --format")
    return found


def _whole(to: str) -> str:
    return to if "://" in to or to == "-" else os.path.abspath(to)


def _keep_out_of(place: Home, to: str) -> None:
    """Refuse to add lines to a file of the home: its database, for example."""
    if "://" in to or to == "-":
        return
    target, home = os.path.realpath(to), os.path.realpath(place.path)
    database = os.path.realpath(place.database)  # and its `-wal` and `-shm`
    if Path(home) in (Path(target), *Path(target).parents) or target.startswith(database):
        raise ConfigurationError("audit ship: --to names a file in the home; choose another place")
