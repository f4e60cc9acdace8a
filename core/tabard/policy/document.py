"""The policy file: what an operator may write, checked field by field.

Every field accepted here changes a decision, or what is on record of it.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from tabard.policy.constraints import Scalar
from tabard.policy.contradictions import find_contradiction
from tabard.policy.data import DATA_CLASSES, Purpose, ToolSection
from tabard.policy.fields import (
    AgentName,
    Currency,
    Duration,
    Expression,
    Glob,
    Globs,
    Label,
    Names,
    RuleId,
    Section,
)
from tabard.policy.patterns import NamePattern, Regex
from tabard.policy.rules import Mode, OnError
from tabard.policy.spending import DEFAULT_CURRENCY, Budget, ExchangeRate, Price, RateLimit
from tabard.policy.windows import Window

UnknownArguments = Literal["deny", "allow"]
DEFAULT_APPROVAL_TTL = 900
"""Seconds a person has for an answer."""


class Constraint(Section):
    """The conditions on one argument; all that are given must hold."""

    model_config = ConfigDict(strict=True)

    type: Literal["string", "integer", "number", "boolean", "array", "object"] | None = None
    equals: Scalar | None = None
    enum: list[Scalar] | None = Field(default=None, min_length=1)
    not_in: list[Scalar] | None = Field(default=None, min_length=1)
    prefix: str | None = None
    glob: str | None = None
    regex: str | None = None
    min: int | float | None = None
    max: int | float | None = None
    max_length: int | None = Field(default=None, ge=0)
    equals_scope: str | None = None
    each: Constraint | None = None
    optional: bool = False

    @model_validator(mode="after")
    def _patterns_compile(self) -> Self:
        if self.regex is not None:
            Regex.parse(self.regex)
        if self.glob is not None:
            NamePattern.parse(self.glob)
        if any(isinstance(bound, float) and math.isnan(bound) for bound in (self.min, self.max)):
            raise ValueError("`min` and `max` must be numbers, found NaN")
        if self.each is not None and self.each.optional:
            raise ValueError("`optional` has no meaning under `each`")
        if (contradiction := find_contradiction(self)) is not None:
            raise ValueError(contradiction)
        return self


class Match(Section):
    """Facts of the verified identity that must hold before a rule set applies to it."""

    team: Names | None = None
    environment: Names | None = None


class Models(Section):
    """The models an agent may call, as globs over `provider/model` or `@set`; how much they write.

    With `max_output_tokens` a call has to set a limit of its own, and no higher one.
    """

    allow: list[str]
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None


class Grant(Section):
    """Tools an agent may call, and what their arguments must look like."""

    id: RuleId | None = None
    tools: Globs
    args: dict[str, Constraint] = {}
    unknown_args: UnknownArguments = "deny"


class ApprovalRule(Section):
    """Tools an agent may call once a person has agreed to exactly this call.

    `when` is what `args` is in a grant: a call it does not fit is refused, not asked about. `show`
    names the arguments whose values the approver gets to see.
    """

    id: RuleId | None = None
    tools: Globs
    when: dict[str, Constraint] = {}
    unknown_args: UnknownArguments = "deny"
    by: Label
    ttl: Duration = DEFAULT_APPROVAL_TTL
    show: list[str] = []

    @model_validator(mode="after")
    def _shows_what_can_be_there(self) -> Self:
        for name in self.show if self.unknown_args == "deny" else ():
            if name not in self.when:
                raise ValueError(f"`show` names `{name}`, which `when` does not: it is never there")
        return self


class AgentSection(Section):
    """Everything one agent may do."""

    match: Match = Match()
    mode: Mode | None = None
    purpose: str | None = None
    max_data_class: str | None = None
    windows: list[str] | None = None
    models: Models = Models(allow=[])
    scope: dict[str, Literal["required", "optional"]] = {}
    budgets: list[Budget] = []
    rates: list[RateLimit] = []
    grants: list[Grant] = []
    approvals: list[ApprovalRule] = []
    delegates_to: list[AgentName] = []


class AnyArgument(Section):
    """A pattern looked for in every argument, nested values and names included."""

    regex: Expression


class DenyRule(Section):
    """A prohibition; it beats every grant."""

    id: RuleId | None = None
    agents: Annotated[list[AgentName], Field(min_length=1)] | None = None
    tools: Globs | None = None
    models: Annotated[list[str], Field(min_length=1)] | None = None
    any_arg: AnyArgument | None = None
    reason: Annotated[str, Field(min_length=1, max_length=500)] | None = None

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if self.tools is None and self.models is None:
            raise ValueError('name what is denied: `tools` or `models` (`["**"]` for all)')
        if self.any_arg is not None and self.models is not None:
            raise ValueError("`any_arg` looks at tool arguments, and a model call has none")
        if "*" in (self.tools or []) or "*" in (self.models or []):
            raise ValueError("`*` is one dotted segment; a rule that denies everything says `**`")
        return self


class Document(Section):
    """A whole policy file."""

    version: Literal[1]
    mode: Mode = "enforce"
    on_error: OnError = "deny"
    currency: Currency = DEFAULT_CURRENCY
    fx: dict[Currency, ExchangeRate] = {}
    prices: dict[Glob, Price] = {}
    sets: dict[str, Globs] = {}
    windows: dict[str, Window] = {}
    purposes: dict[str, Purpose] = {}
    data_classes: Annotated[list[Label], Field(min_length=1)] = DATA_CLASSES
    tools: dict[Glob, ToolSection] = {}
    agents: dict[AgentName, AgentSection] = {}
    deny: list[DenyRule] = []
    cedar: Annotated[str, Field(min_length=1)] | None = None
