"""What leaves, and what does not: one admission, one answer, in its own context, while it lives."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tabard import Authority, Guard, ModelCall, Permit, Session
from tabard.testing.provider import Answer, StandInProvider
from tabard.transport import Seal

Code = Callable[[Any], str]


def refusals(guard: Guard) -> list[tuple[str, str]]:
    """Code and name of each refusal on record."""
    return [
        (r["decision"]["code"], r["action"]["name"])
        for r in guard.records()
        if r["type"] == "model.decision" and r["decision"]["effect"] == "deny"
    ]


def test_what_was_admitted_leaves_with_the_key(
    every_line: Any, provider: StandInProvider, admitted: Permit, key: str
) -> None:
    """The answer comes back; on the wire is the real key, and only that."""
    answer = every_line.send(
        json={"model": "gpt-4o", "messages": []}, headers={"api-key": "sealed"}
    )
    assert answer.json()["choices"][0]["message"]["content"] == "hello"
    (arrived,) = provider.requests
    assert arrived.headers["authorization"] == f"Bearer {key}"
    assert "api-key" not in arrived.headers
    assert arrived.path == "/v1/chat/completions"


def test_nobody_logged_in(
    every_line: Any, provider: StandInProvider, guard: Guard, code: Code
) -> None:
    """Without an identity nothing leaves, and the attempt is on record."""
    assert code(every_line.ask()) == "no_identity"
    assert provider.requests == []
    assert refusals(guard) == [("no_identity", "openai/gpt-4o")]


def test_logged_in_and_not_admitted(
    sync_line: Any, provider: StandInProvider, guard: Guard, session: Session, code: Code
) -> None:
    """An identity alone is no admission."""
    with session:
        assert code(sync_line.ask()) == "not_admitted"
    assert provider.requests == []
    assert refusals(guard) == [("not_admitted", "openai/gpt-4o")]
    assert [r["agent"]["name"] for r in guard.records() if "decision" in r] == ["claims-agent"]


def test_the_model_is_swapped_after_admission(
    sync_line: Any, provider: StandInProvider, guard: Guard, admitted: Permit, code: Code
) -> None:
    """The model in the body has to be the admitted one, letter by letter."""
    for model in ("gpt-5", "GPT-4o", "gpt-4o ", "openai/gpt-4o", "gpt-4o-mini", "", None, 4, ["x"]):
        assert code(sync_line.ask(model=model)) == "model"
    assert code(sync_line.ask(models=["gpt-5"])) == "model"
    assert code(sync_line.ask(fallbacks=[{"model": "gpt-5"}])) == "model"
    assert provider.requests == []
    assert ("model", "openai/gpt-5") in refusals(guard)


def test_a_second_request_on_one_permit(
    every_line: Any, provider: StandInProvider, admitted: Permit, code: Code
) -> None:
    """A permit is no season ticket: after an answer the next request is refused."""
    assert every_line.ask().status_code == 200
    assert code(every_line.ask()) == "permit_spent"
    assert len(provider.requests) == 1


def test_two_permits_two_answers(
    sync_line: Any, provider: StandInProvider, guard: Guard, session: Session, code: Code
) -> None:
    """Several calls that are underway at once have an answer each."""
    call = ModelCall("gpt-4o", provider="openai")
    with session, guard.admit(call), guard.admit(call):
        assert [sync_line.ask().status_code for _ in range(2)] == [200, 200]
        assert code(sync_line.ask()) == "permit_spent"


def test_a_retry_is_the_same_call(
    line: Any, provider: StandInProvider, guard: Guard, session: Session
) -> None:
    """What was not answered may be asked again on the same permit."""
    for status in (429, 500, 400):
        provider.answers.append(Answer(status=status))
        with session, guard.admit(ModelCall("gpt-4o", provider="openai")):
            assert [line.ask().status_code for _ in range(3)] == [status, 200, 403]
    provider.answers.append(Answer(breaks=True))
    with session, guard.admit(ModelCall("gpt-4o", provider="openai")):
        with pytest.raises(line.http.RemoteProtocolError):
            line.ask()
        assert line.ask().status_code == 200
    assert len(provider.requests) == 8


def test_retries_have_an_end(
    sync_line: Any, provider: StandInProvider, admitted: Permit, code: Code
) -> None:
    """A loop that asks again and again is stopped, although nothing was ever answered."""
    provider.answers.extend([Answer(status=500)] * 20)
    found = [sync_line.ask().status_code for _ in range(10)]
    assert found == [500] * 8 + [403] * 2


def test_an_answer_that_breaks_off_is_an_answer(
    line: Any, provider: StandInProvider, admitted: Permit, code: Code
) -> None:
    """The provider has begun to answer, and bills it: asking again needs another admission."""
    provider.answers.append(Answer(content=b"{}", headers={"content-encoding": "gzip"}))
    with pytest.raises(line.http.DecodingError):
        line.ask()
    assert code(line.ask()) == "permit_spent"


def test_a_permit_that_has_its_outcome(
    sync_line: Any, provider: StandInProvider, guard: Guard, session: Session, code: Code
) -> None:
    """Settled, failed or left: the request does not leave any more."""
    call = ModelCall("gpt-4o", provider="openai")
    with session:
        guard.admit(call).settle()
        assert code(sync_line.ask()) == "not_admitted"
        guard.admit(call).fail("x")
        assert code(sync_line.ask()) == "not_admitted"
        with guard.admit(call):
            pass
        assert code(sync_line.ask()) == "not_admitted"
    assert provider.requests == []


def test_revoked_between_admission_and_wire(
    line: Any,
    provider: StandInProvider,
    guard: Guard,
    authority: Authority,
    admitted: Permit,
    code: Code,
) -> None:
    """The agent is looked at once more, right before the request leaves."""
    authority.revoke("claims-agent", reason="compromised")
    assert code(line.ask()) == "token_revoked"
    assert provider.requests == []
    assert refusals(guard) == [("token_revoked", "openai/gpt-4o")]


def test_revoked_while_the_connection_is_made(
    sync_line: Any,
    provider: StandInProvider,
    authority: Authority,
    admitted: Permit,
    monkeypatch: pytest.MonkeyPatch,
    code: Code,
) -> None:
    """Connecting can take long; the last look is at the moment the headers are written."""
    import httpcore

    connect = httpcore.SyncBackend.connect_tcp

    def revoke_meanwhile(*args: Any, **kwargs: Any) -> Any:
        made = connect(*args, **kwargs)
        authority.revoke("claims-agent", reason="compromised")
        return made

    monkeypatch.setattr("httpcore.SyncBackend.connect_tcp", revoke_meanwhile)
    assert code(sync_line.ask()) == "token_revoked"
    assert provider.requests == []


def test_closed_or_expired_between_admission_and_wire(
    sync_line: Any, provider: StandInProvider, admitted: Permit, clock: Any, code: Code
) -> None:
    """So are its session and the credential."""
    clock.now += 301
    assert code(sync_line.ask()) == "token_expired"
    clock.now -= 301
    admitted.session.close()
    assert code(sync_line.ask()) in ("session_closed", "clock")
    assert provider.requests == []


def test_the_store_is_gone(
    sync_line: Any, provider: StandInProvider, guard: Guard, admitted: Permit, code: Code
) -> None:
    """What cannot be looked up is refused."""
    guard.close()
    assert code(sync_line.ask()) == "store"
    assert provider.requests == []


def test_a_thread_without_the_context(
    sync_line: Any, provider: StandInProvider, admitted: Permit, code: Code
) -> None:
    """A bare thread has neither identity nor admission; one with a copy of the context has both."""
    found: list[Any] = []
    bare = threading.Thread(target=lambda: found.append(sync_line.ask()))
    bare.start()
    bare.join()
    assert code(found[0]) == "no_identity"
    context = contextvars.copy_context()
    copied = threading.Thread(target=lambda: found.append(context.run(sync_line.ask)))
    copied.start()
    copied.join()
    assert found[1].status_code == 200
    assert code(sync_line.ask()) == "permit_spent"  # wherever it was used


def test_many_threads_share_one_permit(
    sync_line: Any, provider: StandInProvider, admitted: Permit
) -> None:
    """However many ask at once, one of them is answered."""
    found: list[int] = []
    contexts = [contextvars.copy_context() for _ in range(8)]
    threads = [
        threading.Thread(target=lambda c=c: found.append(c.run(sync_line.ask).status_code))
        for c in contexts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [200] + [403] * 7
    assert len(provider.requests) == 1


def test_another_identity_uses_no_admission_around_it(
    sync_line: Any,
    provider: StandInProvider,
    guard: Guard,
    authority: Authority,
    admitted: Permit,
    code: Code,
) -> None:
    """The innermost identity counts: a call admitted for the agent around it is not its own."""
    with guard.login(authority.issue("analytics-agent")):
        assert code(sync_line.ask()) == "not_admitted"
    assert sync_line.ask().status_code == 200


def test_a_tool_call_admits_no_model(
    sync_line: Any, provider: StandInProvider, guard: Guard, session: Session, code: Code
) -> None:
    """Only a model call's permit opens the way to a model."""
    from tabard import ToolCall

    with session, guard.admit(ToolCall("policy_lookup", {"policy_no": "POL-123456"})):
        assert code(sync_line.ask()) == "not_admitted"


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens", "max_output_tokens"])
def test_a_longer_answer_than_admitted(
    sync_line: Any, guard: Guard, session: Session, limit: str, code: Code
) -> None:
    """The limits in the body stay within the admitted one, for all answers together."""
    call = ModelCall("gpt-4o", provider="openai", max_output_tokens=100)
    too_long = [{}, {limit: 101}, {limit: 51, "n": 2}, {limit: 1, "max_tokens": 101}]
    with session, guard.admit(call):
        for asked in too_long:
            assert code(sync_line.ask(**asked)) == "model.max_output_tokens"
        nonsenses: list[object] = [0, -1, 1.0, True, "5", {}]
        for nonsense in nonsenses:
            assert code(sync_line.ask(**{limit: nonsense})) == "request"
        assert sync_line.ask(**{limit: 50, "n": 2}).status_code == 200


