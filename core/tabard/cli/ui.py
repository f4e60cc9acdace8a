"""`tabard audit ui`: looks at the log in a browser."""

from __future__ import annotations

import os
import signal
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Annotated

import typer

from tabard.audit.snapshot import write_snapshot
from tabard.audit.viewer import Viewer
from tabard.cli.output import AsJson, print_json, say
from tabard.home import Home
from tabard.store import SqliteStore

app = typer.Typer()


@app.command()
def ui(
    context: typer.Context,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where; 0 takes a free one.")] = 8001,
    show: Annotated[bool, typer.Option("--open/--no-open", help="Open a browser.")] = True,
    as_json: AsJson = False,
) -> None:
    """Look at a snapshot of the log in a browser on this machine; nobody else can."""
    store = SqliteStore(Home.locate(context.obj).database)
    with _interrupted_by_sigterm(), TemporaryDirectory(prefix="tabard-") as folder:
        snapshot = Path(folder) / "log.db"
        entries = write_snapshot(store, snapshot)
        viewer = Viewer(snapshot, origin=store.origin, entries=entries, port=port)
        if as_json:
            print_json([{"url": viewer.url, "entries": entries}])
        else:
            say(f"a snapshot of {entries} entries; end with Ctrl-C")
            say(f"look at it once at {viewer.url}")
        if show:  # beside us: a browser in the terminal waits for an answer
            Thread(target=webbrowser.open, args=(viewer.url,), daemon=True).start()
        try:
            # Datasette prints a picture of itself there with every page that is not found; where
            # that is a pipe nobody reads on, it would come to a halt.
            with open(os.devnull, "w") as nothing, redirect_stdout(nothing):
                viewer.serve()
        except KeyboardInterrupt:
            return


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Whoever ends it, the snapshot goes with it."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
