"""The three levers against a credential: ban its agent, evict what it holds, deny one token.

Each is one transaction with its record. Admissions read the result under the store's write lock, so
once a method here has returned, no process admits another call on what it refuses.
"""

from __future__ import annotations

from dataclasses import replace

from tabard.audit.fields import encode
from tabard.clock import CLOCK_SKEW, Clock, read_clock
from tabard.errors import ConfigurationError
from tabard.identity.agent import Agent
from tabard.identity.api_key import JOIN_PREFIX, PREFIX
from tabard.identity.token import is_token_id
from tabard.identity.x509_verifier import MAX_SVID_LIFETIME
from tabard.remark import remark
from tabard.store import Store, Transaction


class Revocations:
    """Takes credentials back, and says so in the log."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def ban(self, agents: list[Agent], reason: str, author: str | None) -> list[Agent]:
        """Ban agents, all or none. Doing it again is only another record."""
        why, now = explain(reason, author), read_clock(self._clock)
        with self._store.transaction(now) as transaction:
            return [_ban(transaction, agent, now, reason, why) for agent in agents]

    def ban_all(
        self, team: str | None, environment: str | None, reason: str, author: str | None
    ) -> list[Agent]:
        """Ban every active agent of a team, of an environment, or of both.

        Raises:
            ConfigurationError: Nobody is meant, or no reason was given.
        """
        why, now = explain(reason, author), read_clock(self._clock)
        with self._store.transaction(now) as transaction:
            meant = [
                agent
                for agent in transaction.agents()
                if agent.status == "active"
                and team in (None, agent.team)
                and environment in (None, agent.environment)
            ]
            if not meant:
                raise ConfigurationError(
                    f"revoke_all: no active agent of team {team!r} in environment {environment!r}"
                )
            return [_ban(transaction, agent, now, reason, why) for agent in meant]

    def unban(self, agent: Agent, reason: str, author: str | None) -> Agent:
        """Take a ban back.

        Raises:
            ConfigurationError: The agent is not banned, or no reason was given.
        """
        why = explain(reason, author)
        with self._store.transaction(read_clock(self._clock)) as transaction:
            if transaction.status(str(agent.spiffe_id)) != "revoked":
                raise ConfigurationError(f"{agent.spiffe_id} is not revoked")
            transaction.set_status(str(agent.spiffe_id), "active", remark("reason", reason) or "")
            transaction.append("agent.unbanned", f"{about(agent)},{why}")
        return replace(agent, status="active")

    def evict(self, agent: Agent, reason: str, author: str | None) -> Agent:
        """Refuse what was issued until now, the tokens of this very second included."""
        why, now = explain(reason, author), read_clock(self._clock)
        with self._store.transaction(now) as transaction:
            _cut_off(transaction, agent, now)
            transaction.append("agent.evicted", f"{about(agent)},{why}")
        return agent

    def deny(self, jti: str, reason: str, author: str | None) -> None:
        """Refuse one token for as long as it could live.

        Raises:
            ConfigurationError: It is no token id, or no reason was given.
        """
        if isinstance(jti, str) and jti.startswith((PREFIX, JOIN_PREFIX)):
            # A whole key would pass for an id, and would stand in the log.
            raise ConfigurationError("revoke_token: an API key is taken back with `revoke_key`")
        if not isinstance(jti, str) or not is_token_id(jti):
            raise ConfigurationError("revoke_token: expected a token's `jti`, as the log shows it")
        why, now = explain(reason, author), read_clock(self._clock)
        # Any credential may be meant, a certificate of another issuer among them.
        longest = MAX_SVID_LIFETIME + 2 * int(CLOCK_SKEW)
        with self._store.transaction(now) as transaction:
            transaction.refuse(jti, expires=int(now) + longest)
            transaction.append("token.revoked", f'"cred":{encode({"jti": jti})},{why}')


def _ban(transaction: Transaction, agent: Agent, now: float, reason: str, why: str) -> Agent:
    transaction.set_status(str(agent.spiffe_id), "revoked", remark("reason", reason) or "")
    # What was issued before a ban stays refused when the ban is taken back.
    _cut_off(transaction, agent, now)
    transaction.append("agent.revoked", f"{about(agent)},{why}")
    return replace(agent, status="revoked")


def _cut_off(transaction: Transaction, agent: Agent, now: float) -> None:
    # Another issuer's clock may be ahead of ours.
    ours = agent.spiffe_id.trust_domain == transaction.trust_domain
    moment = int(now) + (0 if ours else int(CLOCK_SKEW))
    transaction.refuse_issued_until(str(agent.spiffe_id), moment)
    # None of its keys counts any more; one that passed for live would keep others from being made.
    transaction.revoke_api_keys_of(str(agent.spiffe_id))


def about(agent: Agent) -> str:
    """The members of a record that say which agent it is about, as JSON text."""
    return '"subject":' + encode({"id": str(agent.spiffe_id), "name": agent.name})


def explain(reason: str, author: str | None) -> str:
    """The members of a record that say why and by whom, as JSON text.

    Raises:
        ConfigurationError: No reason was given, or one of the two is no text.
    """
    why, who = remark("reason", reason), remark("author", author)
    if why is None or not why.strip():
        raise ConfigurationError("a reason is required; it goes into the audit log")
    return f'"reason":{encode(why)},"author":{encode(who or None)}'
