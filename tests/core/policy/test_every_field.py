"""Changing any field of the schema changes a decision: nothing is accepted and ignored."""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML

from tabard import Action, Agent, Authority, Decision, Delegation, Guard, ModelCall, ToolCall
from tabard.budget import Cost, TokenUsage
from tabard.budget.pricing import Sum
from tabard.policy import Policy, decide, load
from tabard.policy.document import Document

NOW = 1_800_000_000.0  # Friday 2027-01-15 08:00:00 UTC

BASE = """
version: 1
mode: enforce
on_error: deny
currency: EUR
fx: {USD: {rate: "0.5", as_of: 2026-11-20}}
prices: {m/a: {input: "2", output: "8", cache_read: "1", cache_write: "3", currency: USD}}
sets: {s: [m/a]}
windows: {w: {tz: UTC, days: [fri], from: "07:00", to: "09:00", except: [2020-01-01]}}
purposes: {p: {legal_basis: contract, data_subjects: [claimants], retention_days: 10}, q: {}}
data_classes: [public, personal]
tools: {t: {data_class: personal, asset: base, purposes: [p], cost: "1"}}
agents:
  clerk:
    match: {team: desk, environment: dev}
    mode: enforce
    purpose: p
    max_data_class: personal
    windows: [w]
    models: {allow: ["@s"], max_output_tokens: 100}
    scope: {k: required}
    budgets: [{per: day, limit: "100", tz: Europe/Brussels, of: agent}]
    rates: [{tools: [t], limit: 5, per: 1m}]
    delegates_to: [boss]
    grants:
      - id: g
        tools: ["t*"]
        args:
          a: {type: string, not_in: [y], prefix: x, glob: x, regex: x, max_length: 1,
              equals_scope: k}
          t: {type: string}
          e: {equals: w}
          m: {enum: [w]}
          n: {min: 1, max: 3}
          l: {each: {equals: 1}}
          o: {optional: true}
    approvals:
      - {id: pay, tools: [pay], when: {amount: {max: 5}}, by: lead, ttl: 5m, show: [amount]}
  boss: {}
deny:
  - {id: d, agents: [boss], tools: [t], any_arg: {regex: x}, reason: because}
  - {id: e, agents: [boss], models: [m/a]}
cedar: 'permit(principal, action, resource);'
"""
CALL = ToolCall("t", {"a": "x", "t": "w", "e": "w", "m": "w", "n": 2, "l": [1]})
GRANT = "agents.clerk.grants.0"
ASKED = "agents.clerk.approvals.0"
CHANGES: dict[str, tuple[str, Any]] = {
    "Document.mode": ("agents.clerk.mode", None),
    "Document.currency": ("currency", "CHF"),
    "Document.fx": ("fx", {"USD": {"rate": "0.25", "as_of": "2026-11-20"}}),
    "Document.prices": ("prices", {}),
    "Document.sets": ("sets.s", ["m/b"]),
    "Document.windows": ("windows.w.from", "08:30"),
    "Document.purposes": ("purposes.p", {}),
    "Document.data_classes": ("data_classes", ["personal", "public"]),
    "Document.tools": ("tools", {}),
    "Document.deny": ("deny.0.agents", ["clerk"]),
    "Document.cedar": ("cedar", "forbid(principal, action, resource);"),
    "ExchangeRate.rate": ("fx.USD.rate", "0.75"),
    "ExchangeRate.as_of": ("fx.USD.as_of", "2028-01-01"),
    "Price.input": ("prices.m/a.input", "4"),
    "Price.output": ("prices.m/a.output", "4"),
    "Price.cache_read": ("prices.m/a.cache_read", "2"),
    "Price.cache_write": ("prices.m/a.cache_write", "2"),
    "Price.currency": ("prices.m/a.currency", "EUR"),
    "Window.tz": ("windows.w.tz", "Asia/Tokyo"),
    "Window.days": ("windows.w.days", ["mon"]),
    "Window.from": ("windows.w.from", "08:30"),
    "Window.to": ("windows.w.to", "07:30"),
    "Window.except": ("windows.w.except", ["2027-01-15"]),
    "Purpose.legal_basis": ("purposes.p.legal_basis", "consent"),
    "Purpose.data_subjects": ("purposes.p.data_subjects", ["children"]),
    "Purpose.retention_days": ("purposes.p.retention_days", 20),
    "ToolSection.data_class": ("tools.t.data_class", "public"),
    "ToolSection.asset": ("tools.t.asset", "other"),
    "ToolSection.purposes": ("tools.t.purposes", ["q"]),
    "ToolSection.cost": ("tools.t.cost", "2"),
    "ToolSection.capture": ("tools.t.capture", {"args": ["a"]}),
    "Capture.args": ("tools.t.capture", {"args": ["a", "n"]}),
    "Capture.result": ("tools.t.capture", {"result": True}),
    "AgentSection.match": ("agents.clerk.match", {"team": "other"}),
    "AgentSection.mode": ("agents.clerk.mode", "shadow"),
    "AgentSection.purpose": ("agents.clerk.purpose", "q"),
    "AgentSection.max_data_class": ("agents.clerk.max_data_class", "public"),
    "AgentSection.windows": ("agents.clerk.windows", []),
    "AgentSection.models": ("agents.clerk.models", {"allow": ["m/b"]}),
    "AgentSection.scope": ("agents.clerk.scope.j", "required"),
    "AgentSection.budgets": ("agents.clerk.budgets", []),
    "AgentSection.rates": ("agents.clerk.rates", []),
    "AgentSection.grants": ("agents.clerk.grants", []),
    "AgentSection.approvals": ("agents.clerk.approvals", []),
    "AgentSection.delegates_to": ("agents.clerk.delegates_to", []),
    "Match.team": ("agents.clerk.match.team", "other"),
    "Match.environment": ("agents.clerk.match.environment", "other"),
    "Models.allow": ("agents.clerk.models.allow", []),
    "Models.max_output_tokens": ("agents.clerk.models.max_output_tokens", 10),
    "Budget.per": ("agents.clerk.budgets.0.per", "month"),
    "Budget.limit": ("agents.clerk.budgets.0.limit", "50"),
    "Budget.tz": ("agents.clerk.budgets.0.tz", "UTC"),
    "Budget.of": ("agents.clerk.budgets.0.of", "team"),
    "RateLimit.tools": ("agents.clerk.rates.0.tools", ["u"]),
    "RateLimit.limit": ("agents.clerk.rates.0.limit", 6),
    "RateLimit.per": ("agents.clerk.rates.0.per", "2m"),
    "Grant.id": (f"{GRANT}.id", "h"),
    "Grant.tools": (f"{GRANT}.tools", ["u"]),
    "Grant.args": (f"{GRANT}.args.z", {}),
    "Grant.unknown_args": (f"{GRANT}.unknown_args", "allow"),
    "ApprovalRule.id": (f"{ASKED}.id", "h"),
    "ApprovalRule.tools": (f"{ASKED}.tools", ["u"]),
    "ApprovalRule.when": (f"{ASKED}.when.z", {}),
    "ApprovalRule.unknown_args": (f"{ASKED}.unknown_args", "allow"),
    "ApprovalRule.by": (f"{ASKED}.by", "chief"),
    "ApprovalRule.ttl": (f"{ASKED}.ttl", "6m"),
    "ApprovalRule.show": (f"{ASKED}.show", []),
    "Constraint.type": (f"{GRANT}.args.t.type", "integer"),
    "Constraint.equals": (f"{GRANT}.args.e.equals", "z"),
    "Constraint.enum": (f"{GRANT}.args.m.enum", ["z"]),
    "Constraint.not_in": (f"{GRANT}.args.a.not_in", ["x"]),
    "Constraint.prefix": (f"{GRANT}.args.a.prefix", "z"),
    "Constraint.glob": (f"{GRANT}.args.a.glob", "z"),
    "Constraint.regex": (f"{GRANT}.args.a.regex", "z"),
    "Constraint.max_length": (f"{GRANT}.args.a.max_length", 0),
    "Constraint.equals_scope": (f"{GRANT}.args.n.equals_scope", "k"),
    "Constraint.min": (f"{GRANT}.args.n.min", 3),
    "Constraint.max": (f"{GRANT}.args.n.max", 1),
    "Constraint.each": (f"{GRANT}.args.l.each.equals", 2),
    "Constraint.optional": (f"{GRANT}.args.o.optional", False),
    "DenyRule.id": ("deny.0.id", "f"),
    "DenyRule.agents": ("deny.0.agents", ["clerk"]),
    "DenyRule.tools": ("deny.0.tools", ["u"]),
    "DenyRule.models": ("deny.1.models", ["m/b"]),
    "DenyRule.any_arg": ("deny.0.any_arg", {"regex": "z"}),
    "DenyRule.reason": ("deny.0.reason", "why not"),
    "AnyArgument.regex": ("deny.0.any_arg.regex", "z"),
}
"""Each field of the schema, by `Model.field`, and a change of it."""

