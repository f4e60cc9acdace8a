"""`tabard audit ui`: looks at the log in a browser."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from threading import Thread
from typing import Annotated

import typer

from tabard.audit.snapshot import write_snapshot
from tabard.audit.viewer import Viewer
from tabard.cli.output import AsJson, print_json, say
from tabard.home import Home
from tabard.store import SqliteStore

app = typer.Typer()

_PREFIX = "tabard-ui-"
"""What the names of folders with snapshots begin with."""


@app.command()
def ui(
    context: typer.Context,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where; 0 takes a free one.")] = 8001,
    show: Annotated[bool, typer.Option("--open/--no-open", help="Open a browser.")] = True,
    as_json: AsJson = False,
) -> None:
    """Look at a snapshot of the log in a browser on this machine; nobody else can."""
    store = SqliteStore(Home.locate(context.obj).database)
    _remove_leftovers()
    with _interrupted_by_sigterm(), _folder() as folder:
        snapshot = folder / "log.db"
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
def _folder() -> Iterator[Path]:
    """A folder for the snapshot; locked, which ends with this process however it ends."""
    with TemporaryDirectory(prefix=_PREFIX) as name:
        lock = os.open(name, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield Path(name)
        finally:
            os.close(lock)


def _remove_leftovers() -> None:
    """Remove snapshots of viewers that were killed, and could not do it themselves."""
    for folder in Path(gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(lock).st_uid == os.getuid():
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Whoever ends it, the snapshot goes with it."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
