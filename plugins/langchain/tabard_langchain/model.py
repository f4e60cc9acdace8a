"""Which model a call really reaches: told by the model itself, never by whoever calls it.

Metadata can be set by any caller, so a name counts only when the parameters of the invocation or
the model object bear it out. Where they name several models (a model switched at run time, say),
every one of them has to be allowed. A parameter that goes past all of these, such as `extra_body`,
may name no other model: what the provider makes of it would be on no record.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from tabard import ModelCall, NotPermitted, Permit, Session, admit, current_session
from tabard_langchain.tokens import most_read, most_written

UNKNOWN = "unknown"
"""Stands for a name that cannot be established; what bears it is refused under any policy."""

_NAMES = ("model", "model_name", "model_id", "azure_deployment", "deployment_name")
_ALIASES = ("deployment", "deployment_id", "engine", "modelId", "models", "fallbacks")
"""Further names under which some provider takes a model, or several to choose from."""

_PASSED_ON = ("extra_body", "extra_json", "model_kwargs")
"""Parameters that a class merges over those it has set itself."""

_IN_REPR = re.compile(rf"[( ](?:{'|'.join(_NAMES)})='([^']+)'")
_PASSED_ON_IN_REPR = re.compile(
    rf"(?:{'|'.join(_PASSED_ON)})=\{{[^{{}}]*'(?:{'|'.join(_NAMES + _ALIASES)})': (?!None)([^,}}]+)"
)
_UNREADABLE = object()


def admit_model(
    serialized: Mapping[str, Any] | None,
    parameters: Mapping[str, Any] | None,
    metadata: Mapping[str, Any] | None,
    inputs: object,
    *,
    session: Session | None,
) -> Permit:
    """Admit a model call under every name it goes by.

    Args:
        serialized: LangChain's description of the model object; None for a chain.
        parameters: `invocation_params`, the object's parameters under those of the call; None
            for a chain.
        metadata: The labels `ls_provider` and `ls_model_name`, possibly a caller's.
        inputs: The messages or prompts; only counted.
        session: Whose call it is; default the current session.

    Raises:
        AccessDenied: One of the names is not allowed, or there is none.
    """
    metadata = metadata or {}
    provider = _text(metadata.get("ls_provider")) or UNKNOWN
    names = _names(serialized, parameters, metadata)
    read, written = most_read(inputs, parameters), most_written(serialized, parameters)
    calls = [
        ModelCall(name, provider=provider, input_tokens=read, max_output_tokens=written)
        for name in names
    ]
    permit = admit(_strictest(calls, session), session=session)
    if UNKNOWN in (provider, *names):
        refuse_unknown(permit, "model")
    return permit


def refuse_unknown(permit: Permit, code: str) -> None:
    """Refuse what has no trustworthy name: a policy that allows every name still has denials.

    Raises:
        NotPermitted: Always, except in shadow mode.
    """
    if permit.decision.mode == "shadow":
        return
    permit.fail("UnknownName")
    raise NotPermitted(
        code=code,
        reason="its name cannot be established; a class of your own has to report it itself",
        agent=permit.session.spiffe_id,
        action=permit.action.name,
    )


def _names(
    serialized: Mapping[str, Any] | None,
    parameters: Mapping[str, Any] | None,
    metadata: Mapping[str, Any],
) -> list[str]:
    """Every name, the run-time parameter first; `unknown` where only a caller vouches for one."""
    told = _text(metadata.get("ls_model_name"))
    own = [*_named_in(parameters), *_constructed_with(serialized or {})]
    if not own and parameters is None and told:
        # A decision model: its class writes the labels over whatever a caller has set.
        own = [told]
    if not own:
        return [UNKNOWN]
    if not _is_all_there_is(own, serialized or {}, parameters):
        return [UNKNOWN]
    return list(dict.fromkeys(_bare(name) for name in [*own, told] if name))


def _bare(name: str) -> str:
    """Google's names come with and without a prefix."""
    return name.removeprefix("models/")


def _is_all_there_is(own: list[str], serialized: Mapping[str, Any], parameters: object) -> bool:
    """Whether no parameter, of the call or the object, leads to a model of another name."""
    known = {_bare(name) for name in own}
    loose = [*_loosely_named(parameters), *_loosely_named(serialized.get("kwargs"))]
    loose += _values(parameters, _NAMES)
    loose += [one.strip("'") for one in _PASSED_ON_IN_REPR.findall(_text(serialized.get("repr")))]
    return all(isinstance(one, str) and _bare(one) in known for one in loose)


def _loosely_named(parameters: object) -> Iterator[object]:
    """Whatever stands where some provider looks for a model."""
    for value in _values(parameters, _ALIASES):
        yield from value if isinstance(value, list | tuple) else [value]
    for inner in _values(parameters, _PASSED_ON):
        if isinstance(inner, Mapping):
            yield from _values(inner, _NAMES)
            yield from _loosely_named(inner)
        else:
            yield _UNREADABLE


def _values(parameters: object, names: tuple[str, ...]) -> Iterator[object]:
    if isinstance(parameters, Mapping):
        found = (parameters.get(name) for name in names)
        yield from (v for v in found if v is not None and not (isinstance(v, str) and v == ""))


def _named_in(parameters: object) -> Iterator[str]:
    if isinstance(parameters, Mapping):
        yield from filter(None, (_text(parameters.get(key)) for key in _NAMES))


def _constructed_with(serialized: Mapping[str, Any]) -> Iterator[str]:
    """The names the model object was made with."""
    yield from _named_in(serialized.get("kwargs"))
    # All there is for a class that cannot be serialized (Ollama). Holds secrets: never logged.
    yield from _IN_REPR.findall(_text(serialized.get("repr")))


def _strictest(calls: list[ModelCall], session: Session | None) -> ModelCall:
    """The first call that would be refused, else the first."""
    caller = session if session is not None else current_session()
    if len(calls) > 1 and isinstance(caller, Session):
        for call in calls:
            if caller.guard.check(call, session=caller).effect != "allow":
                return call
    return calls[0]


def _text(value: object) -> str:
    return str.__str__(value) if isinstance(value, str) else ""  # plain, where it is an enum's
