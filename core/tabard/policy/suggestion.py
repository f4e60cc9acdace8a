"""The least a policy has to grant for what an agent really did in shadow mode.

It never widens by itself: every name is an exact one, every argument is listed with the type it
had, and what the log does not tell is said in a comment instead of being guessed.
"""

from __future__ import annotations

import json
from collections import Counter
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

    What was refused, and did not run, is left out; so is what a person was asked about, and what
    has a name that a policy would take for a pattern.

    Args:
        calls: From the log.
        agent: The agent's name.

    Returns:
        The text, with a comment for everything that could not be told or was left out.
    """
    seen = _Seen()
    for call in calls:
        if call.agent == agent:
            seen.add(call)
    return seen.write(agent)


class _Seen:
    """Everything that was seen of one agent."""

    def __init__(self) -> None:
        self.tools: dict[str, _Tool] = {}
        self.models: set[str] = set()
        self.others: set[str] = set()
        self.limits: list[int] = []
        self.left_out: Counter[str] = Counter()

    def add(self, call: ObservedCall) -> None:
        why = _reason_to_leave_out(call)
        if why is not None:
            self.left_out[f"{call.kind} {_quoted(call.name)}: {why}"] += 1
        elif call.kind == "model":
            self.models.add(call.name)
            self.limits += [] if call.max_output_tokens is None else [call.max_output_tokens]
        elif call.kind == "delegation":
            self.others.add(call.name)
        else:
            self.tools.setdefault(call.name, _Tool()).add(call)

    def write(self, agent: str) -> str:
        lines = [f"# left out, {n} times: {what}" for what, n in sorted(self.left_out.items())]
        lines += ["agents:", f"  {_quoted(agent)}:"]
        if not (self.models or self.others or self.tools):
            lines[-1] += " {} # nothing was seen of it that ran"
        if self.models:
            cap = f", max_output_tokens: {max(self.limits)}" if self.limits else ""
            listed = ", ".join(map(_quoted, sorted(self.models)))
            lines.append(f"    models: {{allow: [{listed}]{cap}}}")
        if self.others:
            listed = ", ".join(map(_quoted, sorted(self.others)))
            lines.append(f"    delegates_to: [{listed}]")
        if self.tools:
            lines.append("    grants:")
        for name, tool in sorted(self.tools.items()):
            lines += _grant(name, tool)
        return "\n".join(lines) + "\n"


def _reason_to_leave_out(call: ObservedCall) -> str | None:
    if call.asked:
        return "a person is asked about it; write it under `approvals`"
    if not call.ran:
        return f"it was refused ({call.code}) and did not run"
    if "*" in call.name or call.name.startswith("@"):
        return "a policy would take its name for a pattern"
    return None


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
        lines.append(f"          {_quoted(argument)}: {_constraint(tool, argument, seen)}")
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
    return json.dumps(text)
