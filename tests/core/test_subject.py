"""What is kept about people: pseudonyms, commitments, and payloads that can be forgotten."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tabard import Authority, ConfigurationError, Guard, Session, ToolCall
from tabard.home import Home
from tabard.payload import MAX_PAYLOAD, read_payload
from tabard.sealing import Seal, verify_home
from tabard.store import SqliteStore
from tabard.subject import Subjects

POLICY = """\
version: 1
tools:
  crm.read: {capture: {args: [customer, note], result: true}}
  crm.note: {capture: {args: [note]}}
agents:
  claims-agent:
    grants: [{id: crm, tools: ["crm.*"], unknown_args: allow}]
"""
SECRET = "sk-abcdefghijklmnopqrstuvwx"
NAME = "Jane Doe of Bruges"


@pytest.fixture
def policy_text() -> str:
    return POLICY


@pytest.fixture
def login(guard: Guard, authority: Authority) -> Callable[..., Session]:
    def open_session(user: str | None) -> Session:
        return guard.login(authority.issue("claims-agent"), on_behalf_of=user)

    return open_session


def payload(guard: Guard, call: str, part: str) -> Any:
    with guard._store.transaction(1.0) as transaction:
        return read_payload(guard._store, transaction, call, part)


def in_files(home: Path, text: str) -> bool:
    """Whether a text lies anywhere in the home."""
    found = (p.read_bytes() for p in home.rglob("*") if p.is_file())
    return any(text.encode() in data for data in found)


class TestCapture:
    def test_only_what_the_policy_names(
        self, guard: Guard, login: Callable[..., Session], home: Path
    ) -> None:
        """The named arguments and the result are kept, scrubbed; in the log is none of it."""
        arguments = {"customer": NAME, "note": {"text": f"key {SECRET}", "password": "x1"}, "n": 1}
        permit = guard.admit(ToolCall("crm.read", arguments), session=login("jane"))
        permit.settle([{"iban": "BE68539007547034", "name": NAME}])
        assert payload(guard, permit.call, "arguments") == {
            "customer": NAME,
            "note": {"text": "key (scrubbed)", "password": "(scrubbed)"},
        }
        assert payload(guard, permit.call, "result") == [{"iban": "(scrubbed)", "name": NAME}]
        for text in (NAME, SECRET, "x1", "BE68539007547034"):
            assert not in_files(home, f'"{text}"')
        assert not in_files(home, NAME)
        outcome = list(guard.records())[-1]
        assert set(outcome["result"]) == {"commit", "n"}

    def test_nothing_by_default(self, guard: Guard, login: Callable[..., Session]) -> None:
        """Without `capture` a call leaves commitments only."""
        permit = guard.admit(ToolCall("crm.other", {"customer": NAME}), session=login("jane"))
        permit.settle(NAME)
        assert payload(guard, permit.call, "arguments") is None
        assert payload(guard, permit.call, "result") is None

    def test_refused_calls_leave_nothing(
        self, guard: Guard, login: Callable[..., Session], home: Path
    ) -> None:
        with pytest.raises(Exception, match="no_grant"):
            guard.admit(ToolCall("other", {"note": "x"}), session=login("jane"))
        with sqlite3.connect(home / "state.db") as db:
            assert db.execute("SELECT count(*) FROM payload").fetchone() == (0,)

    def test_without_a_user(self, guard: Guard, login: Callable[..., Session]) -> None:
        permit = guard.admit(ToolCall("crm.note", {"note": "n"}), session=login(None))
        assert payload(guard, permit.call, "arguments") == {"note": "n"}

    @pytest.mark.parametrize("result", [object(), open, "x" * (MAX_PAYLOAD + 1), {1: 2}])
    def test_results_that_are_not_kept(
        self, guard: Guard, login: Callable[..., Session], result: object
    ) -> None:
        """What has no plain form, or is too large, is left out; the outcome is recorded."""
        permit = guard.admit(ToolCall("crm.read", {}), session=login("jane"))
        assert permit.settle(result)
        assert payload(guard, permit.call, "result") is None
        assert list(guard.records())[-1]["outcome"]["status"] == "ok"

    def test_changed_payload(self, guard: Guard, login: Callable[..., Session], home: Path) -> None:
        """A payload that was changed, or moved to another call, does not decrypt."""
        session = login("jane")
        calls = []
        for note in ("a", "b"):
            permit = guard.admit(ToolCall("crm.note", {"note": note}), session=session)
            calls.append(permit.call)
        with sqlite3.connect(home / "state.db") as db:
            db.execute("DELETE FROM payload WHERE call = ?", (calls[0],))
            db.execute("UPDATE payload SET call = ? WHERE call = ?", tuple(calls))
        with pytest.raises(ValueError, match="changed"):
            payload(guard, calls[0], "arguments")


class TestErasure:
    def test_forgotten(
        self, guard: Guard, login: Callable[..., Session], home: Path, authority: Authority
    ) -> None:
        """The data is gone, the pseudonym is nobody's, every proof holds, and it is on record."""
        session, other = login("jane"), login("john")
        calls = {}
        for one in (session, other):
            permit = guard.admit(ToolCall("crm.note", {"note": NAME}), session=one)
            permit.settle()
            calls[one] = permit.call
        seal = Seal.open(home)
        seal.seal()
        with sqlite3.connect(home / "state.db") as db:
            key = db.execute(
                "SELECT key FROM subject WHERE pseudonym = ?", (session.on_behalf_of,)
            ).fetchone()[0]
        done = Subjects(store=guard._store, clock=lambda: 2e9).erase(user="jane", reason="asked")
        assert (done.pseudonym, done.payloads) == (session.on_behalf_of, 1)
        assert payload(guard, calls[session], "arguments") is None
        assert payload(guard, calls[other], "arguments") == {"note": NAME}
        assert not any(key in path.read_bytes() for path in home.rglob("*") if path.is_file())
        seal.seal()
        verify_home(Home.locate(home), SqliteStore(home / "state.db"))
        record = list(guard.records())[-1]
        assert record["type"] == "subject.erased"
        assert record["erased"] == {"pseudonym": session.on_behalf_of, "payloads": 1}

    def test_comes_back_as_somebody_else(self, guard: Guard, login: Callable[..., Session]) -> None:
        """A user who was erased and comes back cannot be linked to who they were."""
        first = login("jane")
        subjects = Subjects(store=guard._store)
        subjects.erase(pseudonym=first.on_behalf_of, reason="asked")
        second = login("jane")
        assert second.on_behalf_of != first.on_behalf_of
        assert second.commit_key != first.commit_key

    def test_open_session_keeps_nothing_more(
        self, guard: Guard, login: Callable[..., Session]
    ) -> None:
        session = login("jane")
        Subjects(store=guard._store).erase(user="jane", reason="asked")
        permit = guard.admit(ToolCall("crm.note", {"note": NAME}), session=session)
        permit.settle(NAME)
        assert payload(guard, permit.call, "arguments") is None

    @pytest.mark.parametrize(
        "asked",
        [{}, {"user": "nobody"}, {"pseudonym": "0" * 64}, {"user": "jane", "pseudonym": "x"},
         {"user": ""}, {"user": "\ud800"}, {"user": 5}],
    )  # fmt: skip
    def test_nothing_to_erase(self, guard: Guard, asked: dict[str, Any]) -> None:
        with pytest.raises(ConfigurationError):
            Subjects(store=guard._store).erase(**asked, reason="x")

    def test_reason_is_needed(self, guard: Guard, login: Callable[..., Session]) -> None:
        login("jane")
        with pytest.raises(ConfigurationError, match="reason"):
            Subjects(store=guard._store).erase(user="jane", reason=" ")

    def test_commitments_of_two_users_differ(
        self, guard: Guard, login: Callable[..., Session]
    ) -> None:
        """The same arguments for two users cannot be seen to be the same."""
        for user in ("jane", "john", "jane"):
            guard.admit(ToolCall("crm.note", {"note": "n"}), session=login(user))
        commits = [r["action"]["args"]["commit"] for r in guard.records() if r.get("action")]
        assert commits[0] == commits[2] != commits[1]
