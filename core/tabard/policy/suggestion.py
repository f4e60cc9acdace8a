"""The least a policy has to grant for what an agent really did in shadow mode.

It never widens by itself: every name is an exact one, every argument is listed with the type it
had, and what the log does not tell is said in a comment instead of being guessed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from tabard.policy.observed import ObservedCall


@dataclass
class _Tool:
    """What was seen of one tool."""

    calls: int = 0
    untyped: int = 0
    nameless: int = 0
    present: dict[str, int] = field(default_factory=dict)
    types: dict[str, set[str]] = field(default_factory=dict)

    def add(self, call: ObservedCall) -> None:
        self.calls += 1
        self.nameless += not call.complete
        for name in call.arguments - call.injected:
            self.present[name] = self.present.get(name, 0) + 1
            kind = call.types.get(name)
            self.types.setdefault(name, set()).update([kind] if kind else [])
            self.untyped += kind is None


def suggest_grants(calls: Iterable[ObservedCall], agent: str) -> str:
    """A section of a policy, as YAML, that allows what an agent was seen to do and nothing else.

    Args:
        calls: From the log.
        agent: The agent's name.

    Returns:
        The text, with a comment for everything that could not be told.
    """
    tools: dict[str, _Tool] = {}
    models, others, limits = set[str](), set[str](), list[int]()
    for call in calls:
        if call.agent != agent:
            continue
        if call.kind == "model":
            models.add(call.name)
            limits += [] if call.max_output_tokens is None else [call.max_output_tokens]
        elif call.kind == "delegation":
            others.add(call.name)
        else:
            tools.setdefault(call.name, _Tool()).add(call)
    lines = [f"  {_quoted(agent)}:"]
    if models:
        cap = f", max_output_tokens: {max(limits)}" if limits else ""
        listed = ", ".join(map(_quoted, sorted(models)))
        lines.append(f"    models: {{allow: [{listed}]{cap}}}")
    if others:
        lines.append(f"    delegates_to: [{', '.join(map(_quoted, sorted(others)))}]")
    if tools:
        lines.append("    grants:")
    for name, tool in sorted(tools.items()):
        lines += _grant(name, tool)
    if len(lines) == 1:
        return f"# nothing was seen of {agent}\n  {_quoted(agent)}: {{}}\n"
    return "\n".join(["agents:", *lines]) + "\n"


def _grant(name: str, tool: _Tool) -> list[str]:
    times = "1 call" if tool.calls == 1 else f"{tool.calls} calls"
    lines = [f"      - tools: [{_quoted(name)}] # {times}; values are not in the log"]
    if tool.nameless:
        lines.append(
            f"        # {tool.nameless} of them had arguments whose names are not in the log: "
            "these calls stay refused"
        )
    if tool.present:
        lines.append("        args:")
    for argument, seen in sorted(tool.present.items()):
        lines.append(f"          {argument}: {_constraint(tool, argument, seen)}")
    return lines


def _constraint(tool: _Tool, argument: str, seen: int) -> str:
    kinds = tool.types[argument]
    optional = seen < tool.calls
    parts, note = [], ""
    if kinds == {"integer", "number"}:
        kinds = {"number"}
    if len(kinds) == 1 and kinds != {"null"}:
        parts.append(f"type: {next(iter(kinds))}")
    elif kinds:
        note = f" # seen as {', '.join(sorted(kinds))}: no one type to ask for"
    else:
        note = " # its type is not in the log: only shadow mode keeps it"
    parts += ["optional: true"] if optional else []
    return "{" + ", ".join(parts) + "}" + note


def _quoted(text: str) -> str:
    """A name as YAML writes it, whatever is in it."""
    import json

    return json.dumps(text)
