"""Reads what an export tells of an entry, whatever the entry holds.

A model chooses some of these texts, and a record may lack any member: nothing unseen, nothing of
another type and nothing without end gets out, and nothing here raises.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from tabard.audit.entries import Entry

MAX_TEXT = 500
"""Characters of a text; longer ones are cut, and end in `...`."""
LOG_FAILURE = "audit.failure"
"""The type of a record that says the log itself is in trouble."""

_MAX_LIST = 50
_MAX_COUNT = 2**63
_MAX_DEPTH = 16
"""Levels of a delegation chain, or of a member that is told whole."""


def printable(text: str, limit: int = MAX_TEXT) -> str:
    """The text with `?` for what cannot be seen: controls, line ends, turned direction, halves."""
    shown = text if len(text) <= limit else text[: limit - 3] + "..."
    return shown if shown.isprintable() else "".join(c if c.isprintable() else "?" for c in shown)


def known(members: dict[str, Any]) -> dict[str, Any]:
    """Those members that say something."""
    return {name: value for name, value in members.items() if value not in (None, "", [], {})}


class Members:
    """The members of one entry of one log.

    Attributes:
        entry: The entry.
        origin: The name of the log.
    """

    def __init__(self, entry: Entry, origin: str) -> None:
        self.entry = entry
        self.origin = printable(origin)

    def text(self, path: str) -> str | None:
        """A text by its dotted path; None when there is none."""
        found = self.entry.get(path)
        return printable(found) or None if isinstance(found, str) else None

    def count(self, path: str) -> int | None:
        """A whole number from 0 on; None when there is none."""
        found = self.entry.get(path)
        counts = type(found) is int and 0 <= found < _MAX_COUNT
        return found if counts else None

    def milliseconds(self, path: str) -> float | None:
        """A length of time; None when there is none."""
        found = self.entry.get(path)
        if type(found) not in (int, float) or not 0 <= found < _MAX_COUNT:
            return None
        return float(found)

    def texts(self, path: str) -> list[str]:
        """The texts of a list."""
        found = self.entry.get(path)
        if not isinstance(found, list):
            return []
        return [printable(one) for one in found[:_MAX_LIST] if isinstance(one, str)]

    @property
    def kind(self) -> str:
        """The record's type, for example `tool.decision`; `unknown` when it has none."""
        return self.text("type") or "unknown"

    @property
    def moment(self) -> datetime | None:
        """When it was written, in UTC; None when it does not say so."""
        try:
            found = datetime.fromisoformat(str(self.entry.fields["ts"]))
            return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
        except (KeyError, ValueError, OverflowError):
            return None

    @property
    def time(self) -> str | None:
        """The same as RFC 3339 writes it, with microseconds and `Z`."""
        moment = self.moment
        if moment is None:
            return None
        return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"

    @property
    def nanoseconds(self) -> int:
        """The same as POSIX nanoseconds; 0 when it does not say so, or lies before 1970."""
        moment = self.moment
        if moment is None:
            return 0
        since = moment - datetime(1970, 1, 1, tzinfo=UTC)
        return max(0, (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000)

    @property
    def call(self) -> str | None:
        """The id of the call it is about."""
        about = self.text("call") or self.text("id")
        return about if isinstance(self.entry.get("action"), dict) else None

    @property
    def agent(self) -> tuple[str | None, str | None]:
        """The SPIFFE ID and the name of the agent that acts, or that something is done to."""
        at = "agent" if isinstance(self.entry.get("agent"), dict) else "subject"
        return self.text(f"{at}.id"), self.text(f"{at}.name")

    @property
    def host(self) -> str | None:
        """The machine it was written on."""
        return (self._instance or "").partition(":")[0] or None

    @property
    def pid(self) -> int | None:
        """The process it was written by."""
        pid = (self._instance or "").partition(":")[2].partition(":")[0]
        return int(pid) if pid.isascii() and pid.isdecimal() and len(pid) < 11 else None

    @property
    def _instance(self) -> str | None:
        return self.text("agent.instance") or self.text("writer.instance")

    @property
    def model(self) -> tuple[str | None, str | None]:
        """The provider and the name of the model; None and None when it is about none."""
        name = self.text("action.name")
        if self.text("action.kind") != "model" or name is None:
            return None, None
        provider, slash, model = name.partition("/")
        return (provider, model) if slash and provider and model else (None, name)

    @property
    def passes(self) -> bool | None:
        """Whether a decision let the call run, as in shadow mode all do; None when it is none."""
        effect = self.text("decision.effect")
        shadow = self.text("decision.mode") == "shadow"
        return None if effect is None else effect == "allow" or shadow

    @property
    def error(self) -> str | None:
        """Why a call was refused, or failed; None when neither."""
        if self.text("outcome.status") == "error":
            return self.text("outcome.error_type") or "error"
        if self.passes is not False:
            return None
        return self.text("decision.code") or "refused"

    @property
    def succeeded(self) -> bool | None:
        """Whether a call was let pass, or went well; None when it is about neither."""
        if self.text("outcome.status") is None and self.text("decision.effect") is None:
            return None
        return self.error is None

    def own(self) -> dict[str, Any]:
        """What no standard has a place for, and where the evidence is."""
        return known(
            {
                "origin": self.origin,
                "entry": self.entry.index,
                "leaf": self.entry.leaf,
                "type": self.kind,
                "call": self.call,
                "instance": self._instance,
                "effect": self.text("decision.effect"),
                "code": self.text("decision.code"),
                "rule": self.text("decision.rule"),
                "reason": self.text("decision.reason") or self.text("reason"),
                "mode": self.text("decision.mode"),
                "policy": self.text("decision.policy"),
                "approval": self.text("approval.id"),
                "approved_by": self.text("approval.by"),
                "on_behalf_of": self.text("on_behalf_of"),
                "acts_for": list(self._actors()),
                "purpose": self.text("data.purpose"),
                "data_class": self.text("data.data_class"),
                "argument_names": self.texts("action.args.names"),
                "argument_commitment": self.text("action.args.commit"),
                "cost_nano": self.count("cost.amount"),
                "currency": self.text("cost.currency"),
            }
        )

    def _actors(self) -> Iterator[str]:
        act = self.entry.get("act")
        for _ in range(_MAX_DEPTH):
            if not isinstance(act, dict):
                return
            if isinstance(sub := act.get("sub"), str):
                yield printable(sub)
            act = act.get("act")


def whole(value: Any, depth: int = _MAX_DEPTH) -> Any:
    """A member as it is, with clean texts, finite numbers and an end."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict | list) and depth == 0:
        return None
    if isinstance(value, dict):
        return {printable(k): whole(v, depth - 1) for k, v in value.items()}
    if isinstance(value, list):
        return [whole(item, depth - 1) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if type(value) is int and abs(value) >= _MAX_COUNT:
        return printable(format(value, "x")) if value.bit_length() < 4096 else None
    return value
