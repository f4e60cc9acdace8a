"""A counted tool, and the identities every path is tried with."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import pytest
from langchain_core.tools import BaseTool, StructuredTool

from tabard import AuthenticationFailed, Authority, Guard, Session

POLICY = """\
version: 1
agents:
  claims-agent:
    models: {allow: ["openai/gpt-4o"]}
    grants:
      - {id: lookup, tools: ["lookup"], args: {number: {enum: [1, 2]}}}
      - {id: outer, tools: ["outer"], args: {number: {}}}
      - {id: docs, tools: ["retrieval.docs"], args: {query: {max_length: 20}}}
  analytics-agent: {}
"""


@pytest.fixture
def policy_text() -> str:
    """The policy of this folder: one tool with one constrained argument."""
    return POLICY


@dataclass
class Counted:
    """A tool that counts how often its body ran, sync and async."""

    ran: int = 0
    seen: list[int] = field(default_factory=list)

    def body(self, number: int) -> str:
        """Look a number up."""
        self.ran += 1
        self.seen.append(number)
        return f"found {number}"

    async def abody(self, number: int) -> str:
        """Look a number up."""
        return self.body(number)

    def tool(self, name: str = "lookup", *, coroutine: bool = False) -> BaseTool:
        """The tool; with `coroutine`, async paths have a body of their own."""
        return StructuredTool.from_function(
            func=self.body,
            coroutine=self.abody if coroutine else None,
            name=name,
            description="Look a number up.",
        )


@pytest.fixture
def counted() -> Counted:
    """A counted tool."""
    return Counted()


@dataclass
class Caller:
    """Who calls, with what, and the code under which it must be refused (None: allowed)."""

    enter: Callable[[], AbstractContextManager[Any]]
    code: str | None
    argument: int = 1
    tool_name: str = "lookup"


@pytest.fixture
def make_caller(guard: Guard, authority: Authority, clock: Any) -> Callable[[str], Caller]:
    """Makes each kind of caller; `allowed` is the control."""

    def session(name: str = "claims-agent") -> Session:
        return guard.login(authority.issue(name))

    def forged() -> AbstractContextManager[Any]:
        token = authority.issue("claims-agent")
        head, body, signature = token.split(".")
        forged_token = f"{head}.{body}.{'A' * len(signature)}"
        with pytest.raises(AuthenticationFailed, match="bad_signature"):
            guard.login(forged_token)
        return nullcontext()

    def expired() -> AbstractContextManager[Any]:
        opened = session()
        clock.now += 301
        return opened

    def revoked() -> AbstractContextManager[Any]:
        opened = session()
        authority.revoke("claims-agent", reason="compromised")
        return opened

    def ended() -> AbstractContextManager[Any]:
        opened = session()
        opened.close()
        return opened

    def make(kind: str) -> Caller:
        return {
            "allowed": Caller(session, None),
            "no_identity": Caller(nullcontext, "no_identity"),
            "forged": Caller(forged, "no_identity"),
            "expired": Caller(expired, "token_expired"),
            "revoked": Caller(revoked, "token_revoked"),
            "ended": Caller(ended, "session_closed"),
            "denied_tool": Caller(session, "no_grant", tool_name="other"),
            "denied_argument": Caller(session, "arg.enum", argument=7),
        }[kind]

    return make


@pytest.fixture
def decisions(guard: Guard) -> Callable[[], list[dict[str, Any]]]:
    """The decision records so far."""

    def read() -> list[dict[str, Any]]:
        return [r for r in guard.records() if r["type"].endswith(".decision")]

    return read


@pytest.fixture(autouse=True)
def _quiet_langchain(caplog: pytest.LogCaptureFixture) -> None:
    """LangChain logs every refusal a second time; that is not ours to test."""
    caplog.set_level("CRITICAL", logger="langchain_core.callbacks.manager")
