"""The least a policy has to grant for what an agent really did in shadow mode.

It never widens by itself: every name is an exact one, every argument is listed with the type it
had, and what the log does not tell is said in a comment instead of being guessed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator

from tabard.policy.observed import ObservedCall
from tabard.policy.observed_tool import ObservedTool, Shape


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
        self.tools: dict[str, ObservedTool] = {}
        self.models: set[str] = set()
        self.others: set[str] = set()
        self.limits: list[int | None] = []
        self.left_out: Counter[str] = Counter()

    def add(self, call: ObservedCall) -> None:
        why = _reason_to_leave_out(call)
        if why is not None:
            self.left_out[f"{call.kind} {_quoted(call.name)}: {why}"] += 1
        elif call.kind == "model":
            self.models.add(call.name)
            self.limits.append(call.max_output_tokens)
        elif call.kind == "delegation":
            self.others.add(call.name)
        else:
            self.tools.setdefault(call.name, ObservedTool()).add(call)

    def write(self, agent: str) -> str:
        lines = [f"# left out, {n} times: {what}" for what, n in sorted(self.left_out.items())]
        for name, tool in sorted(self.tools.items()):
            if tool.nameless:
                lines.append(
                    f"# left out, {tool.nameless} times: tool {_quoted(name)}: it had arguments "
                    "whose names are not in the log"
                )
        granted = [*self._models(), *self._others(), *self._grants()]
        nothing = "" if granted else " {} # nothing was seen of it that ran"
        return "\n".join([*lines, "agents:", f"  {_quoted(agent)}:{nothing}", *granted]) + "\n"

    def _models(self) -> Iterator[str]:
        if self.models:
            listed = ", ".join(map(_quoted, sorted(self.models)))
            yield f"    models: {{allow: [{listed}]{self._cap()}"

    def _others(self) -> Iterator[str]:
        if self.others:
            yield f"    delegates_to: [{', '.join(map(_quoted, sorted(self.others)))}]"

    def _grants(self) -> list[str]:
        shapes = [(name, s) for name, tool in sorted(self.tools.items()) for s in tool.shapes()]
        lines = [line for name, shape in shapes for line in _grant(name, shape)]
        return ["    grants:", *lines] if lines else []

    def _cap(self) -> str:
        """What ends the line of the models: the highest limit seen, if every call had one."""
        limits = [limit for limit in self.limits if limit is not None]
        unlimited = len(self.limits) - len(limits)
        if unlimited:
            calls = "1 call" if unlimited == 1 else f"{unlimited} calls"
            return f"}} # no max_output_tokens: {calls} set no limit"
        note = "" if max(limits) else " # no call asked for any output; 1 is the least there is"
        return f", max_output_tokens: {max(1, *limits)}}}{note}"


def _reason_to_leave_out(call: ObservedCall) -> str | None:
    if call.asked:
        return "a person is asked about it; write it under `approvals`"
    if not call.ran:
        return f"it was refused ({call.code}) and did not run"
    if "*" in call.name or call.name.startswith("@"):
        return "a policy would take its name for a pattern"
    return None


def _grant(name: str, shape: Shape) -> list[str]:
    times = "1 call" if shape.calls == 1 else f"{shape.calls} calls"
    lines = [f"      - tools: [{_quoted(name)}] # {times}; values are not in the log"]
    if shape.types:
        lines.append("        args:")
    for argument in sorted(shape.types):
        lines.append(f"          {_quoted(argument)}: {_constraint(shape, argument)}")
    return lines


def _constraint(shape: Shape, argument: str) -> str:
    kinds = shape.types[argument]
    parts, note = [], ""
    if kinds == {"integer", "number"}:
        kinds = {"number"}
    if len(kinds) == 1 and kinds != {"null"}:
        parts.append(f"type: {next(iter(kinds))}")
    elif kinds:
        note = f" # seen as {', '.join(sorted(kinds))}: no one type to ask for"
    else:
        note = " # its type is not in the log: only shadow mode keeps it"
    parts += ["optional: true"] if argument in shape.optional else []
    return "{" + ", ".join(parts) + "}" + note


def _quoted(text: str) -> str:
    """A name as YAML reads it back, whatever is in it.

    YAML knows no pairs of surrogates, and takes DEL for unprintable where JSON does not.
    """
    escaped = (
        f"\\U{ord(c):08x}" if c == "\x7f" or ord(c) > 0xFFFF else json.dumps(c)[1:-1] for c in text
    )
    return f'"{"".join(escaped)}"'
