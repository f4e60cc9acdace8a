"""The canary: every secret there is goes through every door, and is looked for in every sink."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import sqlite3
import subprocess
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tabard import (
    Authority,
    ConfigurationError,
    Delegation,
    Guard,
    ModelCall,
    NotPermitted,
    Retrieval,
    TabardError,
    ToolCall,
)
from tabard.budgets import Budgets
from tabard.central import Policies
from tabard.identity import SigningKey, make_proof
from tabard.identity.credential_file import CredentialFile

CALL = ToolCall("policy_lookup", {"policy_no": "POL-123456"})


@dataclass
class Sinks:
    """Everything tabard shows, anywhere."""

    shown: list[str] = field(default_factory=list)

    @contextmanager
    def catching(self) -> Iterator[None]:
        """Keep what an error shows: its text, its traceback, and everything that hangs on it."""
        try:
            yield
        except TabardError as error:
            seen: BaseException | None = error
            self.shown += traceback.format_exception(error)
            while seen is not None:
                self.shown.append(repr(seen) + repr(vars(seen)) + str(seen.args))
                self.shown.append(str(getattr(seen, "doc", "")) + str(getattr(seen, "object", "")))
                seen = seen.__cause__ or seen.__context__

    @contextmanager
    def refused(self, kind: type[TabardError], match: str | None = None) -> Iterator[None]:
        """The same, for what has to be refused."""
        with pytest.raises(kind, match=match) as caught:
            yield
        with self.catching():
            raise caught.value


@pytest.fixture
def sinks() -> Sinks:
    return Sinks()


def parts_of(secret: str) -> list[str]:
    """What must not be seen of a secret: any long piece of it."""
    lines = [line for line in re.split(r"[\s.]+", secret) if len(line) >= 20]
    return [line[i : i + 20] for line in lines for i in range(0, len(line) - 19, 7)]


class Canary:
    """One secret of every kind, all of them live."""

    def __init__(self, authority: Authority, home: Path, clock: Any) -> None:
        self.proof_key = SigningKey.generate()
        name = "claims-agent"
        self.token = authority.issue(name)
        self.bound = authority.issue(name, bound_to=self.proof_key.kid)
        self.jwt_svid = authority.issue(name, profile="jwt-svid")
        self.key = authority.create_key(name)
        self.join = authority.create_join_token(name)
        self.svid = authority.issue_svid(name)
        self.proof = make_proof(
            self.proof_key,
            token=self.bound,
            action=CALL,
            audience="spiffe://acme.example/guard",
            clock=clock,
        )
        self.pem = self.svid.to_pem().decode()
        self.files = [path.read_text() for path in (home / "keys").iterdir()]

    @property
    def texts(self) -> list[str]:
        return [self.token, self.bound, self.jwt_svid, self.key, self.join, self.pem, self.proof]

    def pieces(self) -> set[str]:
        """Pieces of every secret, but for what is public in it: headers, ids, certificates."""
        signed = [t.rpartition(".")[2] for t in (self.token, self.bound, self.jwt_svid, self.proof)]
        keys = [self.key[15:], self.join[15:]]
        # The private number is bytes 36 to 67 of such a file; the rest of it is public.
        files = [self.pem[self.pem.index("-----BEGIN PRIVATE") :], *self.files]
        private = ["".join(file.splitlines()[1:-1])[48:90] for file in files]
        return {piece for secret in (*signed, *keys, *private) for piece in parts_of(secret)}


def test_pieces_are_found_where_they_are(authority: Authority, home: Path, clock: Any) -> None:
    """The search itself works: in a text that holds a secret it finds it."""
    canary = Canary(authority, home, clock)
    for text in canary.texts:
        assert any(piece in f"error: {text}!" for piece in canary.pieces())


def test_no_secret_in_any_sink(
    home: Path,
    authority: Authority,
    guard: Guard,
    sinks: Sinks,
    clock: Any,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """Logins that hold and logins that fail, calls, reprs, logs, records, database, bundle."""
    caplog.set_level(logging.DEBUG)
    canary = Canary(authority, home, clock)
    file = tmp_path / "credential"
    file.touch(mode=0o600)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        credentials: list[Any] = [*canary.texts, canary.svid]
        for text in credentials:
            with sinks.catching():
                session = guard.login(text)
                sinks.shown.append(repr(session) + str(session.token))
                with sinks.catching():
                    guard.admit(CALL, session=session, proof=canary.proof).settle()
                with sinks.catching():
                    guard.admit(ToolCall("no", {"x": str(text)}), session=session)
                session.close()
        for text in canary.texts:
            for broken in (text[:-1], text + "x", text.upper(), text + "\n", " " + text, text[1:],
                           text.encode() + b"\xff", text * 20):  # fmt: skip
                with sinks.catching():
                    guard.login(broken)
            file.write_text(text + "é")
            with sinks.catching():
                guard.login(file)
            held = CredentialFile(file)
            sinks.shown.append(repr(held))
            with sinks.catching():
                authority.revoke_token(text, reason="x")
            with sinks.catching():
                authority.revoke_key(text, reason="x")
        sinks.shown += [repr(one) for one in (canary.svid, canary.proof_key, guard, authority)]
        sinks.shown.append(repr(authority.source("claims-agent")))
        sinks.shown.append(str(authority.keys("claims-agent")) + str(authority.issuer.keys()))
        authority.issuer.rotate()
        authority.revoke("claims-agent", reason="x")
    sinks.shown += [str(warning.message) for warning in warned]
    sinks.shown.append(caplog.text + "".join(map(repr, caplog.records)))
    sinks.shown += list(capfd.readouterr())
    sinks.shown.append(json.dumps(list(guard.records())))
    sinks.shown.append((home / "bundle.json").read_text())
    dump = "\n".join(sqlite3.connect(home / "state.db").iterdump())
    sinks.shown.append(dump)
    everything = "\n".join(sinks.shown)
    assert len(everything) > 50_000
    found = {shown[:200] for shown in sinks.shown for p in canary.pieces() if p in shown}
    assert not found


def test_no_secret_in_a_name_or_a_remark(
    home: Path, authority: Authority, guard: Guard, sinks: Sinks, clock: Any, policy_text: str
) -> None:
    """Pasted where a name or a few words belong, a secret is refused, or kept without itself."""
    canary = Canary(authority, home, clock)
    central = Policies.open(home)
    names: Any = {"name": "bob", "team": "t", "environment": "dev"}
    session = guard.login(authority.issue("claims-agent"))
    for number, text in enumerate(canary.texts):
        for part in names:
            with sinks.refused(ConfigurationError):
                authority.register(**(names | {part: text}))
        said: Any = {"reason": f"leaked: {text}", "author": text}
        found = authority.register(
            f"bob-{number}", team="t", environment="dev", purpose=text, owner=text,
            attributes={"ticket": text, text: "x"},
        )  # fmt: skip
        sinks.shown.append(repr(found))
        authority.evict(found, **said)
        authority.revoke(found, **said)
        authority.unban(found, **said)
        authority.issuer.rotate(author=text)
        central.apply(policy_text + f"# {number}\n", **said)
        for action in (ToolCall(text), ModelCall(text), Retrieval(text), Delegation(text),
                       ToolCall(f"ask.{text}"), ModelCall("gpt-4", provider=text)):  # fmt: skip
            with sinks.refused(NotPermitted, "malformed_action"):
                guard.admit(action, session=session)
        with sinks.refused(NotPermitted, "malformed_action"):
            session.delegate(text, tools=["x"])
        with sinks.refused(ConfigurationError):
            session.delegate("analytics-agent", tools=[text])
        guard.admit(CALL, session=session).fail(text)
    with pytest.raises(ConfigurationError, match="credential"):
        authority.register("x", team="t", environment="dev", spiffe_id=f"spiffe://b.c/{canary.key}")
    sinks.shown += [json.dumps(list(guard.records())), str(central.history())]
    sinks.shown.append("\n".join(sqlite3.connect(home / "state.db").iterdump()))
    assert "leaked: (a credential)" in sinks.shown[-1]
    assert not {piece for shown in sinks.shown for piece in canary.pieces() if piece in shown}


SERVICE_KEYS = [
    "sk-abcdefghijklmnopqrstuvwx",
    "sk-proj-ab_cdefghijklmnopqrstuvwx-1",
    "sk_live_abcdefghijklmnop1234",
    "ghp_abcdefghijklmnopqrst",
    "github_pat_abcdefghijklmnopqrst",
    "glpat-abcdefghijklmnop",
    "xoxb-123456789012-abcdef",
    "AKIAABCDEFGHIJKLMNOP",
    "AIzaSyABCDEFGHIJKLMNOPQRSTUVWXYZ0123456",
    "hf_abcdefghijklmnopqrstuvwxyz",
]


@pytest.mark.parametrize("key", SERVICE_KEYS)
def test_no_key_of_a_service_in_the_log(
    home: Path, authority: Authority, guard: Guard, session: Any, key: str
) -> None:
    """Nor in a refusal: in the name of a tool or an argument, an id, or what names an error."""
    actions: list[Any] = [ToolCall(key), ToolCall(f"ask.{key}"), Retrieval(key), Delegation(key),
               ModelCall(key), ModelCall("gpt-4", provider=key),
               ToolCall("policy_lookup", {"policy_no": "POL-123456"}, call_id=key)]  # fmt: skip
    for action in actions:
        with pytest.raises(NotPermitted, match="malformed_action") as caught:
            guard.admit(action, session=session)
        assert key not in str(caught.value) + repr(vars(caught.value))
    for more in ({"arguments": {"policy_no": "POL-123456", key: 1}, "injected": frozenset({key})},
                 {"arguments": {key: 1}}):  # fmt: skip
        with contextlib.suppress(NotPermitted):
            guard.admit(ToolCall("policy_lookup", **more), session=session).settle()
    guard.admit(CALL, session=session).fail(key)
    guard.admit(CALL, session=session).settle(provider_id=f"chat-{key}", usage={key: 1})
    with pytest.raises(ConfigurationError):
        authority.register("bob", team=key, environment="dev")
    authority.evict("claims-agent", reason=f"leaked: {key}")
    dump = "\n".join(sqlite3.connect(home / "state.db").iterdump())
    assert "leaked: (a credential)" in dump
    assert key not in dump


@pytest.mark.parametrize("words", ["call of Jan Janssens", "jan\njanssens", "jan\u202e"])
def test_words_are_no_ids(guard: Guard, session: Any, words: str) -> None:
    """What a framework or a provider calls a call is an id; a sentence is not recorded as one."""
    action = ToolCall("policy_lookup", {"policy_no": "POL-123456"}, call_id=words)
    guard.admit(action, session=session).settle(provider_id=words)
    decision, outcome = list(guard.records())[-2:]
    assert (decision["action"]["call_id"], outcome["provider_id"]) == ("(no id)", "(no id)")


@pytest.mark.parametrize(
    ("error", "recorded"),
    [
        ("TimeoutError", "TimeoutError"),
        ("httpx.ReadTimeout", "httpx.ReadTimeout"),
        ("rate_limited", "rate_limited"),
        ("Jan Janssens BE68 5390 0754 7034", "error"),
        ("password=hunter2", "error"),
        ("no row for C-99", "error"),
        ("hunter2!", "error"),
        ("TimeoutError\n", "error"),
        ("a..b", "error"),
        ("é", "error"),
        ("", "error"),
        ("x" * 81, "error"),
        (type("No row for C-99", (Exception,), {})(), "error"),
        (type("sk_live_abcdefghijklmnop1234", (Exception,), {})(), "error"),
    ],
)
def test_an_error_is_recorded_by_its_type(
    guard: Guard, session: Any, error: Any, recorded: str
) -> None:
    """The log cannot be changed: what an error says is nothing for it, only a type's name is."""
    guard.admit(CALL, session=session).fail(error)
    [*_, last] = guard.records()
    assert last["outcome"]["error_type"] == recorded


