"""What every issuing has in common: to whom, from when, and that it is on record."""

from __future__ import annotations

from tabard.audit.fields import encode
from tabard.clock import CLOCK_SKEW
from tabard.errors import AuthenticationFailed, ConfigurationError, GuardUnavailable
from tabard.identity.agent import Agent
from tabard.revocation import about
from tabard.store import Transaction


def claim_moment(transaction: Transaction, agent: Agent, now: float, *, trust_domain: str) -> int:
    """The POSIX second from which a new credential of an agent counts.

    Raises:
        ConfigurationError: The agent is of another trust domain; nobody else speaks for that.
        AuthenticationFailed: The agent has been revoked.
        GuardUnavailable: The clock is behind the last credential issued here.
    """
    spiffe_id = str(agent.spiffe_id)
    if agent.spiffe_id.trust_domain != trust_domain:
        raise ConfigurationError(
            f"{agent.spiffe_id} is of another trust domain, whose own issuer gives it credentials"
        )
    if transaction.status(spiffe_id) != "active":
        raise AuthenticationFailed(
            code="token_revoked",
            reason="the agent's identity has been revoked",
            agent=spiffe_id,
        )
    moment = transaction.claim_issue_time(spiffe_id, int(now))
    if moment is None:
        raise GuardUnavailable(
            code="clock", reason="the clock is behind the last credential issued here"
        )
    if moment > now + CLOCK_SKEW:
        reason = "the agent was evicted by a clock that was ahead; nothing issued now would count"
        raise GuardUnavailable(code="clock", reason=reason, agent=spiffe_id)
    return moment


def record_issue(transaction: Transaction, agent: Agent, **facts: str | int | None) -> None:
    """Put an issuing on record: the facts of the credential, never the credential."""
    transaction.append("agent.issued", f'{about(agent)},"cred":{encode(facts)}')
