"""Turns a policy document into tables that answer in constant time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from tabard.policy.cedar import CedarPolicies
from tabard.policy.constraints import compile_constraint
from tabard.policy.document import (
    AgentSection,
    ApprovalRule,
    Constraint,
    DenyRule,
    Document,
    Grant,
    UnknownArguments,
)
from tabard.policy.names import NameIndex
from tabard.policy.patterns import NamePattern, Regex
from tabard.policy.rules import AgentRules, GrantRule, Policy, Prohibition, ToolTable
from tabard.policy.terms import Approval
from tabard.policy.terms_compiler import compile_tariff, compile_terms, compile_tools, rank_of


def compile_document(document: Document, text: str = "") -> Policy:
    """Compile a document whose references have been checked."""
    canonical = json.dumps(
        document.model_dump(mode="json", by_alias=True), sort_keys=True, separators=(",", ":")
    )
    tools = ToolTable(compile_tools(document))
    return Policy(
        digest=hashlib.sha256(canonical.encode()).hexdigest(),
        mode=document.mode,
        agents={
            name: _compile_agent(name, section, document, tools)
            for name, section in document.agents.items()
        },
        on_error=document.on_error,
        tariff=compile_tariff(document),
        tools=tools,
        cedar=None if document.cedar is None else CedarPolicies.parse(document.cedar),
        text=text,
    )


def _compile_agent(
    name: str, section: AgentSection, document: Document, tools: ToolTable
) -> AgentRules:
    prohibitions = list(_prohibitions(name, document))
    windows = section.windows
    return AgentRules(
        name=name,
        mode=section.mode or document.mode,
        teams=_names(section.match.team),
        environments=_names(section.match.environment),
        windows=None if windows is None else tuple(document.windows[w] for w in windows),
        required_scope=tuple(sorted(k for k, need in section.scope.items() if need == "required")),
        models=NameIndex(
            (pattern, f"{name}/models/{text}")
            for text in section.models.allow
            for pattern in _model_patterns([text], document)
        ),
        grants=_by_tool(section.grants, _compile_grants(name, section)),
        approvals=_by_tool(section.approvals, _compile_approvals(name, section)),
        purpose=section.purpose,
        clearance=rank_of(section.max_data_class, document) if section.max_data_class else 0,
        max_output_tokens=section.models.max_output_tokens,
        terms=compile_terms(name, section, document, tools),
        denied_tools=NameIndex(
            (NamePattern.parse(tool), compiled)
            for rule, compiled in prohibitions
            for tool in rule.tools or ()
        ),
        denied_models=NameIndex(
            (pattern, compiled)
            for rule, compiled in prohibitions
            for pattern in _model_patterns(rule.models or (), document)
        ),
        delegates_to=frozenset(section.delegates_to),
    )


def _names(names: list[str] | None) -> frozenset[str] | None:
    return None if names is None else frozenset(names)


def _model_patterns(texts: Iterable[str], document: Document) -> Iterator[NamePattern]:
    """The patterns of a model list, each `@set` replaced by what it stands for."""
    for text in texts:
        for name in document.sets[text[1:]] if text.startswith("@") else (text,):
            yield NamePattern.parse(name)


def _by_tool(
    written: Sequence[Grant | ApprovalRule], compiled: Iterable[GrantRule]
) -> NameIndex[GrantRule]:
    return NameIndex(
        (NamePattern.parse(tool), rule)
        for section, rule in zip(written, compiled, strict=True)
        for tool in section.tools
    )


def _compile_grants(agent: str, section: AgentSection) -> Iterator[GrantRule]:
    for index, grant in enumerate(section.grants):
        rule = f"{agent}/{grant.id or f'grants[{index}]'}"
        yield _compile_arguments(rule, grant.args, grant.unknown_args)


def _compile_approvals(agent: str, section: AgentSection) -> Iterator[GrantRule]:
    for index, asked in enumerate(section.approvals):
        rule = f"{agent}/{asked.id or f'approvals[{index}]'}"
        approval = Approval(rule=rule, role=asked.by, ttl=asked.ttl, shown=tuple(asked.show))
        yield replace(_compile_arguments(rule, asked.when, asked.unknown_args), approval=approval)


def _compile_arguments(
    rule: str, constraints: Mapping[str, Constraint], unknown: UnknownArguments
) -> GrantRule:
    return GrantRule(
        rule=rule,
        checks={name: compile_constraint(wanted) for name, wanted in constraints.items()},
        # Sorted, as in the digest: two files of one digest answer with the same words.
        required=tuple(sorted(name for name, want in constraints.items() if not want.optional)),
        open_ended=unknown == "allow",
    )


def _prohibitions(agent: str, document: Document) -> Iterator[tuple[DenyRule, Prohibition]]:
    """The deny rules that concern an agent, each with its compiled form."""
    for index, rule in enumerate(document.deny):
        if rule.agents is None or agent in rule.agents:
            name = rule.id or f"deny[{index}]"
            # A line break must not hide a secret from `.*`, so here `.` matches everything.
            wanted = rule.any_arg
            regex = Regex.parse(wanted.regex, dot_matches_newline=True) if wanted else None
            reason = rule.reason or "a deny rule forbids it"
            yield rule, Prohibition(rule=f"deny/{name}", reason=reason, any_arg=regex)
