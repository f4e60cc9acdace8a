"""Turns a policy document into tables that answer in constant time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator

from tabard.policy.constraints import compile_constraint
from tabard.policy.document import AgentSection, DenyRule, Document, Grant
from tabard.policy.names import NameIndex
from tabard.policy.patterns import NamePattern, Regex
from tabard.policy.rules import AgentRules, GrantRule, Policy, Prohibition


def compile_document(document: Document) -> Policy:
    """Compile a document whose references have been checked."""
    canonical = json.dumps(
        document.model_dump(mode="json", by_alias=True), sort_keys=True, separators=(",", ":")
    )
    return Policy(
        digest=hashlib.sha256(canonical.encode()).hexdigest(),
        mode=document.mode,
        agents={n: _compile_agent(n, section, document) for n, section in document.agents.items()},
    )


def _compile_agent(name: str, section: AgentSection, document: Document) -> AgentRules:
    prohibitions = list(_prohibitions(name, document))
    windows = section.windows
    return AgentRules(
        name=name,
        mode=section.mode or document.mode,
        teams=_names(section.match.team),
        environments=_names(section.match.environment),
        windows=None if windows is None else tuple(document.windows[w] for w in windows),
        required_scope=tuple(key for key, need in section.scope.items() if need == "required"),
        models=NameIndex(
            (pattern, f"{name}/models/{text}")
            for text in section.models.allow
            for pattern in _model_patterns([text], document)
        ),
        grants=NameIndex(
            (NamePattern.parse(tool), compiled)
            for index, grant in enumerate(section.grants)
            for compiled in [_compile_grant(name, index, grant)]
            for tool in grant.tools
        ),
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


def _compile_grant(agent: str, index: int, grant: Grant) -> GrantRule:
    return GrantRule(
        rule=f"{agent}/{grant.id or f'grants[{index}]'}",
        checks={name: compile_constraint(rule) for name, rule in grant.args.items()},
        required=tuple(name for name, rule in grant.args.items() if not rule.optional),
        open_ended=grant.unknown_args == "allow",
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
