"""Ten things that go wrong, each for real: the call must not run under any of them.

Where it can, a fault strikes in mid-run: the agent has logged in and works when it happens.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from tabard import AccessDenied, AuthenticationFailed, ConfigurationError, Session, ToolCall
from tabard.testing.board import ALLOWED
from tabard.testing.scene import Scene

Strike = Callable[[], None]
"""Makes it happen, once the run is under way."""

_LOOKUP = ToolCall("lookup", {"number": 1})


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        name: What the matrix calls it.
        codes: The codes of a refusal under it: of a tool, a model, a retrieval.
        arrange: A block in which it goes wrong when its value is called.
        on_record: Whether the refusal can be put on record: not while the log is what is broken.
    """

    name: str
    codes: tuple[str, str, str]
    arrange: Callable[[Scene], AbstractContextManager[Strike]]
    on_record: bool = True

    def code(self, kind: str) -> str:
        """The code of a refusal of a tool, model or retrieval under this fault."""
        return self.codes[("tool", "model", "retrieval").index(kind)]


@contextmanager
def _work_as(session: Session) -> Iterator[Session]:
    """A session at work: it has made a call before."""
    with session:
        session.guard.admit(ToolCall("outer", {"number": 1})).settle()
        yield session


def _at_once() -> None:
    """It is wrong from the start."""


@contextmanager
def no_identity(scene: Scene) -> Iterator[Strike]:
    """Nobody has logged in."""
    yield _at_once


@contextmanager
def forged(scene: Scene) -> Iterator[Strike]:
    """Somebody tried to log in with a token whose signature is made up."""
    head, body, signature = scene.authority.issue("able-agent").split(".")
    try:
        scene.guard.login(f"{head}.{body}.{'A' * len(signature)}")
    except AuthenticationFailed:
        yield _at_once
    else:
        raise AssertionError("a forged token was accepted")


@contextmanager
def expired(scene: Scene) -> Iterator[Strike]:
    """The token expires in mid-run."""

    def strike() -> None:
        scene.clock.now += 3_700

    with _work_as(scene.log_in()):
        yield strike


@contextmanager
def revoked(scene: Scene) -> Iterator[Strike]:
    """The agent is revoked in mid-run."""

    def strike() -> None:
        scene.authority.revoke("able-agent", reason="compromised")

    try:
        with _work_as(scene.log_in()):
            yield strike
    finally:
        with suppress(ConfigurationError):  # not banned when the fault never struck
            scene.authority.unban("able-agent", reason="the attempt is over")


@contextmanager
def denied(scene: Scene) -> Iterator[Strike]:
    """The call itself is one the policy does not allow."""
    with _work_as(scene.log_in()):
        yield _at_once


@contextmanager
def budget_gone(scene: Scene) -> Iterator[Strike]:
    """The agent spends the last of its budget in mid-run."""
    with _work_as(scene.log_in("poor-agent")) as session:

        def strike() -> None:
            scene.guard.admit(_LOOKUP, session=session).settle()

        yield strike


@contextmanager
def store_down(scene: Scene) -> Iterator[Strike]:
    """Another process takes the database in mid-run and does not let go of it."""
    database = _connection(scene)
    holder = sqlite3.connect(scene.home / "state.db", isolation_level=None, check_same_thread=False)

    def strike() -> None:
        holder.execute("BEGIN IMMEDIATE")
        database.execute("PRAGMA busy_timeout = 0")  # else each call waits for seconds

    try:
        with _work_as(scene.log_in()):
            yield strike
    finally:
        holder.close()
        database.execute("PRAGMA busy_timeout = 5000")


class _Bug(dict[str, Any]):
    """A table of rules that cannot be looked into."""

    def get(self, name: str, default: Any = None) -> Any:
        raise ZeroDivisionError


@contextmanager
def policy_bug(scene: Scene) -> Iterator[Strike]:
    """Evaluating the policy raises in mid-run; made up, as no policy is known that does."""
    policies: Any = scene.guard._policies
    sound = policies._policy

    def strike() -> None:
        policies._policy = replace(sound, agents=_Bug())

    try:
        with _work_as(scene.log_in()):
            yield strike
    finally:
        policies._policy = sound


@contextmanager
def audit_full(scene: Scene) -> Iterator[Strike]:
    """The disk runs full in mid-run: the database may not grow by another page."""
    database = _connection(scene)
    with _work_as(scene.log_in()) as session:

        def strike() -> None:
            pages = database.execute("PRAGMA page_count").fetchone()[0]
            database.execute(f"PRAGMA max_page_count = {pages}")
            with suppress(AccessDenied):
                while True:
                    scene.guard.admit(_LOOKUP, session=session)

        try:
            yield strike
        finally:
            database.execute("PRAGMA max_page_count = 1073741823")


def _connection(scene: Scene) -> sqlite3.Connection:
    store: Any = scene.guard._store
    connection: sqlite3.Connection = store._db
    return connection


_DENIED_ARGUMENT = ("arg.enum", "model.max_output_tokens", "arg.max_length")

FAULTS: dict[str, Fault] = {
    fault.name: fault
    for fault in (
        Fault(name="no identity", codes=("no_identity",) * 3, arrange=no_identity),
        Fault(name="expired", codes=("token_expired",) * 3, arrange=expired),
        Fault(name="forged", codes=("no_identity",) * 3, arrange=forged),
        Fault(name="revoked", codes=("token_revoked",) * 3, arrange=revoked),
        Fault(name="denied tool", codes=("no_grant", "model", "no_grant"), arrange=denied),
        Fault(name="denied argument", codes=_DENIED_ARGUMENT, arrange=denied),
        Fault(name="budget gone", codes=("budget",) * 3, arrange=budget_gone),
        Fault(name="store down", codes=("store",) * 3, arrange=store_down, on_record=False),
        Fault(name="policy bug", codes=("policy",) * 3, arrange=policy_bug),
        Fault(name="audit full", codes=("audit",) * 3, arrange=audit_full, on_record=False),
    )
}
"""The columns of the matrix."""


def arrange(scene: Scene, fault: str) -> AbstractContextManager[Strike]:
    """A block in which a fault is there, or, for `allowed`, a session and nothing wrong."""
    return denied(scene) if fault == ALLOWED else FAULTS[fault].arrange(scene)
