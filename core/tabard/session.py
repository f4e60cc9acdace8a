"""The authenticated run of an agent, and which one is current.

A session is an object, compared by identity: no string can be passed off as one. The current one
lives in a `ContextVar`; entering a session inside another makes the inner one current, and leaving
it brings the outer one back. Leaving does not end a session, so one session can be entered by many
nodes of a graph; `close()` ends it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypedDict, runtime_checkable

from tabard.audit.chain import SessionCount
from tabard.audit.fields import encode
from tabard.delegation import DEFAULT_TTL, Mandate
from tabard.identity import Agent, SpiffeId, VerifiedToken
from tabard.identity.x509_svid import X509Svid
from tabard.store.writer import current_instance

if TYPE_CHECKING:
    from tabard.guard import Guard
    from tabard.login import Identified
    from tabard.subject import Subject

_current: ContextVar[tuple[Session, ...]] = ContextVar("tabard_session", default=())


class TokenFacts(TypedDict):
    """What liveness is asked about, beside the agent."""

    names: tuple[str, str, str]
    issued_at: int


@runtime_checkable
class CredentialSource(Protocol):
    """Anything that hands out a live credential, for example `authority.source(...)`."""

    def credential(self) -> str | X509Svid:
        """A credential that is valid now."""


class Session:
    """One authenticated run; made by `Guard.login`, never by hand.

    Attributes:
        id: Random id of this run; in every record of it.
        agent: The verified identity.
        spiffe_id: The agent's SPIFFE ID as text.
        guard: The guard that verified it and admits its calls.
        token: The facts of the credential in use; not the credential.
        token_facts: What liveness is asked about, beside the agent.
        source: Where the next credential comes from, or None.
        renew_at: POSIX seconds from which the next credential is asked for.
        seen_at: POSIX seconds of the latest call; a clock that goes back behind it is refused.
        scope: The data scope bound by the host application; read-only.
        on_behalf_of: Keyed pseudonym of the user the agent works for, or None.
        subject: The same user with the key of the pseudonym, or None.
        commit_key: What commitments to arguments and results are made with; no secret of an agent.
        chain: This session and those of the agents it acts for, nearest first.
        rests_on: Under which credentials the agents it acts for handed over; it ends with these.
        mandate: What was handed over to it, or None when it acts for no agent.
        was_refused: Whether its credential was refused since the last call that was admitted.
    """

    __slots__ = (
        "__weakref__",
        "_closed",
        "_fields",
        "_fields_of",
        "agent",
        "chain",
        "commit_key",
        "count",
        "guard",
        "id",
        "lock",
        "mandate",
        "on_behalf_of",
        "renew_at",
        "rests_on",
        "scope",
        "seen_at",
        "source",
        "spiffe_id",
        "subject",
        "token",
        "token_facts",
        "was_refused",
    )

    def __init__(
        self,
        *,
        guard: Guard,
        found: Identified,
        scope: Mapping[str, Any],
        subject: Subject | None,
        parent: Session | None = None,
        mandate: Mandate | None = None,
    ) -> None:
        self.mandate = mandate
        self.chain: tuple[Session, ...] = (self, *(() if parent is None else parent.chain))
        self.rests_on: tuple[tuple[str, TokenFacts], ...] = (
            ()
            if parent is None
            else (*((one.spiffe_id, one.token_facts) for one in parent.chain), *parent.rests_on)
        )
        self.spiffe_id: str = str(found.agent.spiffe_id)
        self.id = os.urandom(12).hex()
        self.count = SessionCount(self.id)
        self.guard = guard
        self.agent: Agent = found.agent
        self.scope: Mapping[str, Any] = MappingProxyType(dict(scope))
        self.subject = subject
        self.on_behalf_of = None if subject is None else subject.pseudonym
        self.commit_key = guard.secret if subject is None else subject.key
        self.source = found.source
        self.seen_at = found.now
        self.lock = threading.RLock()
        self._closed = False
        self.was_refused = False
        self.accept(found.token)

    @property
    def instance(self) -> str:
        """The process this runs in, as `host:pid:start`."""
        return current_instance()

    @property
    def closed(self) -> bool:
        """Whether the session was ended."""
        return self._closed

    def accept(self, token: VerifiedToken) -> None:
        """Go on under a renewed token of the same agent; for the guard."""
        self.token = token
        self.token_facts: TokenFacts = {
            "names": token.revocable_by,
            "issued_at": token.issued_at,
        }
        began = max(token.issued_at, self.seen_at)
        self.renew_at = began + (token.expires_at - began) / 2
        self._fields_of: tuple[int, str] | None = None

    def ask_again(self) -> None:
        """Renew at the next call, once: the credential was taken back; for the guard."""
        if self.source is not None and not self.was_refused:
            self.was_refused, self.renew_at = True, 0.0

    def delegate(
        self,
        agent: str | SpiffeId | Agent,
        *,
        tools: Iterable[str],
        models: Iterable[str] | None = None,
        ttl: float = DEFAULT_TTL,
        proof: str | None = None,
    ) -> Session:
        """Let another agent work for this one, with the rights of both and no more than given here.

        Args:
            agent: Who takes over; this agent's policy has to name it under `delegates_to`.
            tools: The tools and retrievers it may use, as names or patterns.
            models: The models it may use; default those both policies allow.
            ttl: Seconds it lasts, at most 3600; it ends with this session in any case.
            proof: Where this session's token is bound to a key: the proof for this call, a
                `Delegation` to the agent as it is named here.

        Returns:
            The other agent's session; use it as `with session.delegate(...):`.

        Raises:
            NotPermitted: The policy does not allow it, or the chain is four agents long already.
            AuthenticationFailed: One of the agents is revoked, or this session is at its end.
            ConfigurationError: No such agent, no such pattern, or a `ttl` out of bounds.
            GuardUnavailable: Tabard could not decide or could not keep the record.
        """
        return self.guard.hand_over(
            self, agent, mandate=Mandate.of(tools, models), ttl=ttl, proof=proof
        )

    def close(self) -> None:
        """End the session: every later call of it, and of those that act for it, is refused."""
        with self.lock:
            was_closed, self._closed = self._closed, True
        if not was_closed:
            self.guard.write_event("session.close", self.fields(), self.count)

    def fields(self) -> str:
        """The members of a record that say who calls, as JSON text; made once per token."""
        token = self.token
        key = (os.getpid(), token.jti)
        if self._fields_of != key:
            members: dict[str, Any] = {
                "agent": {
                    "id": self.spiffe_id,
                    "name": self.agent.name,
                    "team": self.agent.team,
                    "environment": self.agent.environment,
                    "instance": current_instance(),
                },
                "cred": {
                    "kind": token.kind,
                    "kid": token.kid,
                    "jti": token.jti,
                    "exp": int(token.expires_at),
                },
                "session": self.id,
                "txn": token.txn,
                "on_behalf_of": self.on_behalf_of,
                "scope": sorted(self.scope),
            }
            if len(self.chain) > 1:
                members["act"] = _actors(self.chain[1:])
            if self.mandate is not None:
                members["mandate"] = self.mandate.facts()
            self._fields, self._fields_of = encode(members)[1:-1], key
        return self._fields

    def __enter__(self) -> Self:
        """Make this the current session."""
        _current.set((*_current.get(), self))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Bring back the session that was current before."""
        stack = list(_current.get())
        for position in reversed(range(len(stack))):
            if stack[position] is self:
                del stack[position]
                break
        _current.set(tuple(stack))

    def __repr__(self) -> str:
        """Names the agent and the session, never the credential."""
        return f"<Session {self.id} of {self.agent.spiffe_id}>"

    def __reduce__(self) -> Any:
        """A session belongs to its process."""
        raise TypeError("a session cannot be pickled or copied; log in again where it is needed")


def _actors(chain: tuple[Session, ...]) -> dict[str, Any]:
    """The agents a session acts for, as nested `act` members (RFC 8693, section 4.1)."""
    first, rest = chain[0], chain[1:]
    actor: dict[str, Any] = {"sub": first.spiffe_id, "session": first.id}
    return {**actor, "act": _actors(rest)} if rest else actor


def current_session() -> Session | None:
    """The session whose `with` block encloses this call, or None."""
    stack = _current.get()
    return stack[-1] if stack else None
