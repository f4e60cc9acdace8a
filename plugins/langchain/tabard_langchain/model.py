"""Which model a call really reaches: told by the model itself, never by whoever calls it.

Metadata can be set by any caller, so a name counts only when the model's own parameters bear it
out. Where parameters and metadata name several models (a model switched at run time, say), every
one of them has to be allowed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tabard import ModelCall, Permit, Session, admit, current_session

UNKNOWN = "unknown"
"""Stands for a model whose name cannot be established; a policy has no reason to allow it."""

_NAMES = ("model", "model_name", "model_id")


def admit_model(
    serialized: Mapping[str, Any] | None,
    parameters: Mapping[str, Any] | None,
    metadata: Mapping[str, Any] | None,
    *,
    session: Session | None,
) -> Permit:
    """Admit a model call under every name it goes by.

    Raises:
        AccessDenied: One of the names is not allowed.
    """
    metadata = metadata or {}
    provider = str(metadata.get("ls_provider") or UNKNOWN)
    names = _names(serialized, parameters, metadata)
    calls = [ModelCall(name, provider=provider) for name in names]
    return admit(_strictest(calls, session), session=session)


def _names(
    serialized: Mapping[str, Any] | None,
    parameters: Mapping[str, Any] | None,
    metadata: Mapping[str, Any],
) -> list[str]:
    """Every name, the run-time parameter first; `unknown` where only a caller vouches for one."""
    own = [*_named_in(parameters), *_named_in((serialized or {}).get("kwargs"))]
    if not own and metadata.get("ls_model_type") == "chat" and parameters is None:
        # A decision model: its class writes these members over whatever a caller has set.
        own = [name for name in [metadata.get("ls_model_name")] if isinstance(name, str)]
    if not own:
        return [UNKNOWN]
    told = metadata.get("ls_model_name")
    return list(dict.fromkeys([*own, told] if isinstance(told, str) and told else own))


def _named_in(parameters: object) -> Iterator[str]:
    if isinstance(parameters, Mapping):
        for key in _NAMES:
            value = parameters.get(key)
            if isinstance(value, str) and value:
                yield value


def _strictest(calls: list[ModelCall], session: Session | None) -> ModelCall:
    """The first call that would be refused, else the first."""
    caller = session if session is not None else current_session()
    if len(calls) > 1 and isinstance(caller, Session):
        for call in calls:
            if caller.guard.check(call, session=caller).effect != "allow":
                return call
    return calls[0]
