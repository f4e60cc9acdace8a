"""Seals the log of a prototype from within: every 64 records, or after a second.

The key then lies where those who are audited could reach it, which every verification of such a
home says. In production the key is elsewhere, and `tabard audit seal` runs there.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tabard.errors import TabardError
from tabard.notice import complain

if TYPE_CHECKING:
    from tabard.clock import Clock
    from tabard.sealing import Seal
    from tabard.store import Store

BATCH = 64
"""Records after which a checkpoint is due at once."""

DELAY = 1.0
"""Seconds a record waits for a checkpoint at most."""

_PATIENCE = 10.0
"""Seconds the end of a process waits for a checkpoint that is being made."""


class BackgroundSeal:
    """A thread that seals; it begins with the first record, and never holds up a call."""

    def __init__(self, home: Path, store: Store, clock: Clock) -> None:
        """Prepare to seal the log that `store` writes to, through a connection of its own."""
        self._home = home
        self._store = store
        self._clock = clock
        self._reset()
        _all.add(self)

    def _reset(self) -> None:
        self._waiting = 0
        self._due = threading.Event()
        self._full = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._stopped = False
        self._seal: Seal | None = None
        weakref.finalize(self, self._due.set)

    def count(self) -> None:
        """A record was written."""
        self._waiting += 1
        if self._waiting >= BATCH:
            self._full.set()
        if not self._due.is_set():
            self._due.set()
            self._begin()

    def _begin(self) -> None:
        with self._lock:
            if self._thread is None and not self._stopped:
                # It knows this object weakly: a guard that nobody closes must be able to go.
                facts = (weakref.ref(self), self._due, self._full)
                self._thread = threading.Thread(target=_run, args=facts, daemon=True)
                self._thread.start()

    def seal(self) -> None:
        """Seal what there is; what goes wrong is for the operator, not for a call."""
        self._waiting = 0
        try:
            if self._seal is None:
                from tabard.sealing import Seal  # not needed to import tabard

                self._seal = Seal.open(self._home, clock=self._clock)
            self._seal.seal()
        except TabardError as error:
            complain("the log could not be sealed: %s", error)
            self._let_go()

    def _let_go(self) -> None:
        seal, self._seal = self._seal, None
        if seal is not None:
            with suppress(TabardError):
                seal.close()

    def stop(self) -> None:
        """Close the writer, and seal its last records."""
        with self._lock:
            thread, self._stopped = self._thread, True
        with suppress(TabardError):
            self._store.close()
        if thread is None or not self._home.is_dir():
            return  # nothing was written, or the home was thrown away meanwhile
        self._full.set()
        self._due.set()
        thread.join(_PATIENCE)
        if not thread.is_alive():
            self.seal()
            self._let_go()


def _run(owner: weakref.ref[BackgroundSeal], due: threading.Event, full: threading.Event) -> None:
    while True:
        due.wait()
        full.wait(DELAY)
        due.clear()
        full.clear()
        background = owner()
        if background is None or background._stopped:
            return
        background.seal()
        del background


_all: weakref.WeakSet[BackgroundSeal] = weakref.WeakSet()


def _reset_all() -> None:
    for one in list(_all):
        one._reset()


def _stop_all() -> None:
    for one in list(_all):
        one.stop()


os.register_at_fork(after_in_child=_reset_all)
atexit.register(_stop_all)
