"""`guard.protect`: plain functions of every kind, and the ways round a wrapper."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from pydantic import BaseModel, Field, SecretBytes, SecretStr

from tabard import AccessDenied, Authority, ConfigurationError, Guard, NotPermitted, Session

POLICY = """\
version: 1
agents:
  claims-agent:
    grants:
      - {id: pay, tools: ["pay"], args: {amount: {type: integer, max: 100}, note: {optional: true}}}
      - {id: many, tools: ["many"], args: {values: {each: {max: 5}}}}
      - {id: open, tools: ["open"], unknown_args: allow, args: {x: {equals: good}}}
  analytics-agent: {}
"""


@pytest.fixture
def policy_text() -> str:
    """Three tools, each with a bound."""
    return POLICY


@pytest.fixture
def ran() -> list[Any]:
    """What reached a body."""
    return []


def kinds(guard: Guard, ran: list[Any]) -> dict[str, Callable[[int], Any]]:
    """The same function in every kind Python has."""

    def pay(amount: int, note: str = "") -> int:
        ran.append(amount)
        return amount

    async def apay(amount: int, note: str = "") -> int:
        ran.append(amount)
        return amount

    def stream(amount: int) -> Iterator[int]:
        ran.append(amount)
        yield amount

    async def astream(amount: int) -> AsyncIterator[int]:
        ran.append(amount)
        yield amount

    class Bank:
        @guard.protect(name="pay")
        def method(self, amount: int) -> int:
            ran.append(amount)
            return amount

        @classmethod
        @guard.protect(name="pay")
        def class_method(cls, amount: int) -> int:
            ran.append(amount)
            return amount

        @staticmethod
        @guard.protect(name="pay")
        def static_method(amount: int) -> int:
            ran.append(amount)
            return amount

    async def collect(items: AsyncIterator[int]) -> int:
        return await anext(aiter(items))

    protect = guard.protect(name="pay")
    return {
        "function": guard.protect(pay),
        "by position": lambda amount: protect(pay)(amount),
        "coroutine": lambda amount: asyncio.run(protect(apay)(amount)),
        "generator": lambda amount: next(protect(stream)(amount)),
        "async generator": lambda amount: asyncio.run(collect(protect(astream)(amount))),
        "method": lambda amount: Bank().method(amount),
        "class method": lambda amount: Bank.class_method(amount),
        "static method": lambda amount: Bank.static_method(amount),
        "twice": guard.protect(guard.protect(pay)),
    }


KINDS = (
    "function", "by position", "coroutine", "generator", "async generator", "method",
    "class method", "static method", "twice",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind(guard: Guard, session: Session, ran: list[Any], kind: str) -> None:
    """Each kind runs when allowed, with one decision and one outcome, and never when not."""
    work = kinds(guard, ran)[kind]
    with pytest.raises(AccessDenied, match="no_identity"):
        work(5)
    with session:
        assert work(5) == 5
        with pytest.raises(NotPermitted, match=r"arg\.max"):
            work(500)
    assert ran == [5]
    types = [r["type"] for r in guard.records() if r.get("action", {}).get("name") == "pay"]
    assert types == ["tool.decision", "tool.decision", "tool.outcome", "tool.decision"]


def test_name_that_stands_for_two_values(guard: Guard, session: Session, ran: list[Any]) -> None:
    """A positional-only parameter and a keyword of the same name: refused, and on record."""

    @guard.protect(name="open")
    def work(x: str, /, **rest: str) -> None:
        ran.append(x)

    with session:
        work("good")
        with pytest.raises(NotPermitted, match=r"arg\.type"):
            work("evil", x="good")
    assert ran == ["good"]
    assert list(guard.records())[-1]["decision"]["code"] == "arg.type"


def test_argument_changed_meanwhile(
    guard: Guard, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another thread does to an argument after the decision does not reach the body."""
    values = [1]
    seen: list[list[int]] = []
    admitted = Guard.admit

    def admit_then_change(self: Guard, *args: Any, **kwargs: Any) -> Any:
        permit = admitted(self, *args, **kwargs)
        thread = threading.Thread(target=values.append, args=(1_000_000,))
        thread.start()
        thread.join()
        return permit

    monkeypatch.setattr(Guard, "admit", admit_then_change)

    @guard.protect(name="many")
    def work(values: list[int]) -> None:
        seen.append(list(values))

    with session:
        work(values)
    assert (seen, values) == ([[1]], [1, 1_000_000])


