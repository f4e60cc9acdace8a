"""Finds records: by agent, session, action, decision and time; and what became of one call."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tabard.audit.fate import Fates
from tabard.errors import AuditError, ConfigurationError

if TYPE_CHECKING:
    from tabard.audit.stored import StoredRecord
    from tabard.store import Store

_LONGEST_NUMBER = 18
"""Digits of the number of an entry; a longer one is that of none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One record of the log, read.

    Attributes:
        index: Its place in the log, 1 for the first.
        leaf: The hash of its exact bytes, in hex: what proofs are about.
        fields: Its members.
    """

    index: int
    leaf: str
    fields: dict[str, Any]

    @classmethod
    def of(cls, record: StoredRecord) -> Entry:
        """Read a stored record.

        Raises:
            AuditError: It is none.
        """
        return cls(index=record.index, leaf=record.leaf.hex(), fields=record.parse())

    @property
    def kind(self) -> str:
        """The record's type, for example `tool.decision`."""
        return str(self.fields.get("type", ""))

    @property
    def time(self) -> datetime:
        """When it was written, by the clock of who wrote it.

        Raises:
            AuditError: It does not say, or not in which time zone.
        """
        try:
            found = datetime.fromisoformat(str(self.fields.get("ts")))
        except ValueError:
            found = None
        if found is None or found.tzinfo is None:
            raise AuditError(f"entry {self.index} has no time", entry=self.index)
        return found

    def get(self, path: str) -> Any:
        """A member by its dotted path, for example `decision.code`; None when it is not there."""
        found: Any = self.fields
        for name in path.split("."):
            found = found.get(name) if isinstance(found, dict) else None
        return found

    @property
    def call(self) -> str | None:
        """The id of the call it is about; None when it is about none."""
        if self.get("action") is None:
            return None
        return str(self.get("call") or self.get("unlogged.call") or self.fields.get("id"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which records are asked for; what is None is not asked about.

    Attributes:
        agent: The agent's name or SPIFFE ID.
        session: The session's id.
        action: The name of the tool, model or retriever; `*` stands for any characters.
        decision: `allow`, `deny`, `ask`, or a code, for example `no_grant`.
        since: The earliest time.
        until: The time before which it was.
    """

    agent: str | None = None
    session: str | None = None
    action: str | None = None
    decision: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def admits(self, entry: Entry) -> bool:
        """Whether a record is one of those."""
        asked = (
            (self.agent, ("agent.name", "agent.id", "subject.name", "subject.id")),
            (self.session, ("session",)),
            (self.decision, ("decision.effect", "decision.code")),
        )
        for value, paths in asked:
            if value is not None and value not in [entry.get(path) for path in paths]:
                return False
        if self.action is not None and not _fits(self.action, entry.get("action.name")):
            return False
        if self.since is not None and entry.time < self.since:
            return False
        return self.until is None or entry.time < self.until

    @property
    def text(self) -> str:
        """A text every such record holds, to look quickly; empty when there is none."""
        action = None if self.action is None or "*" in self.action else self.action
        return next((text for text in (self.session, action, self.agent) if text), "")


def _fits(pattern: str, name: object) -> bool:
    """Whether a name is that one, or one of those a pattern means."""
    if "*" not in pattern or not isinstance(name, str):
        return name == pattern
    parts = map(re.escape, pattern.split("*"))
    return re.fullmatch(".*".join(parts), name, re.DOTALL) is not None


def read_moment(text: str | None) -> datetime | None:
    """A time as people write it: `2026-11-25`, or `2026-11-25T09:30`, UTC unless it says else.

    Raises:
        ConfigurationError: It is none.
    """
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(
            "expected a time like 2026-11-25 or 2026-11-25T09:30, found something else"
        ) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def find_entries(store: Store, wanted: Filter, *, after: int = 0) -> Iterator[Entry]:
    """The records that are asked for, oldest first.

    Raises:
        AuditError: One of them is not a record.
        StoreError: The log cannot be read.
    """
    # What a record says is written as JSON, so only a plain text can be looked for as it is.
    text = wanted.text if wanted.text.isascii() and wanted.text.isprintable() else ""
    holding = "" if set(text) & {'"', "\\"} else text
    for record in store.stored_records(after=after, holding=holding):
        entry = Entry.of(record)
        if wanted.admits(entry):
            yield entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call, as the log tells it.

    Attributes:
        decision: The record made before it.
        outcome: The record made after it; None while it runs, or when its process died.
        ending: What became of it, in words; also where it waits for a person's answer.
        sealed: The size of the first checkpoint that covers all of that; None before there is one.
    """

    decision: Entry
    outcome: Entry | None
    ending: str
    sealed: int | None


def find_calls(store: Store, name: str) -> list[Call]:
    """The calls an id belongs to.

    Args:
        store: Where the log is.
        name: The id of a call, of one of its records, of the framework's or the provider's call,
            or the number of an entry.

    Raises:
        AuditError: An entry is not a record.
        StoreError: The log cannot be read.
    """
    if not name or not name.isascii() or not name.isprintable() or set(name) & {'"', "\\"}:
        return []
    if name.isdecimal() and len(name) > _LONGEST_NUMBER:
        return []
    if name.isdecimal():
        found = next((one for one in store.stored_records(after=int(name) - 1)), None)
        entries = [] if found is None or found.index != int(name) else [Entry.of(found)]
    else:
        entries = [
            entry
            for record in store.stored_records(holding=name)
            if name in _names(entry := Entry.of(record))
        ]
    calls = dict.fromkeys(entry.call for entry in entries if entry.call is not None)
    return [call for one in calls if (call := _call(store, one)) is not None]


def calls_among(store: Store, wanted: Filter) -> list[Call]:
    """The calls whose decision is one of the records that are asked for.

    Raises:
        AuditError: An entry is not a record.
        StoreError: The log cannot be read.
    """
    found = [one for one in find_entries(store, wanted) if one.kind.endswith(".decision")]
    return [call for one in found if (call := _call(store, str(one.call))) is not None]


def _names(entry: Entry) -> set[object]:
    paths = ("id", "call", "unlogged.call", "action.call_id", "provider_id")
    return {entry.get(path) for path in paths}


def _call(store: Store, call: str) -> Call | None:
    about = _holding(store, call)
    made = (one for one in about if one.kind.endswith(".decision") and one.call == call)
    decision = next(made, None)
    if decision is None:
        return None
    outcome = next((o for o in about if o.get("call") == call and o.get("outcome")), None)
    last = decision.index if outcome is None else outcome.index
    sizes = (one.size for one in store.checkpoints())
    return Call(
        decision=decision,
        outcome=outcome,
        ending=_fates(store, decision, about).of(call),
        sealed=next((size for size in sizes if size >= last), None),
    )


def _fates(store: Store, decision: Entry, about: list[Entry]) -> Fates:
    """What the log says of a call; of a question also its answer, and the call after it."""
    found = {one.index: one for one in about}
    if decision.get("decision.effect") == "ask":
        for path in ("approval.id", "action.args.commit"):
            text = str(decision.get(path) or "")
            found |= {one.index: one for one in (_holding(store, text) if text else ())}
        ran = Fates(found[index] for index in sorted(found)).rerun(str(decision.call))
        if ran is not None:
            found |= {one.index: one for one in _holding(store, str(ran.call))}
    return Fates(found[index] for index in sorted(found))


def _holding(store: Store, text: str) -> list[Entry]:
    return [Entry.of(record) for record in store.stored_records(holding=text)]
