"""Cedar policies that narrow what the policy file allows; an extra: `tabard[cedar]`.

They are asked about what the file allows, and never about what it denies. Everything but a clean
`Allow` is a denial: Cedar skips a `forbid` that fails to evaluate, and would let the call through.

A request is `Agent::"<name>"` (with `team`, `environment`, `spiffe_id`), `Action::"tool"` (or
`model`, `retrieval`, `delegation`), `Tool::"<name>"` (or `Model`, `Retriever`, `Agent`), and the
context `args`, `scope` and `now` (POSIX seconds).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from tabard.actions import Action
from tabard.identity.agent import Agent

_RESOURCES = {"tool": "Tool", "model": "Model", "retrieval": "Retriever", "delegation": "Agent"}
_ESCAPES = frozenset({"__extn", "__entity", "__expr"})
"""Members that Cedar's JSON takes for values of other types; nobody's arguments may hold them."""
_MAX_LONG = 2**63 - 1
_DECIMALS = 4
"""Digits after the point that a Cedar decimal has."""


class CedarPolicies:
    """A policy set, parsed once."""

    __slots__ = ("_cedar", "_ids", "_lock", "_policies")

    def __init__(self, cedar: Any, policies: Any, ids: Mapping[str, str]) -> None:
        """Hold a parsed set; `CedarPolicies.parse` makes one."""
        self._cedar = cedar
        self._policies = policies
        self._ids = ids
        self._lock = threading.Lock()

    @classmethod
    def parse(cls, text: str) -> CedarPolicies:
        """Parse a policy set.

        Raises:
            ValueError: It is not one, or the extra is not installed.
        """
        try:
            import cedarpy
        except ImportError:
            raise ValueError("Cedar policies need an extra: pip install 'tabard[cedar]'") from None
        try:
            written = json.loads(cedarpy.policies_to_json_str(text))
            policies = cedarpy.PolicySet.from_str(text)
        except ValueError as error:
            raise ValueError(f"not a Cedar policy set: {error}") from None
        if written["templates"]:
            raise ValueError("Cedar templates are not linked to anything here; write policies")
        named = {
            key: (policy.get("annotations") or {}).get("id") or key
            for key, policy in written["staticPolicies"].items()
        }
        return cls(cedarpy, policies, named)

    def narrow(
        self, agent: Agent, action: Action, scope: Mapping[str, object], now: float
    ) -> tuple[str, str] | None:
        """The rule and the reason of a denial; None when Cedar allows the call as well."""
        try:
            request = _request(agent, action, scope, now)
        except ValueError as error:
            return "cedar", str(error)
        entities = [_principal(agent)]
        with self._lock:
            answer = self._cedar.is_authorized(request, self._policies, entities)
        if answer.diagnostics.errors:
            return "cedar", "a Cedar policy could not be evaluated on this call"
        if answer.decision is self._cedar.Decision.Allow:
            return None
        reasons = answer.diagnostics.reasons
        if not reasons:
            return "cedar", "no Cedar policy permits it"
        return f"cedar/{self._ids.get(reasons[0], reasons[0])}", "a Cedar policy forbids it"


def _principal(agent: Agent) -> dict[str, Any]:
    return {
        "uid": {"__entity": _uid("Agent", agent.name)},
        "attrs": {
            "team": agent.team,
            "environment": agent.environment,
            "spiffe_id": str(agent.spiffe_id),
        },
        "parents": [],
    }


def _request(
    agent: Agent, action: Action, scope: Mapping[str, object], now: float
) -> dict[str, Any]:
    arguments = getattr(action, "arguments", {})
    return {
        "principal": _uid("Agent", agent.name),
        "action": _uid("Action", action.kind),
        "resource": _uid(_RESOURCES[action.kind], action.name),
        "context": {
            "args": _to_cedar(arguments),
            "scope": _to_cedar(dict(scope)),
            "now": int(now),
        },
    }


def _uid(kind: str, name: str) -> dict[str, str]:
    # Never as text: a name with a quote in it must not end early.
    return {"type": kind, "id": name}


def _to_cedar(value: object) -> object:
    """A plain JSON value as Cedar takes it.

    Members that are null are left out, since Cedar knows no null: a policy sees them as absent.

    Raises:
        ValueError: It has no such form.
    """
    if isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        if abs(value) > _MAX_LONG:
            raise ValueError("a number is too large for Cedar")
        return value
    if isinstance(value, float):
        return {"__extn": {"fn": "decimal", "arg": _to_decimal(value)}}
    if isinstance(value, Mapping):
        if _ESCAPES.intersection(value):
            raise ValueError("an argument holds a member that Cedar would take for something else")
        return {name: _to_cedar(item) for name, item in value.items() if item is not None}
    if isinstance(value, list) and None not in value:
        return [_to_cedar(item) for item in value]
    raise ValueError("an argument has no form that Cedar takes")


def _to_decimal(value: float) -> str:
    exact = Decimal(repr(value))
    if not exact.is_finite():
        raise ValueError("a number is not finite")
    places = exact.quantize(Decimal(1).scaleb(-_DECIMALS)) if abs(exact) < 10**14 else None
    if places is None or places != exact:
        raise ValueError("a number is not a Cedar decimal, which has four digits after the point")
    return f"{places:f}"