def test_what_cannot_be_copied(guard: Guard, session: Session, ran: list[Any]) -> None:
    """An argument that is no data (a lock, a connection) is refused, not passed on undecided."""

    @guard.protect(name="open")
    def work(x: object) -> None:
        ran.append(x)

    with session:
        for thing in (threading.Lock(), object(), lambda: 1):
            with pytest.raises(NotPermitted, match=r"arg\.type"):
                work(thing)
    assert ran == []


def test_arguments_that_do_not_fit(guard: Guard, session: Session) -> None:
    """A call with the wrong arguments is the TypeError it is without protection."""

    @guard.protect
    def pay(amount: int) -> None:
        """Pay."""

    with session, pytest.raises(TypeError, match="amount"):
        pay()  # type: ignore[call-arg]
    assert pay.__doc__ == "Pay."


def test_error_of_the_body(guard: Guard, session: Session) -> None:
    """What the body raises comes out as it is, and the outcome says so."""

    @guard.protect
    def pay(amount: int) -> None:
        raise LookupError("no such claim")

    with session, pytest.raises(LookupError, match="no such claim"):
        pay(5)
    assert list(guard.records())[-1]["outcome"]["error_type"] == "LookupError"


@pytest.mark.parametrize("thing", [None, 7, "pay", object(), int])
def test_not_a_function(guard: Guard, thing: Any) -> None:
    """Protecting something else is a configuration error."""
    with pytest.raises(ConfigurationError, match="expected a function"):
        guard.protect()(thing)


def test_two_guards(guard: Guard, home: Any, policy_text: str, clock: Any) -> None:
    """A function belongs to one guard."""
    with Guard.open(home, policy=policy_text, clock=clock) as other:
        protected = guard.protect(lambda: None, name="x")
        with pytest.raises(ConfigurationError, match="another guard"):
            other.protect(protected)


def test_wrapped_around_a_guarded_one(guard: Guard, ran: list[Any]) -> None:
    """A function that wraps a guarded one is guarded itself: the mark does not come along."""

    @guard.protect(name="pay")
    def inner(amount: int) -> None:
        ran.append(amount)

    @functools.wraps(inner)
    def outer(amount: int) -> None:
        ran.append("outer")

    guarded = guard.protect(outer, name="payments.transfer")
    assert guarded is not outer
    with pytest.raises(AccessDenied):
        guarded(5)
    assert ran == []


def test_first_argument_named_like_a_receiver(guard: Guard, session: Session) -> None:
    """`cls` of a plain function is an argument like any other; of a method it is none."""

    @guard.protect
    def pay(cls: int, amount: int) -> int:
        return amount

    class Desk:
        @guard.protect
        def pay(self, amount: int) -> int:
            return amount

    with session:
        with pytest.raises(AccessDenied, match=r"arg\.unknown"):
            pay(5, 5)
        assert Desk().pay(5) == 5


@pytest.mark.parametrize("thing", [classmethod(lambda kind: None), min])
def test_function_that_tells_nothing(guard: Guard, thing: Any) -> None:
    """What does not tell its parameters cannot be decided on, and is refused with a sentence."""
    with pytest.raises(ConfigurationError, match="protect"):
        guard.protect(thing)


class TestWhatTheBodyGets:
    """The decision is on what the body gets to see, not on what an object would print of itself."""

    POLICY = """\
version: 1
agents: {claims-agent: {grants: [{tools: [take], unknown_args: allow}]}}
deny: [{id: secrets, tools: ["**"], any_arg: {regex: ".*sk-a+.*"}}]
"""

    class Request(BaseModel):
        name: str = "n"
        key: str = Field(default="", exclude=True)
        word: SecretStr = SecretStr("")

    @dataclasses.dataclass
    class Envelope:
        inner: Any

    @pytest.mark.parametrize(
        "value",
        [
            Request(key="sk-" + "a" * 20),
            Request(word=SecretStr("sk-" + "a" * 20)),
            SecretStr("sk-" + "a" * 20),
            SecretBytes(b"sk-" + b"a" * 20),
            [{"deep": (SecretStr("sk-" + "a" * 20),)}],
            {SecretStr("sk-" + "a" * 20)},
            Envelope(Request(key="sk-" + "a" * 20)),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_nothing_is_masked(
        self, home: Any, authority: Authority, clock: Any, value: Any
    ) -> None:
        """A secret in a masked or left-out field is found by a deny rule."""
        with Guard.open(home, policy=self.POLICY, clock=clock) as guard:
            take: Any = guard.protect(lambda value: value, name="take")
            with guard.login(authority.issue("claims-agent")):
                with pytest.raises(AccessDenied, match="denied_by_rule"):
                    take(value)
                take(self.Request())
