"""A compiled policy: per agent, tables that answer in constant time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import TYPE_CHECKING, Literal

from tabard.policy.constraints import Check
from tabard.policy.names import NameIndex
from tabard.policy.patterns import Regex
from tabard.policy.tariff import Tariff
from tabard.policy.terms import Approval, TermsTable, ToolFacts

if TYPE_CHECKING:
    from tabard.policy.cedar import CedarPolicies
    from tabard.policy.windows import Window

Mode = Literal["enforce", "shadow"]
"""Whether a denial blocks the call, or is only recorded."""

OnError = Literal["deny", "close_session"]
"""What follows when the policy itself cannot be evaluated. The call is refused in any case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantRule:
    """A compiled grant: argument checks by name; with an approval, a call of it is asked about."""

    rule: str
    checks: Mapping[str, Check]
    required: tuple[str, ...]
    open_ended: bool
    approval: Approval | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prohibition:
    """A compiled deny rule, already narrowed to one agent."""

    rule: str
    reason: str
    any_arg: Regex | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRules:
    """Everything one agent may and may not do."""

    name: str
    mode: Mode
    teams: frozenset[str] | None
    environments: frozenset[str] | None
    windows: tuple[Window, ...] | None
    required_scope: tuple[str, ...]
    models: NameIndex[str]
    grants: NameIndex[GrantRule]
    approvals: NameIndex[GrantRule]
    purpose: str | None
    clearance: int
    max_output_tokens: int | None
    terms: TermsTable
    denied_tools: NameIndex[Prohibition]
    denied_models: NameIndex[Prohibition]
    delegates_to: frozenset[str]

    def lists_tool(self, name: str) -> bool:
        """Whether some call of a tool could be allowed; in shadow mode every call goes ahead."""
        if self.mode == "shadow":
            return True
        if any(rule.any_arg is None for rule in self.denied_tools.matching(name)):
            return False
        return bool(self.grants.matching(name) or self.approvals.matching(name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A compiled policy.

    Attributes:
        digest: SHA-256 (hex) over the parsed document: comments and key order do not change it.
        mode: `enforce`, or `shadow` to decide and record without blocking.
        agents: The rules of each agent, by the agent's name.
        on_error: What follows when the policy itself cannot be evaluated.
        tariff: Its currency and prices.
        tools: What each tool is.
        cedar: Cedar policies that narrow every decision, or None.
        text: The document as it was written.
    """

    digest: str
    mode: Mode
    agents: Mapping[str, AgentRules]
    on_error: OnError
    tariff: Tariff
    tools: ToolTable
    cedar: CedarPolicies | None = None
    text: str = field(default="", repr=False)


class ToolTable:
    """What the tools are, by name; several entries for one name count together."""

    __slots__ = ("_entries", "_memo")

    def __init__(self, entries: NameIndex[ToolFacts]) -> None:
        self._entries = entries
        self._memo: dict[tuple[ToolFacts, ...], ToolFacts] = {}

    def facts(self, name: str) -> ToolFacts | None:
        """What a tool is; None when no entry names it."""
        found = self._entries.matching(name)
        if len(found) < 2:
            return found[0] if found else None
        if found not in self._memo:
            self._memo[found] = reduce(ToolFacts.joined, found)
        return self._memo[found]
