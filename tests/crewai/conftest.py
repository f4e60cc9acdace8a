"""CrewAI kept offline and quiet, crews with one counted tool, and identities to try them with."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

# Before CrewAI is imported: it reads these once, and writes below HOME.
os.environ.update(
    CREWAI_DISABLE_TELEMETRY="true",
    CREWAI_DISABLE_TRACKING="true",
    CREWAI_DISABLE_VERSION_CHECK="true",
    CREWAI_TESTING="true",
    CREWAI_TRACING_ENABLED="false",
    OTEL_SDK_DISABLED="true",
    HOME=tempfile.mkdtemp(prefix="tabard-crewai-"),
)

import pytest
from crewai import Agent, Crew, Task
from crewai.hooks import clear_all_hooks
from crewai.tools import BaseTool, tool

from tabard import AuthenticationFailed, Authority, Guard, Session
from tabard.testing.crewai import ScriptedLLM
from tabard_crewai import install, uninstall

POLICY = """\
version: 1
agents:
  claims-agent:
    models: {allow: ["openai/gpt-4o"]}
    grants:
      - {id: lookup, tools: ["claims_db.lookup"], args: {number: {enum: [1, 2]}, limit: {max: 10}}}
  analytics-agent:
    models: {allow: ["openai/gpt-4o"]}
    grants:
      - {id: stats, tools: ["stats.*"], unknown_args: allow}
  broad-agent:
    models: {allow: ["**"]}
    grants:
      - {id: one-namesake, tools: ["claims_db_lookup_2"], unknown_args: allow}
      - {id: two-lookups, tools: ["claims_db.lookup", "claims_db.lookup_two"], unknown_args: allow}
"""


@pytest.fixture
def policy_text() -> str:
    """The policy of this folder: one tool with constrained arguments."""
    return POLICY


@pytest.fixture(autouse=True)
def _clean_hooks() -> Iterator[None]:
    yield
    uninstall()
    clear_all_hooks()


@pytest.fixture
def hooked() -> None:
    """The process-wide hooks are installed."""
    install()


@dataclass
class Counted:
    """A tool that counts how often its body ran."""

    ran: int = 0
    seen: list[Any] = field(default_factory=list)

    def tool(self, name: str = "claims_db.lookup") -> BaseTool:
        """The tool."""

        @tool(name)
        def lookup(number: int, limit: int = 10) -> str:
            """Look a number up."""
            self.ran += 1
            self.seen.append((number, limit))
            return f"found {number}"

        made: BaseTool = lookup
        return made


@pytest.fixture
def counted() -> Counted:
    """A counted tool."""
    return Counted()


@dataclass
class Scene:
    """A crew of one agent with one tool and a scripted model."""

    crew: Crew
    agent: Agent
    llm: ScriptedLLM


@pytest.fixture
def make_scene() -> Callable[..., Scene]:
    """Builds a crew whose model asks for the tool once and then answers."""

    def make(
        target: BaseTool, *, native: bool, argument: int = 1, role: str = "Adjuster", **task: Any
    ) -> Scene:
        call = (target.name.replace(".", "_"), {"number": argument})
        llm = ScriptedLLM(model="gpt-4o", script=[call, "done"], native=native)
        agent = Agent(role=role, goal="settle", backstory="old hand", tools=[target], llm=llm)
        job = Task(description="go", expected_output="words", agent=agent, **task)
        return Scene(Crew(agents=[agent], tasks=[job]), agent, llm)

    return make


@dataclass
class Caller:
    """Who calls, with what, and the code under which it must be refused (None: allowed)."""

    enter: Callable[[], AbstractContextManager[Any]]
    code: str | None
    argument: int = 1
    tool_name: str = "claims_db.lookup"


@pytest.fixture
def make_caller(guard: Guard, authority: Authority, clock: Any) -> Callable[[str], Caller]:
    """Makes each kind of caller; `allowed` is the control."""

    def session() -> Session:
        return guard.login(authority.issue("claims-agent"))

    def forged() -> AbstractContextManager[Any]:
        head, body, signature = authority.issue("claims-agent").split(".")
        with pytest.raises(AuthenticationFailed, match="bad_signature"):
            guard.login(f"{head}.{body}.{'A' * len(signature)}")
        return nullcontext()

    def expired() -> AbstractContextManager[Any]:
        opened = session()
        clock.now += 301
        return opened

    def revoked() -> AbstractContextManager[Any]:
        opened = session()
        authority.revoke("claims-agent", reason="compromised")
        return opened

    def broad() -> Session:
        authority.register("broad-agent", team="claims", environment="prod")
        return guard.login(authority.issue("broad-agent"))

    def make(kind: str) -> Caller:
        return {
            "any_model": Caller(broad, "model"),
            "any_tool": Caller(broad, None),
            "namesakes": Caller(broad, "ambiguous_tool"),
            "allowed": Caller(session, None),
            "no_identity": Caller(nullcontext, "no_identity"),
            "forged": Caller(forged, "no_identity"),
            "expired": Caller(expired, "token_expired"),
            "revoked": Caller(revoked, "token_revoked"),
            "denied_tool": Caller(session, "no_grant", tool_name="claims_db.drop"),
            "denied_argument": Caller(session, "arg.enum", argument=7),
        }[kind]

    return make


@pytest.fixture
def decisions(guard: Guard) -> Callable[[str], list[dict[str, Any]]]:
    """The decision records of one kind, in order."""

    def read(kind: str) -> list[dict[str, Any]]:
        return [r for r in guard.records() if r["type"] == f"{kind}.decision"]

    return read
