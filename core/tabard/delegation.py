"""One agent works for another: with both their rights, and no more than it was told to do.

A delegated session may do policy(child) AND policy(every agent it acts for) AND what each of
them handed over. The chain is at most four long, and stops when any agent in it is stopped.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from tabard.actions import Action, Delegation, ModelCall, ToolCall
from tabard.errors import ConfigurationError, GuardUnavailable
from tabard.identity import Agent, VerifiedToken
from tabard.identity.token import MAX_LIFETIME, new_token_id
from tabard.policy import Decision, decide
from tabard.policy.patterns import NamePattern
from tabard.redaction import holds_credential

if TYPE_CHECKING:
    from tabard.policy import Policy
    from tabard.policy.terms import Terms
    from tabard.session import Session
    from tabard.store import Transaction

MAX_DEPTH = 4
"""Agents a session can act for, one behind the other."""
DEFAULT_TTL = 300.0
"""Seconds a delegation lasts."""


class Mandate(NamedTuple):
    """What was handed over; it only ever narrows.

    Attributes:
        tools: The tools and retrievers, as patterns.
        models: The models, as patterns; None leaves them to the policies.
    """

    tools: tuple[NamePattern, ...]
    models: tuple[NamePattern, ...] | None

    def facts(self) -> dict[str, list[str] | None]:
        """What was handed over, as it was written."""
        models = None if self.models is None else [one.text for one in self.models]
        return {"tools": [one.text for one in self.tools], "models": models}

    @classmethod
    def of(cls, tools: Iterable[str], models: Iterable[str] | None) -> Mandate:
        """A mandate for tools and models by their names or patterns.

        Raises:
            ConfigurationError: One is no pattern.
        """
        return cls(
            tools=_patterns("tools", tools),
            models=None if models is None else _patterns("models", models),
        )

    def covers(self, action: Action) -> bool:
        """Whether an action is among what was handed over."""
        if isinstance(action, Delegation):
            return True  # the policies of all the agents decide to whom
        wanted = self.models if isinstance(action, ModelCall) else self.tools
        return wanted is None or any(pattern.matches(action.name) for pattern in wanted)


def _patterns(what: str, texts: Iterable[str]) -> tuple[NamePattern, ...]:
    if isinstance(texts, str):
        raise ConfigurationError(f"delegate: {what}: expected a list of names, found one text")
    try:
        patterns = tuple(NamePattern.parse(text) for text in texts)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"delegate: {what}: {error}") from None
    if any(holds_credential(pattern.text) for pattern in patterns):
        raise ConfigurationError(f"delegate: {what}: a credential is no name")
    return patterns


def delegated_facts(parent: Session, agent: Agent, *, ttl: float, now: float) -> VerifiedToken:
    """The facts a delegated session rests on, in the place of a token of its own.

    Raises:
        ConfigurationError: `ttl` is out of bounds.
    """
    if type(ttl) not in (int, float) or not 1 <= ttl <= MAX_LIFETIME:
        raise ConfigurationError(f"delegate: ttl: expected 1 to {MAX_LIFETIME} seconds")
    expires = int(now + ttl)
    if parent.source is None:  # it cannot renew itself, so its end is the end of both
        expires = min(expires, parent.token.expires_at)
    return replace(
        parent.token,
        spiffe_id=agent.spiffe_id,
        kind="delegated",
        jti=new_token_id(),
        issued_at=int(now),
        expires_at=expires,
        bound_to=None,
        digest="",
    )


def issued_in(transaction: Transaction, facts: VerifiedToken, now: float) -> VerifiedToken:
    """The facts with the second from which they count: after whatever the agent was cut off from.

    Raises:
        GuardUnavailable: The clock is behind the last credential issued here.
    """
    moment = transaction.claim_issue_time(str(facts.spiffe_id), int(now))
    if moment is None:
        reason = "the clock is behind the last credential issued here"
        raise GuardUnavailable(code="clock", reason=reason)
    return replace(facts, issued_at=moment)


def decide_for(session: Session, action: Action, policy: Policy, now: float) -> Decision:
    """Decide one call of a session, for itself and for everyone it acts for.

    Returns:
        The first refusal, else the first question to a person, else the first decision that only
        shadow mode lets pass, else its own.
    """
    own = decide(session.agent, action, policy, now, scope=session.scope)
    if session.mandate is None:
        return own
    decisions = [own]
    above: dict[str, Terms] = {}
    for one in session.chain:
        if one is not session:
            decisions.append(decide(one.agent, action, policy, now, scope=session.scope))
            if decisions[-1].terms is not None and one.spiffe_id != session.spiffe_id:
                above[one.spiffe_id] = decisions[-1].terms
        if one.mandate is not None and not one.mandate.covers(action):
            decisions.append(_NOT_COVERED)
    if isinstance(action, Delegation) and len(session.chain) > MAX_DEPTH:
        decisions.append(_TOO_DEEP)
    asked = tuple(dict.fromkeys(one for d in decisions for one in d.approvals))
    # Who does the work pays for it, whoever of them had the last word; the rates of all of them
    # count, each for its own agent; and whoever has to be asked by any of them is asked.
    last = min(decisions, key=_leniency)
    return replace(last, terms=own.terms, above=tuple(above.items()), approvals=asked)


def lists_tool(policy: Policy, session: Session, name: str) -> bool:
    """Whether some call of a tool could be allowed, for the session and all it acts for."""
    for one in session.chain:
        rules = policy.agents.get(one.agent.name)
        if rules is None or not rules.lists_tool(name):
            return False
        if one.mandate is not None and not one.mandate.covers(ToolCall(name)):
            return False
    return True


_NOT_COVERED = Decision(
    effect="deny",
    code="delegation",
    rule="delegation/mandate",
    reason="it is not among what was delegated",
)
_TOO_DEEP = Decision(
    effect="deny",
    code="delegation_depth",
    rule="delegation/depth",
    reason=f"at most {MAX_DEPTH} agents can act for one another in a row",
)


def _leniency(decision: Decision) -> int:
    if decision.permits:
        return 3 if decision.effect == "allow" else 2
    return 1 if decision.effect == "ask" else 0
