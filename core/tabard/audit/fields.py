"""The members of an audit record, as JSON text, with nothing in them that should stay out.

Arguments appear as a keyed commitment and their names, never as values.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from functools import lru_cache
from typing import TYPE_CHECKING

from tabard.actions import Action

if TYPE_CHECKING:
    from tabard.approval import ApprovalRequest
    from tabard.budget.ledger import Hold
    from tabard.policy import Decision
    from tabard.policy.terms import DataUse, Terms

_MAX_NAME = 200
_ARGUMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")

encode = json.JSONEncoder(separators=(",", ":")).encode
"""Writes compact ASCII JSON."""

_quote = lru_cache(maxsize=4096)(encode)
"""The same for the few texts that a policy says again and again."""

_encode_sorted = json.JSONEncoder(separators=(",", ":"), sort_keys=True).encode


def commit_to(secret: bytes, value: object) -> str:
    """HMAC-SHA256 (hex) of a plain JSON value under the home's secret.

    Whoever has the secret and the value can show that they belong together; the commitment alone
    tells nothing, not even for a value that could be guessed.
    """
    return hmac.digest(secret, _encode_sorted(value).encode("ascii"), "sha256").hex()


def pseudonym(secret: bytes, user: str) -> str:
    """A keyed pseudonym (HMAC-SHA256, hex) for the user on whose behalf an agent works."""
    return hmac.digest(secret, b"user\x00" + user.encode(), "sha256").hex()


def action_field(
    action: Action,
    arguments: Mapping[str, object] | None,
    secret: bytes,
    *,
    with_types: bool = False,
) -> str:
    """The member `action` of a decision record.

    Args:
        action: What is about to happen.
        arguments: Its arguments as plain JSON values, or None when they could not be examined.
        secret: The key of the commitment.
        with_types: Whether the JSON types of the arguments are told as well.
    """
    head = _action_head(action)
    if action.call_id is not None:
        head += f',"call_id":{encode(str(action.call_id)[:_MAX_NAME])}'
    if arguments:
        # A model chooses the names it sends, so only what looks like a parameter is written out.
        names = ",".join(f'"{name}"' for name in arguments if _ARGUMENT_NAME.fullmatch(name))
        commit = commit_to(secret, arguments)
        head += f',"args":{{"commit":"{commit}","n":{len(arguments)},"names":[{names}]'
        if with_types:
            head += f',"types":{encode(_types(arguments))}'
        if injected := sorted(getattr(action, "injected", ())):
            head += f',"injected":{encode(injected)}'
        head += "}"
    limit = getattr(action, "max_output_tokens", None)
    if type(limit) is int:
        head += f',"max_output_tokens":{limit}'
    return head + "}"


_TYPE_NAMES = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array",
               dict: "object", type(None): "null"}  # fmt: skip


def _types(arguments: Mapping[str, object]) -> dict[str, str]:
    """The JSON type of each argument whose name is written out."""
    return {
        name: _TYPE_NAMES[type(value)]
        for name, value in arguments.items()
        if _ARGUMENT_NAME.fullmatch(name)
    }


def outcome_field(
    action: Action,
    call: str,
    outcome: Mapping[str, object],
    usage: Mapping[str, int],
    cost: Mapping[str, object] | None = None,
) -> str:
    """The members of an outcome record: the call, the action, how it ended, what it took."""
    used = f',"usage":{encode(usage)}' if usage else ""
    used += f',"cost":{encode(cost)}' if cost else ""
    return f'"call":"{call}",{_action_head(action)}}},"outcome":{encode(outcome)}{used}'


def decision_field(decision: Decision, policy_digest: str) -> str:
    """The member `decision` of a record."""
    rule = "null" if decision.rule is None else _quote(decision.rule)
    return (
        f'"decision":{{"effect":"{decision.effect}","code":{_quote(decision.code)},"rule":{rule},'
        f'"reason":{_quote(decision.reason)},"mode":"{decision.mode}","policy":"{policy_digest}"}}'
        f"{_data_field(decision.terms)}"
    )


def _data_field(terms: Terms | None) -> str:
    return "" if terms is None or terms.data is None else f',"data":{_encode_data(terms.data)}'


@lru_cache(maxsize=1024)
def _encode_data(data: DataUse) -> str:
    return encode({name: fact for name, fact in asdict(data).items() if fact})


def approval_field(request: ApprovalRequest) -> str:
    """The member `approval` of a record: which question, and who has answered it."""
    return (
        f'"approval":{encode({"id": request.id, "role": request.role, "by": request.decided_by})}'
    )


def hold_field(hold: Hold) -> str:
    """The members of a record about money that was held for a call nothing was heard of."""
    facts = {"amount": hold.amount, "windows": list(hold.keys)}
    return f'"call":"{hold.call}","charged":{encode(facts)}'


def _action_head(action: Action) -> str:
    """The member `action`, still open."""
    return f'"action":{{"kind":"{action.kind}","name":{encode(action.name[:_MAX_NAME])}'