def test_shadow_mode_does_not_open_the_seal(
    home: Any, authority: Authority, sync_line: Any, provider: StandInProvider, code: Code
) -> None:
    """Shadow mode admits what the policy denies; the request still has to be the admitted one."""
    policy = "version: 1\nmode: shadow\nagents: {claims-agent: {}}"
    with Guard.open(home, policy=policy, clock=lambda: 1_800_000_000.0) as shadow:
        with shadow.login(authority.issue("claims-agent")):
            assert code(sync_line.ask()) == "not_admitted"
            with shadow.admit(ModelCall("gpt-4o", provider="openai")):
                assert code(sync_line.ask(model="gpt-5")) == "model"
                assert sync_line.ask().status_code == 200
    assert len(provider.requests) == 1


def test_admitted_elsewhere_and_entered_here(
    sync_line: Any, guard: Guard, session: Session
) -> None:
    """A permit that another task has asked for counts where its block is entered."""
    call = ModelCall("gpt-4o", provider="openai")
    with session:
        permit = contextvars.copy_context().run(guard.admit, call)
        assert sync_line.ask().status_code == 403
        with permit:
            assert sync_line.ask().status_code == 200


def test_embeddings_need_an_admission_of_their_own(
    sync_line: Any, provider: StandInProvider, home: Any, authority: Authority, clock: Any
) -> None:
    """A model that embeds has no limit to its answer, and is admitted under its own name."""
    policy = 'version: 1\nagents: {claims-agent: {models: {allow: ["openai/embed-3"]}}}'
    asked = {"model": "embed-3", "input": "text"}
    with Guard.open(home, policy=policy, clock=clock) as guard:
        with guard.login(authority.issue("claims-agent")):
            call = ModelCall("embed-3", provider="openai", max_output_tokens=0)
            with guard.admit(call):
                assert sync_line.send(path="/embeddings", json=asked).status_code == 200


def test_nothing_is_remembered_for_ever(guard: Guard, session: Session) -> None:
    """A context that admits call after call does not grow."""
    from tabard.underway import _entries

    with session:
        for _ in range(20):
            guard.admit(ModelCall("gpt-4o", provider="openai")).settle()
        assert len(_entries.get()) == 1


def test_the_seal_names_its_provider(seal: Seal) -> None:
    """It shows whose it is, and nothing else."""
    assert repr(seal) == "<Seal of openai>"