STRUCTURE = {"Document.version", "Document.agents"}
ELSEWHERE = {"Document.on_error"}  # see `test_on_error`


def changed(path: str, value: Any) -> Policy:
    """The base policy with one value replaced, or taken out where it is None."""
    data = YAML(typ="safe").load(BASE)
    *parents, leaf = path.split(".")
    section = data
    for part in parents:
        section = section[int(part)] if isinstance(section, list) else section[part]
    if value is None:
        section.pop(leaf)
        data["mode"] = "shadow"
    else:
        section[leaf] = value
    stream = io.StringIO()
    YAML().dump(data, stream)
    return load(stream.getvalue())


class FlatPricer:
    """Knows one price for everything: a dollar a token."""

    def cost(self, model: str, usage: TokenUsage, now: float) -> Cost | None:
        return Cost(Fraction(usage.input_tokens + usage.output_tokens), "USD", "flat")


def outcomes(policy: Policy) -> tuple[list[Decision], Sum | None, str]:
    """What a policy says to a set of calls, and what it makes of the price of one."""
    agents = [
        Agent.named(name, team="desk", environment="dev", trust_domain="acme.example")
        for name in ("clerk", "boss")
    ]
    actions: list[Action] = [
        CALL,
        ToolCall("u", CALL.arguments),
        ToolCall("t", {**CALL.arguments, "new": 1}),
        ToolCall("t", {**CALL.arguments, "a": "z"}),
        ToolCall("pay", {"amount": 5}),
        ToolCall("pay", {"amount": 5, "new": 1}),
        ModelCall("m/a", max_output_tokens=50),
        ModelCall("m/b", max_output_tokens=50),
        Delegation("boss"),
        Delegation("clerk"),
    ]
    usage = TokenUsage(
        input_tokens=100, output_tokens=10, cache_read_tokens=20, cache_write_tokens=30
    )
    price = policy.tariff.price("m/a", usage, FlatPricer(), NOW)
    decisions = [
        decide(who, what, policy, NOW, scope={"k": "x"}) for who in agents for what in actions
    ]
    return decisions, price, policy.tariff.currency


