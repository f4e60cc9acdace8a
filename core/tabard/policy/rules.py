"""A compiled policy: per agent, tables that answer in constant time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tabard.policy.constraints import Check
from tabard.policy.names import NameIndex
from tabard.policy.patterns import Regex

if TYPE_CHECKING:
    from tabard.policy.windows import Window

Mode = Literal["enforce", "shadow"]
"""Whether a denial blocks the call, or is only recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantRule:
    """A compiled grant: argument checks by name."""

    rule: str
    checks: Mapping[str, Check]
    required: tuple[str, ...]
    open_ended: bool


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
    denied_tools: NameIndex[Prohibition]
    denied_models: NameIndex[Prohibition]
    delegates_to: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A compiled policy.

    Attributes:
        digest: SHA-256 (hex) over the parsed document: comments and key order do not change it.
        mode: `enforce`, or `shadow` to decide and record without blocking.
        agents: The rules of each agent, by the agent's name.
    """

    digest: str
    mode: Mode
    agents: Mapping[str, AgentRules]
