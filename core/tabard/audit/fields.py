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
from typing import TYPE_CHECKING, NamedTuple

from tabard.actions import Action
from tabard.redaction import holds_credential

if TYPE_CHECKING:
    from tabard.approval import ApprovalRequest
    from tabard.budget.ledger import Hold
    from tabard.policy import Decision
    from tabard.policy.terms import DataUse, Terms

_MAX_NAME = 200
_MAX_KIND = 100
_ARGUMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")

encode = json.JSONEncoder(separators=(",", ":")).encode
"""Writes compact ASCII JSON."""

quote = lru_cache(maxsize=4096)(encode)
"""The same for texts that are said again and again; never for an argument's value."""

_encode_sorted = json.JSONEncoder(separators=(",", ":"), sort_keys=True).encode


def commit_to(secret: bytes, value: object) -> str:
    """HMAC-SHA256 (hex) of a plain JSON value under the home's secret.

    Whoever has the secret and the value can show that they belong together; the commitment alone
    tells nothing, not even for a value that could be guessed.
    """
    return hmac.digest(secret, _encode_sorted(value).encode("ascii"), "sha256").hex()


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
        head += f',"call_id":{encode(_id(str(action.call_id)))}'
    if arguments:
        # A model chooses the names it sends, so only what looks like a parameter is written out.
        names = ",".join(f'"{name}"' for name in arguments if _is_parameter(name))
        commit = commit_to(secret, arguments)
        head += f',"args":{{"commit":"{commit}","n":{len(arguments)},"names":[{names}]'
        if with_types:
            head += f',"types":{encode(_types(arguments))}'
        if injected := sorted(getattr(action, "injected", ())):
            head += f',"injected":{encode(list(filter(_is_parameter, injected)))}'
        head += "}"
    limit = getattr(action, "max_output_tokens", None)
    if type(limit) is int:
        head += f',"max_output_tokens":{limit}'
    return head + "}"


def _id(text: str) -> str:
    """An id as it is recorded; words with spaces between them are none, and may say anything."""
    return "(no id)" if " " in text or not text.isprintable() else text[:_MAX_NAME]


_TYPE_NAMES = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array",
               dict: "object", type(None): "null"}  # fmt: skip


def _types(arguments: Mapping[str, object]) -> dict[str, str]:
    """The JSON type of each argument whose name is written out."""
    return {
        name: _TYPE_NAMES[type(value)] for name, value in arguments.items() if _is_parameter(name)
    }


@lru_cache(maxsize=4096)
def _is_parameter(name: str) -> bool:
    """Whether an argument's name looks like a parameter, and not like what somebody would hide."""
    return _ARGUMENT_NAME.fullmatch(name) is not None and not holds_credential(name)


class FinalCost(NamedTuple):
    """What a call has cost in the end.

    Attributes:
        amount: Nano-units.
        currency: ISO 4217.
        estimated: Whether its usage is not known, so that this is the most it can have cost.
    """

    amount: int
    currency: str
    estimated: bool


class Outcome(NamedTuple):
    """How a call has ended.

    Attributes:
        failure: The kind of its error; None when it went well.
        duration_ms: How long it took.
        usage: Tokens by kind, as far as they were reported.
        result: What it returned, as a plain JSON value; None when nobody told, or it has no such
            form. Committed to, and kept only where the policy says so.
        provider_id: What the provider calls the answer; None when nobody told.
    """

    failure: str | None
    duration_ms: float
    usage: Mapping[str, int]
    result: object = None
    provider_id: str | None = None


def outcome_field(
    action: Action,
    call: str,
    outcome: Outcome,
    secret: bytes,
    cost: FinalCost | None = None,
) -> str:
    """The members of an outcome record: the call, the action, how it ended, what it took."""
    failure, usage = outcome.failure, outcome.usage
    ended = '"status":"ok"'
    if failure is not None:
        ended = f'"status":"error","error_type":{quote(failure[:_MAX_KIND])}'
    ended += f',"duration_ms":{outcome.duration_ms}'
    used = f',"usage":{encode(usage)}' if usage else ""
    if outcome.result is not None:
        text = _encode_sorted(outcome.result).encode("ascii")
        commit = hmac.digest(secret, text, "sha256").hex()
        used += f',"result":{{"commit":"{commit}","n":{len(text)}}}'
    if outcome.provider_id is not None:
        used += f',"provider_id":{encode(_id(outcome.provider_id))}'
    if cost is not None:
        estimated = "true" if cost.estimated else "false"
        used += (
            f',"cost":{{"amount":{cost.amount},"currency":{quote(cost.currency)},'
            f'"estimated":{estimated}}}'
        )
    return f'"call":"{call}",{_action_head(action)}}},"outcome":{{{ended}}}{used}'


def decision_field(decision: Decision, policy_digest: str) -> str:
    """The member `decision` of a record."""
    rule = "null" if decision.rule is None else quote(decision.rule)
    return (
        f'"decision":{{"effect":"{decision.effect}","code":{quote(decision.code)},"rule":{rule},'
        f'"reason":{quote(decision.reason)},"mode":"{decision.mode}","policy":"{policy_digest}"}}'
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
    return f'"action":{{"kind":"{action.kind}","name":{quote(action.name[:_MAX_NAME])}'
