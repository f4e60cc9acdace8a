"""What plugins use: admission of a call by whoever is current, with nothing to configure."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from tabard.actions import Action
from tabard.errors import AccessDenied, ConfigurationError
from tabard.failing import name_of
from tabard.session import Session, current_session
from tabard.verdict import NO_IDENTITY

if TYPE_CHECKING:
    from tabard.guard import Guard
    from tabard.permit import Permit

_latest: weakref.ref[Guard] | None = None


def remember(guard: Guard) -> None:
    """Make this the guard that records refusals of calls without any session; for `Guard`."""
    global _latest
    _latest = weakref.ref(guard)


def admit(action: Action, *, session: Session | None = None) -> Permit:
    """Admit one call of the given or the current session, whichever guard it belongs to.

    Without a session the refusal is recorded by the guard that was opened last in this process.

    Raises:
        AccessDenied: As `Guard.admit`.
    """
    caller = session if session is not None else current_session()
    if isinstance(caller, Session):
        return caller.guard.admit(action, session=caller)
    guard = None if _latest is None else _latest()
    if guard is not None:
        return guard.admit(action, session=caller)
    raise NO_IDENTITY.refusal(agent=None, action=name_of(action))


def refuse(action: Action, refusal: AccessDenied, *, session: Session | None) -> AccessDenied:
    """Put on record that a call is refused, with the guard of the session, else the latest one.

    Returns:
        The refusal to raise; also where no guard is open, so that there is no record to keep.

    Raises:
        GuardUnavailable: It could not be put on record.
    """
    guard = session.guard if session is not None else None if _latest is None else _latest()
    return refusal if guard is None else guard.refuse(action, refusal, session=session)


def current_guard() -> Guard:
    """The guard of the current session, else the one opened last in this process.

    Raises:
        ConfigurationError: None is open.
    """
    session = current_session()
    latest = None if _latest is None else _latest()
    guard = session.guard if session is not None else latest
    if guard is None:
        raise ConfigurationError("no guard is open in this process; call Guard.open(...) first")
    return guard
