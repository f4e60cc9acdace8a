"""`report denials`: what was refused, how often, to whom, and why."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from tabard.audit.entries import Entry
from tabard.audit.fate import went_ahead
from tabard.audit.reports.asked import Asked, asked_section, nothing_section
from tabard.audit.reports.reading import (
    Reading,
    Tally,
    action_of,
    agent_of,
    by_count,
    effect_of,
    is_decision,
    moment,
    text,
)
from tabard.audit.reports.report import (
    Bar,
    Bars,
    LogFacts,
    Report,
    Row,
    Section,
    Span,
    Table,
)

_NO_RULE = "(none)"
_BARS = 15


class _Denials:
    """The refusals, counted by everything people ask for."""

    def __init__(self) -> None:
        self.decisions = Tally()
        self.all, self.logins, self.shadow = Tally(), Tally(), Tally()
        self.codes: defaultdict[str, Tally] = defaultdict(Tally)
        self.agents: defaultdict[str, Tally] = defaultdict(Tally)
        self.rules: defaultdict[str, Tally] = defaultdict(Tally)
        self.actions: defaultdict[str, Tally] = defaultdict(Tally)
        self.reasons: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def add(self, entry: Entry) -> None:
        failed_login = entry.kind == "auth.failed"
        if is_decision(entry):
            self.decisions.add(entry)
        if not failed_login and not (is_decision(entry) and effect_of(entry) == "deny"):
            return
        code = text(entry, "decision.code") or "(no code)"
        self.all.add(entry)
        self.codes[code].add(entry)
        self.reasons[code][text(entry, "decision.reason") or "(no reason)"] += 1
        self.agents[agent_of(entry)].add(entry)
        if failed_login:
            self.logins.add(entry)
            return
        self.rules[text(entry, "decision.rule") or _NO_RULE].add(entry)
        self.actions[action_of(entry)].add(entry)
        if went_ahead(entry):
            self.shadow.add(entry)


def report_denials(
    entries: Iterable[Entry], log: LogFacts, *, span: Span | None = None, policy: str | None = None
) -> Report:
    """What was refused.

    Args:
        entries: Those of the span, oldest first.
        log: The log they come from.
        span: What was asked for.
        policy: The digest of the policy in force, to be named.

    Raises:
        AuditError: An entry has no time.
    """
    reading, found = Reading(entries), _Denials()
    for entry in reading:
        found.add(entry)
    return Report(
        name="denials",
        title="Refused calls and logins",
        question="What was refused, to whom, by which rule, and why?",
        law=("NIST SP 800-53 AU-3", "PCI DSS 10.2.2"),
        span=span or Span(),
        extent=reading.extent,
        log=log,
        policy=policy,
        sections=(*_sections(found), _not_told(found)),
    )


def _sections(found: _Denials) -> Iterable[Section]:
    if not found.decisions.count and not found.logins.count:
        yield nothing_section("decision and no failed login")
        return
    yield _summary(found)
    if not found.all.count:
        return
    bars = tuple(
        Bar(label=code, value=tally.count, words=str(tally.count))
        for code, tally in by_count(found.codes)[:_BARS]
    )
    yield Section(
        heading="By code",
        intro="The stable code of each refusal, and the reason that was given most often with it.",
        table=Table(
            columns=("code", "count", "reason", "other reasons", "last"),
            rows=tuple(_code_row(found, *item) for item in by_count(found.codes)),
        ),
        charts=(Bars(title="Refusals by code", bars=bars),),
    )
    yield _counted("By agent", "Who was refused; nobody where no identity held.", found.agents)
    yield _counted("By rule", "The rule of the policy that refused, where one did.", found.rules)
    yield _counted(
        "By action", "The tool, model, retriever or agent that was asked for.", found.actions
    )


def _summary(found: _Denials) -> Section:
    refused = found.all.count - found.logins.count
    # Where nothing was refused, what shows it is the decisions.
    cites = (found.all if found.all.count else found.decisions).cites
    note = f"of {found.decisions.count} decisions"
    rows = [Row(cells=("calls refused", refused, note), cites=cites)]
    others = (
        ("of these, let pass in shadow mode", found.shadow),
        ("logins refused", found.logins),
    )
    rows += [
        Row(cells=(what, tally.count, None), cites=tally.cites)
        for what, tally in others
        if tally.count
    ]
    table = Table(columns=("what", "count", "note"), rows=tuple(rows))
    return Section(heading="Summary", intro="How many refusals are on record.", table=table)


def _code_row(found: _Denials, code: str, tally: Tally) -> Row:
    [(reason, _)] = found.reasons[code].most_common(1)
    others = len(found.reasons[code]) - 1
    return Row(
        cells=(code, tally.count, reason, others or None, moment(tally.last)), cites=tally.cites
    )


def _counted(heading: str, intro: str, tallies: dict[str, Tally]) -> Section:
    rows = tuple(
        Row(cells=(name, tally.count, moment(tally.last)), cites=tally.cites)
        for name, tally in by_count(tallies)
    )
    return Section(
        heading=heading, intro=intro, table=Table(columns=("name", "count", "last"), rows=rows)
    )


def _not_told(found: _Denials) -> Section:
    return asked_section(
        "What this log cannot tell",
        [
            Asked(
                point="completeness",
                what="calls that never reached a guard",
                supplier="whoever runs the agents: which of them are under a guard",
            )
        ],
    )
