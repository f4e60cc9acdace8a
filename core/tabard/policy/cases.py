r"""The file `policy.test.yaml`: calls, and what a policy has to decide about them.

>>> [case] = load_cases(
...     "cases: [{name: a search, agent: clerk, tool: search, expect: {decision: allow}}]\n"
... )
>>> case.action()
ToolCall(name='search', injected=frozenset(), call_id=None)
"""

from __future__ import annotations

import os
from collections import Counter
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    model_validator,
)

from tabard.actions import Action, Delegation, ModelCall, Retrieval, ToolCall
from tabard.arguments import plain_arguments
from tabard.clock import MAX_TIME
from tabard.errors import ConfigurationError, InvalidSpiffeId
from tabard.identity.agent import Agent
from tabard.policy.fields import Label, Section
from tabard.policy.loader import read_source, read_yaml
from tabard.policy.problems import describe_problems


def parse_moment(value: object) -> float:
    """POSIX seconds of an ISO 8601 time with its zone.

    Raises:
        ValueError: It is something else, or its zone is missing: then nobody knows when it is.
    """
    found = value
    if isinstance(value, str):
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            found = None
    if not isinstance(found, datetime) or found.tzinfo is None:
        raise ValueError("expected a time with its zone, such as 2026-11-24T10:00:00+01:00")
    seconds = found.timestamp()
    if not 0 <= seconds < MAX_TIME:
        raise ValueError("expected a time from 1970 on")
    return seconds


def _check_name(text: str) -> str:
    try:
        Agent.named(text, team="t", environment="e", trust_domain="policy.test")
    except InvalidSpiffeId:
        raise ValueError("expected letters, digits, `.`, `_` and `-`") from None
    return text


def _check_plain(value: Any) -> Any:
    return plain_arguments(value) if isinstance(value, dict) else value


Moment = Annotated[float, BeforeValidator(parse_moment)]
Name = Annotated[str, AfterValidator(_check_name)]
Values = Annotated[dict[str, Any], BeforeValidator(_check_plain)]
Tokens = Annotated[int, Field(ge=0)]
_KINDS = ("tool", "model", "retrieval", "delegate")


class Expectation(Section):
    """What has to be decided; of code and rule, only what is given is looked at."""

    decision: Literal["allow", "deny", "ask"]
    code: Label | None = None
    rule: Label | None = None


class Case(Section):
    """One call and what has to be decided about it."""

    name: Label
    agent: Name
    team: Name | None = None
    environment: Name | None = None
    tool: Label | None = None
    model: Label | None = None
    retrieval: Label | None = None
    delegate: Name | None = None
    args: Values = {}
    input_tokens: Tokens | None = None
    max_output_tokens: Tokens | None = None
    scope: Values = {}
    at: Moment | None = None
    expect: Expectation

    @model_validator(mode="after")
    def _is_one_call(self) -> Self:
        named = [kind for kind in _KINDS if getattr(self, kind) is not None]
        if len(named) != 1:
            found = " and ".join(named) or "none"
            raise ValueError(f"expected one of {', '.join(_KINDS)}, found {found}")
        if self.args and named[0] not in ("tool", "retrieval"):
            raise ValueError(f"`args` has no meaning with `{named[0]}`")
        if self.retrieval is not None and not isinstance(self.args.get("query", ""), str):
            raise ValueError("what a retrieval searches for, `query`, is text")
        if named[0] != "model" and (self.input_tokens, self.max_output_tokens) != (None, None):
            raise ValueError(f"tokens have no meaning with `{named[0]}`")
        return self

    def action(self) -> Action:
        """The call."""
        if self.model is not None:
            return ModelCall(
                self.model,
                input_tokens=self.input_tokens,
                max_output_tokens=self.max_output_tokens,
            )
        if self.retrieval is not None:
            query = self.args.get("query", "")
            return Retrieval(self.retrieval, query, narrowing=self.args)
        return ToolCall(self.tool, self.args) if self.tool else Delegation(self.delegate or "")


class CaseFile(Section):
    """A whole file of cases."""

    cases: Annotated[list[Case], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        [(name, count)] = Counter(case.name for case in self.cases).most_common(1)
        if count > 1:
            raise ValueError(f"the case `{name}` is there {count} times")
        return self


def load_cases(source: str | os.PathLike[str]) -> tuple[Case, ...]:
    """Read a file of cases.

    Args:
        source: A path, or the YAML text itself (any string with a line break in it).

    Raises:
        ConfigurationError: Naming the file, each field, what was found and what was expected.
    """
    text, origin = read_source(source, "policy test")
    data = read_yaml(text, origin)
    if not isinstance(data, dict):
        found = "nothing" if data is None else type(data).__name__
        raise ConfigurationError(f"{origin}: expected a mapping with `cases:`, found {found}")
    try:
        return tuple(CaseFile.model_validate(data).cases)
    except ValidationError as error:
        problems = describe_problems(error, CaseFile)
    except RecursionError:
        problems = ["nested too deeply for a policy test"]
    raise ConfigurationError("\n".join(f"{origin}: {problem}" for problem in problems))
