"""Any history of a log verifies; and any change of what it has become is found."""

from __future__ import annotations

import os
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tabard import AuditError, Authority, ConfigurationError, Guard, ToolCall
from tabard.audit import independent_verifier, verify_export
from tabard.audit.export import export_log, open_export
from tabard.home import Home
from tabard.retention import Retention
from tabard.sealing import Seal, read_verifier_key, verify_home
from tabard.store import SqliteStore
from tabard.subject import Subjects

POLICY = """\
version: 1
tools: {crm.read: {capture: {args: [customer], result: true}}}
agents: {clerk: {grants: [{tools: [crm.read], unknown_args: allow}]}}
"""
CALL = ToolCall("crm.read", {"customer": "Doe"})
DAY = 86_400.0


class History(RuleBasedStateMachine):
    """Appends, forks, crashes, seals, erases, prunes, exports and verifies, in any order."""

    @initialize()
    def found(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="tabard-history-"))
        self.home = self.root / "home"
        self.now = 1_800_000_000.0
        self.authority = Authority.open(
            self.home, trust_domain="acme.example", clock=lambda: self.now
        )
        self.authority.register("clerk", team="desk", environment="prod")
        self.seal = Seal.open(self.home, clock=lambda: self.now)
        self.kept: list[str] = []
        self.users: set[str] = set()
        self.open()

    def open(self) -> None:
        self.guard = Guard.open(self.home, policy=POLICY, clock=lambda: self.now)
        # Sealed only when a rule says so, or no history could be told twice.
        self.guard._background = None
        self.guard._store.on_commit = None  # type: ignore[attr-defined]

    def call(self, guard: Guard, user: str | None) -> None:
        session = guard.login(self.authority.issue("clerk"), on_behalf_of=user)
        with guard.admit(CALL, session=session) as permit:
            permit.settle({"found": 1})
        session.close()

    @rule(user=st.sampled_from([None, "jane", "john"]), times=st.integers(1, 4))
    def append(self, user: str | None, times: int) -> None:
        for _ in range(times):
            self.call(self.guard, user)
        if user is not None:
            self.users.add(user)

    @rule()
    def reopen(self) -> None:
        self.guard.close()
        self.open()

    @rule(kill=st.booleans())
    def fork(self, kill: bool) -> None:
        """A child writes, and ends as it should or is killed."""
        child = os.fork()
        if child == 0:
            try:
                self.call(self.guard, None)
                if kill:
                    os.kill(os.getpid(), 9)
                self.guard.close()
            finally:
                os._exit(0)
        os.waitpid(child, 0)

    @rule()
    def checkpoint(self) -> None:
        sealed = self.seal.seal()
        assert sealed is not None
        self.kept.append(sealed.note)

    @precondition(lambda self: self.users)
    @rule()
    def erase(self) -> None:
        user = self.users.pop()
        Subjects(store=self.guard._store, clock=lambda: self.now).erase(user=user, reason="asked")

    @rule(days=st.integers(1, 400))
    def wait(self, days: int) -> None:
        self.now += days * DAY

    @rule()
    def prune(self) -> None:
        retention = Retention(store=self.guard._store, clock=lambda: self.now)
        try:
            plan = retention.plan(datetime.fromtimestamp(self.now - 200 * DAY, UTC))
        except ConfigurationError:
            return
        retention.prune(plan, reason="over")

    @precondition(lambda self: self.kept)
    @rule(data=st.data())
    def export(self, data: Any) -> None:
        """What is exported verifies, by both verifiers; with a byte changed, by neither."""
        path = self.root / "log.jsonl"
        path.unlink(missing_ok=True)
        with open_export(path) as file:
            start = export_log(self.guard._store, file).start
        vkey = str(read_verifier_key(Home.locate(self.home)))
        sizes = [(note, int(note.split("\n")[1])) for note in self.kept]
        known = [note for note, size in sizes if size >= start]
        verify_export(path, keys=[vkey], known=known)
        independent_verifier.verify(str(path), [vkey], known, [])
        content = bytearray(path.read_bytes())
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] ^= data.draw(st.integers(1, 255))
        path.write_bytes(content)
        with pytest.raises((AuditError, ConfigurationError)):
            verify_export(path, keys=[vkey], known=known)
        with pytest.raises((independent_verifier.Tampered, independent_verifier.Unusable)):
            independent_verifier.verify(str(path), [vkey], known, [])

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "guard"):
            store = SqliteStore(self.home / "state.db")
            verify_home(Home.locate(self.home), store)
            store.close()

    def teardown(self) -> None:
        if hasattr(self, "guard"):
            self.guard.close()
            self.authority.close()
            self.seal.close()
            shutil.rmtree(self.root, ignore_errors=True)


TestHistory = History.TestCase
TestHistory.settings = settings(
    max_examples=25,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