@pytest.mark.parametrize("field", CHANGES)
def test_field_counts(field: str) -> None:
    """Changing this one field changes a decision, what it is bound to, or what it costs."""
    assert outcomes(changed(*CHANGES[field])) != outcomes(load(BASE))


def test_base_allows() -> None:
    """The policy that the changes start from allows and asks: a change can show."""
    decisions, price, _ = outcomes(load(BASE))
    assert [d.effect for d in decisions[:7]] == [
        "allow", "deny", "deny", "deny", "ask", "deny", "allow",
    ]  # fmt: skip
    assert price is not None


def test_whole_schema_is_walked() -> None:
    """A field of any section without a change in the list fails here."""
    fields = {
        f"{model.__name__}.{info.alias or name}"
        for model in sections(Document)
        for name, info in model.model_fields.items()
    }
    assert fields == set(CHANGES) | STRUCTURE | ELSEWHERE


def sections(
    model: type[BaseModel], seen: set[type[BaseModel]] | None = None
) -> set[type[BaseModel]]:
    """A model and every model that a field of it can hold."""
    seen = set() if seen is None else seen
    if model not in seen:
        seen.add(model)
        for info in model.model_fields.values():
            for inner in models_in(info.annotation):
                sections(inner, seen)
    return seen


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from models_in(part)


@pytest.mark.parametrize(
    ("on_error", "next_code"), [("deny", "ok"), ("close_session", "session_closed")]
)
def test_on_error(
    guard: Guard,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    on_error: str,
    next_code: str,
) -> None:
    """A policy that cannot be evaluated refuses the call; `close_session` ends the session, too."""
    import dataclasses

    import tabard.delegation

    policy = dataclasses.replace(guard.policy, on_error=on_error)  # type: ignore[arg-type]
    monkeypatch.setattr(guard._policies, "_policy", policy)
    session = guard.login(authority.issue("claims-agent"))
    lookup = ToolCall("policy_lookup", {"policy_no": "POL-123456"})
    with monkeypatch.context() as broken:
        broken.setattr(tabard.delegation, "decide", lambda *_, **__: 1 / 0)
        with pytest.raises(Exception, match="policy: the policy could not be evaluated"):
            guard.admit(lookup, session=session)
    assert guard.check(lookup, session=session).code == next_code
