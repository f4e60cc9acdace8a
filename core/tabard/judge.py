"""Looks at one call before the store is asked: the session, its credential, the policy."""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass

from tabard.actions import Action, Delegation, ModelCall, Retrieval, ToolCall
from tabard.arguments import plain_arguments
from tabard.clock import CLOCK_SKEW, Clock, read_clock
from tabard.credentials import CredentialVerifier
from tabard.errors import AccessDenied, GuardUnavailable
from tabard.login import renew
from tabard.policy import Policy, decide
from tabard.session import Session
from tabard.verdict import (
    FOREIGN_SESSION,
    MALFORMED,
    NO_IDENTITY,
    SESSION_CLOSED,
    UNEXAMINABLE,
    Verdict,
)

_log = logging.getLogger("tabard")
_KINDS = (ToolCall, ModelCall, Retrieval, Delegation)
_NOTHING: Mapping[str, object] = {}


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is known of a call before the store has its say.

    Attributes:
        verdict: The conclusion so far.
        action: The action as it is recorded.
        arguments: Its arguments as plain values, or None when they could not be examined.
        session: Whose call it is; None when that is not established.
        now: POSIX seconds.
    """

    verdict: Verdict
    action: Action
    arguments: Mapping[str, object] | None
    session: Session | None
    now: float


class Judge:
    """Decides about calls; holds no state but which sessions are its guard's own."""

    def __init__(self, *, policy: Policy, verifier: CredentialVerifier, clock: Clock) -> None:
        self.policy = policy
        self.sessions: weakref.WeakSet[Session] = weakref.WeakSet()
        self._verifier = verifier
        self._clock = clock

    def judge(self, action: Action, session: object) -> Judgement:
        """Judge a call without any side effect but the renewal of a credential."""
        known = session if type(session) is Session and session in self.sessions else None
        try:
            now = read_clock(self._clock)
        except GuardUnavailable as refusal:
            return Judgement(Verdict.of(refusal), _named(action), None, known, time.time())
        if not _is_well_formed(action):
            return Judgement(MALFORMED, _named(action), None, known, now)
        try:
            arguments = plain_arguments(getattr(action, "arguments", _NOTHING))
        except Exception:
            # Even a mapping that raises on purpose is an argument that cannot be examined.
            arguments = None
        if known is None:
            verdict = NO_IDENTITY if session is None else FOREIGN_SESSION
        else:
            verdict = self._check_session(known, now) or self._decide(action, arguments, known, now)
        return Judgement(verdict, action, arguments, known, now)

    def _check_session(self, session: Session, now: float) -> Verdict | None:
        """The session is open, the clock has not gone back, and the credential is alive."""
        if session.closed:
            return SESSION_CLOSED
        if now < session.seen_at - CLOCK_SKEW:
            return Verdict.undecidable("clock", "the clock has gone back during the session")
        session.seen_at = now
        try:
            if session.source is not None and now >= session.renew_at:
                renew(session, self._verifier, now)
        except AccessDenied as refusal:
            return Verdict.of(refusal)
        if now >= session.token.expires_at:
            return Verdict.unidentified("token_expired", "the session's credential has expired")
        return None

    def _decide(
        self,
        action: Action,
        arguments: Mapping[str, object] | None,
        session: Session,
        now: float,
    ) -> Verdict:
        if arguments is None:
            return UNEXAMINABLE
        if type(action) is ToolCall:
            # Decided on the copy: what the caller does to its own arguments meanwhile is nothing.
            action = ToolCall(action.name, arguments, injected=action.injected)
        try:
            return Verdict(decide(session.agent, action, self.policy, now, scope=session.scope))
        except Exception as error:
            kind = type(error).__name__
            _log.error("a call was refused because the policy could not be evaluated: %s", kind)
            return Verdict.undecidable("policy", f"the policy could not be evaluated: {kind}")


def _is_well_formed(action: Action) -> bool:
    """The action is one of ours and its name is text that can be written down."""
    if type(action) not in _KINDS or type(action.name) is not str or not action.name:
        return False
    return action.name.isascii() or _has_utf8_form(action.name)


def _has_utf8_form(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _named(action: Action) -> Action:
    """An action that can be recorded, whatever was passed."""
    return action if _is_well_formed(action) else ToolCall("(malformed)")