@pytest.mark.parametrize(
    "name",
    [
        "sk-learn-model-training",
        "task-abcdefghijklmnopqrstuvwx",
        "rk_4-decomposition",
        "openai/sk-small",
        "AKIA-lookup",
    ],
)
def test_tools_that_only_look_alike(guard: Guard, session: Any, name: str) -> None:
    """A tool is not refused for a name that begins like a key."""
    with pytest.raises(NotPermitted, match="no_grant"):
        guard.admit(ToolCall(name), session=session)
    assert name in str(list(guard.records()))


@pytest.mark.parametrize("name", ["surveyJobRunnerNightly", "keyJournal_of.all", "tb_k", "a-tbk_1"])
def test_names_that_only_look_alike(authority: Authority, name: str) -> None:
    """Letters in the middle of a word are no token."""
    assert authority.register(name, team="t", environment="dev").name == name


@pytest.mark.parametrize("word", [b"x", 1, "\ud800", ["x"]])
def test_remarks_that_are_no_text(authority: Authority, home: Path, word: Any) -> None:
    """A remark is text, or it is refused before anything is done."""
    for said in ({"reason": word}, {"reason": "r", "author": word}):
        for act in (authority.revoke, authority.evict):
            with pytest.raises(ConfigurationError):
                act("claims-agent", **said)
    with pytest.raises(ConfigurationError):
        authority.register("x", team="t", environment="dev", owner=word)
    with pytest.raises(ConfigurationError):
        Budgets.open(home).reset("k", reason=word)
    assert authority.find("claims-agent").status == "active"


def test_no_secret_on_the_command_line(
    home: Path, authority: Authority, guard: Guard, clock: Any, tmp_path: Path
) -> None:
    """Whatever is given to a command, the credential is not in what it prints."""
    canary = Canary(authority, home, clock)
    shown = []
    file = tmp_path / "credential"
    file.touch(mode=0o600)
    for text in canary.texts:
        file.write_text(text)
        for arguments in (["token", "inspect", str(file)],):  # the others: tests/cli/test_canary.py
            run = subprocess.run(
                [sys.executable, "-c", "from tabard.cli import main; main()", *arguments],
                capture_output=True,
                text=True,
                check=False,
                env={**os.environ, "TABARD_HOME": str(home), "TABARD_CREDENTIAL": canary.token},
            )
            shown.append(run.stdout + run.stderr)
            assert "Traceback" not in run.stderr
    everything = re.sub(r"\\x0a|[^\w+/=-]", "", "".join(shown))  # a box folds what it shows
    assert not {piece for piece in canary.pieces() if piece in everything}
