"""CrewAI's own OpenAI model under seal: the interceptor lets leave what the hooks have admitted."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from crewai import LLM, Agent, Crew, Task
from crewai.hooks import HookAborted, clear_all_hooks

from tabard import AccessDenied, Authority, Guard, ModelCall, NotPermitted, Session
from tabard.testing.provider import Answer, StandInProvider
from tabard.transport import PLACEHOLDER, ProviderKey, Seal
from tabard_crewai import SealedInterceptor, bind, install

KEY = "sk-real-0123456789abcdef"


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInProvider]:
    monkeypatch.setattr("openai._base_client.BaseClient._calculate_retry_timeout", lambda *_: 0)
    with StandInProvider() as running:
        yield running


@pytest.fixture
def interceptor(provider: StandInProvider) -> SealedInterceptor:
    return SealedInterceptor(Seal("openai", ProviderKey(lambda: KEY), base_url=provider.base_url))


@pytest.fixture
def llm(provider: StandInProvider, interceptor: SealedInterceptor) -> Any:
    """A real model of CrewAI's, whose provider is on this machine."""
    return LLM(
        model="openai/gpt-4o",
        api_key=PLACEHOLDER,
        base_url=provider.base_url,
        interceptor=interceptor,
    )


def crew_of(llm: Any) -> Crew:
    agent = Agent(role="Clerk", goal="g", backstory="b", llm=llm)
    task = Task(description="Say hello.", expected_output="hello", agent=agent)
    return Crew(agents=[agent], tasks=[task])


def deny_codes(guard: Guard) -> list[str]:
    return [
        r["decision"]["code"]
        for r in guard.records()
        if r["type"] == "model.decision" and r["decision"]["effect"] == "deny"
    ]


def denied_by(error: BaseException) -> AccessDenied | None:
    """The refusal an exception stems from."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, AccessDenied):
        found = found.__cause__ or found.__context__
    return found


class TestWithHooks:
    @pytest.fixture(autouse=True)
    def _hooks(self) -> None:
        install()

    @pytest.mark.parametrize("path", ["kickoff", "kickoff_async", "akickoff", "kickoff_for_each"])
    def test_a_crew(
        self, llm: Any, provider: StandInProvider, session: Session, guard: Guard, path: str
    ) -> None:
        """What the hook has admitted leaves with the key, from whatever thread CrewAI asks."""
        with session:
            crew = crew_of(llm)
            if path == "kickoff":
                assert "hello" in str(crew.kickoff())
            elif path == "kickoff_for_each":
                assert "hello" in str(crew.kickoff_for_each([{}])[0])
            else:
                assert "hello" in str(asyncio.run(getattr(crew, path)()))
        assert [r.headers["authorization"] for r in provider.requests] == [f"Bearer {KEY}"]
        kinds = [r["type"] for r in guard.records() if r["type"].startswith("model.")]
        assert kinds == ["model.decision", "model.outcome"]

    def test_direct_calls(self, llm: Any, provider: StandInProvider, session: Session) -> None:
        """A model that is called by itself, plain, async and streamed."""

        async def ask() -> None:
            assert await llm.acall("hi") == "hello"
            llm.stream = True
            assert await llm.acall("hi") == "hello"

        with session:
            assert llm.call("hi") == "hello"
            asyncio.run(ask())
            assert llm.call("hi") == "hello"
        assert len(provider.requests) == 4

    def test_a_bound_agent(
        self, llm: Any, provider: StandInProvider, guard: Guard, authority: Authority
    ) -> None:
        """The request belongs to the agent it was admitted for, not to the session around."""
        crew = crew_of(llm)
        with guard.login(authority.issue("claims-agent")):
            bind(crew.agents[0], guard.login(authority.issue("analytics-agent")))
            assert "hello" in str(crew.kickoff())
        decided = [r for r in guard.records() if r["type"] == "model.decision"]
        assert {r["agent"]["name"] for r in decided} == {"analytics-agent"}
        assert len(provider.requests) == 1

    def test_without_identity(self, llm: Any, provider: StandInProvider, guard: Guard) -> None:
        """The hook refuses, and nothing leaves."""
        with pytest.raises(HookAborted, match="no_identity"):
            crew_of(llm).kickoff()
        assert provider.requests == []

    def test_the_sdk_tries_again(
        self, llm: Any, provider: StandInProvider, session: Session
    ) -> None:
        """A busy provider and a broken connection: the same call, admitted once."""
        provider.answers.extend([Answer(status=429), Answer(breaks=True)])
        with session:
            assert llm.call("hi") == "hello"
        assert len(provider.requests) == 3

    def test_a_tool_that_calls_the_model(
        self, llm: Any, provider: StandInProvider, session: Session, guard: Guard
    ) -> None:
        """Code that goes past CrewAI, to the SDK inside the model: nobody has admitted that."""
        with session:
            llm.call("hi")
            with pytest.raises(Exception, match="Connection error") as caught:
                llm._client.chat.completions.create(model="gpt-4o", messages=[])
        denied = denied_by(caught.value)
        assert isinstance(denied, NotPermitted)
        assert denied.code in ("not_admitted", "permit_spent")
        assert len(provider.requests) == 1

    def test_the_provider_refuses_the_key(
        self, llm: Any, provider: StandInProvider, session: Session
    ) -> None:
        """K1: what the provider says of the key is not told to the agent."""
        quoted = b'{"error": {"message": "Incorrect API key provided: sk-real-0123****"}}'
        provider.answers.append(Answer(status=401, content=quoted))
        with session, pytest.raises(Exception, match="provider_auth") as caught:
            llm.call("hi")
        assert "sk-real" not in str(caught.value)


def test_cleared_hooks(llm: Any, provider: StandInProvider, session: Session, guard: Guard) -> None:
    """Somebody clears the hooks: the request is refused where it would leave, each attempt."""
    install()
    clear_all_hooks()
    with session, pytest.raises(Exception, match="Connection error"):
        llm.call("hi")
    assert provider.requests == []
    assert deny_codes(guard) == ["not_admitted"] * 3


def test_a_model_changed_after_the_hook(
    llm: Any, provider: StandInProvider, session: Session, guard: Guard
) -> None:
    """The request asks for the model that was admitted, or stays."""
    with session, guard.admit(ModelCall("gpt-4o", provider="openai")):
        llm.model = "gpt-5"
        with pytest.raises(Exception, match="Connection error") as caught:
            llm.call("hi")
    assert denied_by(caught.value).code == "model"  # type: ignore[union-attr]
    assert provider.requests == []


def test_the_key_is_nowhere(llm: Any, interceptor: SealedInterceptor, session: Session) -> None:
    """Neither in the model's dump, nor in a copy, nor in an answer's request."""
    with session:
        install()
        llm.call("hi")
    shown = [llm, llm.model_dump(), interceptor, vars(interceptor), vars(llm._client)]
    assert KEY not in repr(shown)
    assert copy.deepcopy(interceptor) is interceptor
    with pytest.raises(TypeError):
        pickle.dumps(interceptor)
