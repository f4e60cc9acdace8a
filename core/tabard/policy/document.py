"""The policy file: what an operator may write, checked field by field.

Every field accepted here changes a decision. A field of the design that this version does not
enforce yet is refused, and the message says so.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from tabard.policy.constraints import Scalar
from tabard.policy.patterns import NamePattern, Regex
from tabard.policy.rules import Mode
from tabard.policy.windows import Window

NOT_YET_ENFORCED = frozenset(
    {
        "approvals",
        "asset",
        "budgets",
        "currency",
        "data_class",
        "data_classes",
        "fx",
        "max_data_class",
        "max_output_tokens",
        "on_error",
        "purpose",
        "purposes",
        "rates",
    }
)
"""Fields of the design whose effect this version does not have; the loader refuses them."""


def _check_pattern(text: str) -> str:
    NamePattern.parse(text)
    return text


def _check_regex(text: str) -> str:
    Regex.parse(text)
    return text


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


Glob = Annotated[str, AfterValidator(_check_pattern)]
Expression = Annotated[str, AfterValidator(_check_regex)]
Names = Annotated[list[str], BeforeValidator(_as_list), Field(min_length=1)]
RuleId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}\z")]
AgentName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,128}\z")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Constraint(_Section):
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
        return self


class Match(_Section):
    """Facts of the verified identity that must hold before a rule set applies to it."""

    team: Names | None = None
    environment: Names | None = None


class Models(_Section):
    """The models an agent may call: globs over `provider/model`, or `@set`."""

    allow: list[str]


class Grant(_Section):
    """Tools an agent may call, and what their arguments must look like."""

    id: RuleId | None = None
    tools: Annotated[list[Glob], Field(min_length=1)]
    args: dict[str, Constraint] = {}
    unknown_args: Literal["deny", "allow"] = "deny"


class AgentSection(_Section):
    """Everything one agent may do."""

    match: Match = Match()
    mode: Mode | None = None
    windows: list[str] | None = None
    models: Models = Models(allow=[])
    scope: dict[str, Literal["required", "optional"]] = {}
    grants: list[Grant] = []
    delegates_to: list[AgentName] = []


class AnyArgument(_Section):
    """A pattern looked for in every argument, nested values and names included."""

    regex: Expression


class DenyRule(_Section):
    """A prohibition; it beats every grant."""

    id: RuleId | None = None
    agents: Annotated[list[AgentName], Field(min_length=1)] | None = None
    tools: Annotated[list[Glob], Field(min_length=1)] | None = None
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


class Document(_Section):
    """A whole policy file."""

    version: Literal[1]
    mode: Mode = "enforce"
    sets: dict[str, Annotated[list[Glob], Field(min_length=1)]] = {}
    windows: dict[str, Window] = {}
    agents: dict[AgentName, AgentSection] = {}
    deny: list[DenyRule] = []
