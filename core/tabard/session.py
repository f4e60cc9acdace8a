"""The authenticated run of an agent, and which one is current.

A session is an object, compared by identity: no string can be passed off as one. The current one
lives in a `ContextVar`; entering a session inside another makes the inner one current, and leaving
it brings the outer one back. Leaving does not end a session, so one session can be entered by many
nodes of a graph; `close()` ends it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypedDict, runtime_checkable

from tabard.audit.fields import encode
from tabard.identity import Agent, VerifiedToken
from tabard.store.writer import current_instance

if TYPE_CHECKING:
    from tabard.guard import Guard
    from tabard.login import Identified

_current: ContextVar[tuple[Session, ...]] = ContextVar("tabard_session", default=())


class TokenFacts(TypedDict):
    """What tells one token from another of the same agent."""

    jti: str
    issued_at: int


@runtime_checkable
class CredentialSource(Protocol):
    """Anything that hands out a live credential, for example `authority.source(...)`."""

    def credential(self) -> str:
        """A token that is valid now."""


class Session:
    """One authenticated run; made by `Guard.login`, never by hand.

    Attributes:
        id: Random id of this run; in every record of it.
        agent: The verified identity.
        spiffe_id: The agent's SPIFFE ID as text.
        guard: The guard that verified it and admits its calls.
        token: The facts of the credential in use; not the credential.
        source: Where the next credential comes from, or None.
        renew_at: POSIX seconds from which the next credential is asked for.
        seen_at: POSIX seconds of the latest call; a clock that goes back behind it is refused.
        scope: The data scope bound by the host application; read-only.
        on_behalf_of: Keyed pseudonym of the user the agent works for, or None.
    """

    __slots__ = (
        "__weakref__",
        "_closed",
        "_fields",
        "_fields_of",
        "agent",
        "guard",
        "id",
        "lock",
        "on_behalf_of",
        "renew_at",
        "scope",
        "seen_at",
        "source",
        "spiffe_id",
        "token",
    )

    def __init__(
        self,
        *,
        guard: Guard,
        found: Identified,
        scope: Mapping[str, Any],
        on_behalf_of: str | None,
    ) -> None:
        self.id = os.urandom(12).hex()
        self.guard = guard
        self.agent: Agent = found.agent
        self.spiffe_id = str(found.agent.spiffe_id)
        self.scope: Mapping[str, Any] = MappingProxyType(dict(scope))
        self.on_behalf_of = on_behalf_of
        self.source = found.source
        self.seen_at = found.now
        self.lock = threading.RLock()
        self._closed = False
        self.accept(found.token)

    @property
    def instance(self) -> str:
        """The process this runs in, as `host:pid:start`."""
        return current_instance()

    @property
    def closed(self) -> bool:
        """Whether the session was ended."""
        return self._closed

    @property
    def token_facts(self) -> TokenFacts:
        """What liveness is asked about: the token in use."""
        return {"jti": self.token.jti, "issued_at": self.token.issued_at}

    def accept(self, token: VerifiedToken) -> None:
        """Go on under a renewed token of the same agent; for the guard."""
        self.token = token
        began = max(token.issued_at, self.seen_at)
        self.renew_at = began + (token.expires_at - began) / 2
        self._fields_of: tuple[int, str] | None = None

    def close(self) -> None:
        """End the session: every later call of it is refused."""
        with self.lock:
            was_closed, self._closed = self._closed, True
        if not was_closed:
            self.guard.write_outcome("session.close", self.fields())

    def fields(self) -> str:
        """The members of a record that say who calls, as JSON text; made once per token."""
        token = self.token
        key = (os.getpid(), token.jti)
        if self._fields_of != key:
            members = {
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


def current_session() -> Session | None:
    """The session whose `with` block encloses this call, or None."""
    stack = _current.get()
    return stack[-1] if stack else None
