"""Reports: every number is what the log says, every line cites it, and no name becomes markup."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tabard import (
    AccessDenied,
    ApprovalRequired,
    AuditError,
    Authority,
    Guard,
    ModelCall,
    Session,
    ToolCall,
)
from tabard.audit.entries import Entry, Filter, find_entries
from tabard.audit.fate import NO_OUTCOME
from tabard.audit.reports.access import report_access
from tabard.audit.reports.art12 import report_art12
from tabard.audit.reports.art30 import report_art30
from tabard.audit.reports.csv_text import to_csv
from tabard.audit.reports.declared import Declared
from tabard.audit.reports.denials import report_denials
from tabard.audit.reports.dora import report_dora
from tabard.audit.reports.json_text import to_json
from tabard.audit.reports.log_facts import read_log_facts
from tabard.audit.reports.markdown import to_markdown
from tabard.audit.reports.page import to_html
from tabard.audit.reports.report import CITED, LogFacts, Money, Report, Row, Section, Span
from tabard.audit.reports.spend import report_spend
from tabard.budget.ledger import HOLD_LIFETIME
from tabard.central import Policies
from tabard.home import Home
from tabard.policy.compiler import compile_document
from tabard.policy.loader import load_document
from tabard.retention import Retention
from tabard.sealing import Seal

POLICY = """\
version: 1
currency: EUR
prices: {m/a: {input: "1", output: "1"}}
purposes:
  claims_handling: {legal_basis: contract, data_subjects: [claimants], retention_days: 3650}
  marketing: {legal_basis: consent, data_subjects: [customers]}
tools:
  claims_db.query: {data_class: personal, asset: "claims database"}
  paid: {cost: "4"}
  crm.read: {asset: "crm"}
agents:
  claims-agent:
    purpose: claims_handling
    max_data_class: personal
    scope: {claimant_id: optional}
    models: {allow: ["m/*", "other/x"]}
    budgets: [{per: session, limit: "10"}, {per: day, limit: "25", tz: Europe/Brussels}]
    grants:
      - {id: read, tools: ["claims_db.query"], args: {table: {enum: [claims]}}}
      - {id: free, tools: [lookup, paid]}
      - {id: unused, tools: ["crm.*"]}
    approvals:
      - {id: pay, tools: [pay], when: {amount: {max: 500}}, by: supervisor}
    delegates_to: [analytics-agent]
  analytics-agent:
    mode: shadow
    max_data_class: personal
    scope: {claimant_id: optional}
    models: {allow: ["m/*"]}
    grants: [{id: stats, tools: ["stats.*", "claims_db.query"], unknown_args: allow}]
deny:
  - {id: no-drop, tools: ["**.drop"], reason: "nobody drops"}
"""
EURO = 1_000_000_000
MILLION = 1_000_000
MADE = datetime(2027, 2, 1, tzinfo=UTC)


@pytest.fixture
def policy_text() -> str:
    return POLICY


@pytest.fixture
def declared() -> Declared:
    return declare(POLICY)


def declare(text: str) -> Declared:
    document, _ = load_document(text)
    return Declared(document=document, policy=compile_document(document, text))


def model(euros: int) -> ModelCall:
    """A call that can cost so many euros."""
    return ModelCall("m/a", input_tokens=0, max_output_tokens=euros * MILLION)


def refuse(guard: Guard, action: Any, session: Session) -> AccessDenied:
    with pytest.raises(AccessDenied) as caught:
        guard.admit(action, session=session)
    return caught.value


@pytest.fixture
def busy(guard: Guard, authority: Authority, home: Path, clock: Any) -> Session:
    """A day with a bit of everything on record; returns the claims agent's session."""
    Policies.open(home, clock=clock).apply(POLICY, author="mia", reason="first")
    authority.register(
        "anna", team="claims", environment="prod", attributes={"roles": "supervisor"}
    )
    session = guard.login(authority.source("claims-agent"), on_behalf_of="user-1")
    shadow = guard.login(authority.source("analytics-agent"))
    anna = guard.login(authority.issue("anna", lifetime=3600))
    query = ToolCall("claims_db.query", {"table": "claims"})
    for _ in range(7):
        guard.admit(query, session=session).settle()
    guard.admit(ToolCall("lookup"), session=session).fail(ValueError("x"))
    guard.admit(ToolCall("paid"), session=session).settle()
    guard.admit(model(3), session=session).settle(
        usage={"input_tokens": 0, "output_tokens": 2 * MILLION}
    )
    guard.admit(model(1), session=session).settle()  # usage unknown: charged at the estimate
    clock.now += 60
    assert refuse(guard, model(9), session).code == "budget"
    assert refuse(guard, ToolCall("claims.drop"), session).code == "denied_by_rule"
    for _ in range(3):
        assert refuse(guard, ToolCall("nowhere"), session).code == "no_grant"
    with pytest.raises(ApprovalRequired) as caught:
        guard.admit(ToolCall("pay", {"amount": 300}), session=session)
    guard.approvals.grant(str(caught.value.request), session=anna, reason="seen")
    guard.admit(ToolCall("pay", {"amount": 300}), session=session).settle()
    guard.admit(ToolCall("claims.drop"), session=shadow).settle()  # shadow: runs all the same
    guard.admit(ToolCall("stats.sum"), session=shadow).settle()
    guard.admit(model(1), session=shadow).settle()  # no budget pays for it
    child = session.delegate("analytics-agent", tools=["claims_db.query"])
    guard.admit(query, session=child).settle()
    child.close()
    with pytest.raises(AccessDenied):
        guard.login("eyJ.no.token")
    guard.admit(model(1), session=session)  # its end never comes
    authority.revoke("analytics-agent", reason="compromised", author="mia")
    session.close()
    return session


def entries(guard: Guard) -> list[Entry]:
    return list(find_entries(guard._store, Filter()))


def facts(guard: Guard) -> LogFacts:
    return read_log_facts(guard._store, made_at=MADE)


def every_report(found: Iterable[Entry], log: LogFacts, declared: Declared) -> list[Report]:
    found = list(found)
    return [
        report_art30(found, log, declared),
        report_art12(found, log),
        report_dora(found, log, declared),
        report_access(found, log, declared),
        report_spend(found, log, declared),
        report_denials(found, log),
    ]


@pytest.fixture
def reports(guard: Guard, busy: Session, declared: Declared) -> dict[str, Report]:
    return {one.name: one for one in every_report(entries(guard), facts(guard), declared)}


def section(report: Report, heading: str) -> Section:
    return next(one for one in report.sections if one.heading == heading)


def rows(report: Report, heading: str) -> list[Row]:
    table = section(report, heading).table
    assert table is not None
    return list(table.rows)


def column(report: Report, heading: str, *names: str) -> list[tuple[Any, ...]]:
    table = section(report, heading).table
    assert table is not None
    places = [table.columns.index(name) for name in names]
    return [tuple(row.cells[place] for place in places) for row in table.rows]


def cited(row: Row) -> int:
    return len(row.cites.entries) + row.cites.more


class TestEveryReport:
    def test_an_empty_log_proves_nothing(self, declared: Declared) -> None:
        """It says so, marks everything that is asked for as not evidenced, and claims nothing."""
        log = LogFacts(origin="acme.example/log", size=0, made_at=MADE)
        for report in every_report([], log, declared):
            said = [one for one in report.sections if one.heading == "Nothing on record"]
            assert len(said) == 1
            assert "nothing is concluded" in said[0].statement
            for one in report.sections:
                assert one in said or not one.statement
                assert not one.charts
                for row in one.table.rows if one.table else ():
                    assert (row.standing, row.cites.entries) == ("not evidenced", ())
            text = to_markdown(report)
            assert "no entries; nothing is evidenced" in text
            for claim in ("candidate", "| evidenced", "| partly", "| declared", "yes", "used"):
                assert claim not in text.partition("##")[2]

    def test_a_log_without_calls_proves_nothing_of_calls(
        self, guard: Guard, declared: Declared, authority: Authority
    ) -> None:
        """Registrations alone make no permission unused, and no spending low."""
        for report in every_report(entries(guard), facts(guard), declared):
            if report.name not in ("art12", "dora"):
                assert section(report, "Nothing on record").statement
                assert "candidate" not in to_markdown(report)

    def test_every_line_rests_on_something(self, reports: dict[str, Report], guard: Guard) -> None:
        """What is said to be evidenced cites entries that exist; what is not, says who has it."""
        last = guard._store.extent()[1]
        for report in reports.values():
            for one in report.sections:
                for row in one.table.rows if one.table else ():
                    assert one.table is not None
                    assert len(row.cells) == len(one.table.columns)
                    assert len(row.cites.entries) <= CITED
                    assert all(1 <= index <= last for index in row.cites.entries)
                    counts = [c for c in row.cells if type(c) is int]
                    if row.standing in ("evidenced", "partly") and counts != [0]:
                        assert row.cites.entries, (report.name, one.heading, row)
                    if row.standing == "not evidenced":
                        assert not row.cites.entries
                        assert row.cells[-1], (report.name, row)

    def test_not_evidenced_is_told(self, reports: dict[str, Report]) -> None:
        """What no log can show is there as a row, with who has to supply it."""
        wanted = {
            "art30": {"(a)", "(e)"},
            "art12": {"scope"},
            "dora": {"B_02.01", "B_05.01", "B_06.01", "RTS 12(2)(c)(v)", "RTS 12(2)(f)"},
            "access": {"need"},
            "spend": {"invoices"},
            "denials": {"completeness"},
        }
        for name, points in wanted.items():
            missing = {
                row.cells[0]
                for one in reports[name].sections
                for row in (one.table.rows if one.table else ())
                if row.standing == "not evidenced"
            }
            assert points <= missing, name

    def test_span_and_checkpoint(self, guard: Guard, busy: Session, home: Path) -> None:
        """The log, what covers it, and what no checkpoint covers yet are on the first page."""
        guard._background = None
        guard._store.on_commit = None  # type: ignore[attr-defined]
        seal = Seal.open(home)
        sealed = seal.seal()
        assert sealed is not None
        log, root = facts(guard), sealed.note.split("\n")[2]
        report = report_denials(entries(guard), log)
        assert (log.sealed, log.root, report.unsealed) == (sealed.size, root, 0)
        assert (report.extent.entries, report.extent.last) == (sealed.size, sealed.size)
        assert f"covers entries 1 to {sealed.size}" in to_markdown(report)
        with pytest.raises(AccessDenied):
            guard.login("eyJ.no.token")
        later = report_denials(entries(guard), facts(guard))
        assert later.unsealed == 1
        assert "1 entries after it are not sealed" in to_markdown(later)
        seal.close()

    def test_an_entry_without_a_time(self, declared: Declared) -> None:
        """A foreign record is refused by its number, not by whatever Python says."""
        log = LogFacts(origin="o", size=1, made_at=MADE)
        for ts in (None, "yesterday", 7, "2027-01-15T08:00:00", "0001-01-01T00:00:00+14:00"):
            fields = {"ts": ts}
            entry = Entry(index=4, leaf="00", fields={"type": "tool.decision", **fields})
            with pytest.raises(AuditError, match="entry 4") as caught:
                report_dora([entry], log, declared)
            assert caught.value.entry == 4

    def test_members_of_any_form(self, declared: Declared) -> None:
        """Whatever a record has where text or a number is expected, a report comes out."""
        log = LogFacts(origin="o", size=9, made_at=MADE)
        every: tuple[object, ...] = (None, 7, True, [], [1], {}, {"a": []}, "x" * 300, 1.5)
        for odd in every:
            fields = dict.fromkeys(
                ("agent", "action", "decision", "charge", "cost", "usage", "data", "approval",
                 "session", "sn", "w", "call", "act", "subject", "policy", "budget", "key",
                 "outcome", "pruned", "erased", "reason", "author", "charged", "unlogged", "back_s",
                 "recovered"), odd,
            )  # fmt: skip
            kinds = ("tool.decision", "tool.outcome", "model.decision", "auth.failed",
                     "approval.granted", "budget.expired", "budget.reset", "log.pruned",
                     "subject.erased", "issuer.key", "writer.close", "agent.revoked",
                     "policy.apply", "clock.step", "audit.recovered", "audit.failure")  # fmt: skip
            found = [
                Entry(
                    index=n,
                    leaf="00",
                    fields={"type": kind, "id": str(n), "ts": "2027-01-15T08:00:00Z", **fields},
                )
                for n, kind in enumerate(kinds, start=1)
            ]
            for report in every_report(found, log, declared):
                for render in (to_markdown, to_html, to_csv, to_json):
                    assert render(report)


class TestDenials:
    def test_every_line_cites(
        self, guard: Guard, session: Session, reports: dict[str, Report]
    ) -> None:
        """What is evidenced names entries, where there is nothing to count, too."""
        for row in rows(reports["denials"], "Summary"):
            assert row.cites.entries
            assert row.cells[1]

    def test_nothing_refused(self, guard: Guard, session: Session) -> None:
        guard.admit(ToolCall("lookup"), session=session)
        report = report_denials(entries(guard), facts(guard))
        [row] = rows(report, "Summary")
        assert (row.cells, len(row.cites.entries)) == (("calls refused", 0, "of 1 decisions"), 1)

    def test_recount(self, reports: dict[str, Report], guard: Guard) -> None:
        """By code, agent, rule and action: the same numbers as counting by hand."""
        records = [
            r
            for r in guard.records()
            if r["type"] == "auth.failed" or (r.get("decision") or {}).get("effect") == "deny"
        ]
        calls = [r for r in records if r["type"] != "auth.failed"]
        report = reports["denials"]
        counted = {
            "By code": Counter(r["decision"]["code"] for r in records),
            "By agent": Counter(
                f"{r['agent']['name']} ({r['agent']['environment']})" if r["agent"] else "(nobody)"
                for r in records
            ),
            "By rule": Counter(r["decision"]["rule"] or "(none)" for r in calls),
            "By action": Counter(f"{r['action']['kind']} {r['action']['name']}" for r in calls),
        }
        assert counted["By code"]["no_grant"] == 3
        for heading, expected in counted.items():
            found = rows(report, heading)
            assert {row.cells[0]: row.cells[1] for row in found} == dict(expected)
            assert all(cited(row) == row.cells[1] for row in found)
            counts = [int(str(row.cells[1])) for row in found]
            assert counts == sorted(counts, reverse=True)
        summary = {row.cells[0]: row.cells[1] for row in rows(report, "Summary")}
        assert summary == {
            "calls refused": len(calls),
            "of these, let pass in shadow mode": 1,
            "logins refused": 1,
        }

    def test_reasons(self, reports: dict[str, Report]) -> None:
        """The reason that was given is there."""
        told = dict(column(reports["denials"], "By code", "code", "reason"))
        assert told["denied_by_rule"] == "nobody drops"
        assert "no grant names this tool" in told["no_grant"]


class TestSpend:
    def test_the_same_as_the_ledger(self, reports: dict[str, Report], guard: Guard) -> None:
        """What the log says every budget period has taken is what the ledger says."""
        found = {}
        for whose, period, settled, estimated, expired, held in column(
            reports["spend"], "By budget period", "paid by", "period", "settled", "estimated",
            "expired", "still held",
        ):  # fmt: skip
            spent = settled.amount + estimated.amount + expired.amount
            found[f"EUR {whose}|{period}"] = (spent, held.amount)
        assert found == {b.key: (b.spent, b.held) for b in guard._store.balances()}
        assert set(found.values()) == {(7 * EURO, EURO)}

    def test_limits(self, reports: dict[str, Report]) -> None:
        """Each period is told against the limit of the policy."""
        told = column(reports["spend"], "By budget period", "period", "limit", "used")
        limits = {period.partition(":")[0]: (limit, used) for period, limit, used in told}
        assert limits["day"] == (Money(amount=25 * EURO, currency="EUR"), "32.0 %")
        assert limits["session"] == (Money(amount=10 * EURO, currency="EUR"), "80.0 %")

    def test_recount(self, reports: dict[str, Report], guard: Guard) -> None:
        """By agent and by model: held, settled, estimated and calls as counted by hand."""
        records = list(guard.records())
        charged = {r["id"]: r for r in records if "charge" in r}
        held: defaultdict[str, int] = defaultdict(int)
        settled, estimated, calls = defaultdict(int), defaultdict(int), Counter()  # type: ignore[var-annotated]
        for r in charged.values():
            name = f"{r['action']['kind']} {r['action']['name']}, EUR"
            held[name] += r["charge"]["held"]
            calls[name] += 1
        for r in records:
            if "cost" in r:
                name = f"{r['action']['kind']} {r['action']['name']}, EUR"
                into = estimated if r["cost"]["estimated"] else settled
                into[name] += r["cost"]["amount"]
        told = column(reports["spend"], "By model and tool", "model or tool", "held at most",
                      "settled", "estimated", "calls")  # fmt: skip
        assert {t[0]: (t[1].amount, t[2].amount, t[3].amount, t[4]) for t in told} == {
            name: (held[name], settled[name], estimated[name], calls[name]) for name in calls
        }
        assert estimated["model m/a, EUR"] == EURO
        [agent] = column(reports["spend"], "By agent and team", "agent", "team", "settled", "calls")
        assert agent == (
            "claims-agent (prod)",
            "claims",
            Money(amount=sum(settled.values()), currency="EUR"),
            sum(calls.values()),
        )

    def test_stops_and_unpriced(self, reports: dict[str, Report]) -> None:
        """A refused model call, and one no budget pays for, are told apart."""
        [(what, count)] = column(
            reports["spend"], "Stops and corrections", "what", "count or amount"
        )
        assert (what, count) == ("calls refused for want of money or of a price", 1)
        told = column(reports["spend"], "What this log cannot tell", "point", "what the log shows")
        assert dict(told)["unpriced calls"] == "1 such calls ran; no price was worked out"

    def test_written_off_and_late(
        self, guard: Guard, authority: Authority, clock: Any, declared: Declared
    ) -> None:
        """A call nothing is heard of is charged in full; when it ends after all, at its cost."""
        session = guard.login(authority.source("claims-agent"))
        lost = guard.admit(model(5), session=session)
        clock.now += HOLD_LIFETIME + 1
        guard.admit(model(1), session=session)

        def told() -> set[tuple[int, int]]:
            found = report_spend(entries(guard), facts(guard), declared)
            amounts = column(found, "By budget period", "settled", "expired")
            return {(settled.amount, expired.amount) for settled, expired in amounts}

        assert told() == {(0, 5 * EURO)}
        lost.settle(usage={"input_tokens": 0, "output_tokens": 2 * MILLION})
        assert told() == {(2 * EURO, 0)}
        assert {b.spent for b in guard._store.balances()} == {2 * EURO}

    def test_every_kind_of_period(self, home: Path, authority: Authority, clock: Any) -> None:
        """Hours, months, totals and teams are told against their own limits, the team's lowest."""
        text = POLICY.replace(
            'budgets: [{per: session, limit: "10"}, {per: day, limit: "25", tz: Europe/Brussels}]',
            'budgets: [{per: hour, limit: "11", tz: Asia/Kathmandu}, {per: month, limit: "12"}, '
            '{per: total, limit: "13"}, {per: total, limit: "14", of: team}]',
        )
        with Guard.open(home, policy=text, clock=clock) as other:
            with other.login(authority.issue("claims-agent")) as session:
                other.admit(model(1), session=session).settle()
            lower = text.replace('limit: "14"', 'limit: "9"')
            for policy, team in ((text, 14), (lower, 9)):
                report = report_spend(entries(other), facts(other), declare(policy))
                told = column(report, "By budget period", "paid by", "period", "limit")
                found = {
                    (str(whose).partition(" ")[0], str(period).partition(":")[0]): limit
                    for whose, period, limit in told
                }
                assert found == {
                    ("agent", "hour"): Money(amount=11 * EURO, currency="EUR"),
                    ("agent", "month"): Money(amount=12 * EURO, currency="EUR"),
                    ("agent", "total"): Money(amount=13 * EURO, currency="EUR"),
                    ("team", "total"): Money(amount=team * EURO, currency="EUR"),
                }

    def test_no_policy_no_limit(self, guard: Guard, busy: Session) -> None:
        """Without a policy no limit is made up."""
        report = report_spend(entries(guard), facts(guard))
        assert {one for (one,) in column(report, "By budget period", "limit")} == {
            "not in the policy"
        }
        assert not section(report, "By budget period").charts


class TestAccess:
    def test_every_permission(self, reports: dict[str, Report], guard: Guard) -> None:
        """Each one of the policy with its uses, as counted by hand from the rule on record."""
        uses = Counter(
            r["decision"]["rule"]
            for r in guard.records()
            if r["type"].endswith(".decision") and r["decision"]["effect"] == "allow"
        )
        told = column(reports["access"], "Permissions", "rule", "uses", "finding")
        assert [t[0] for t in told] == [
            "claims-agent/read", "claims-agent/free", "claims-agent/unused", "claims-agent/pay",
            "claims-agent/models/m/*", "claims-agent/models/other/x", "claims-agent/delegates_to",
            "analytics-agent/stats", "analytics-agent/models/m/*",
        ]  # fmt: skip
        assert {rule: count for rule, count, _ in told} == {rule: uses[rule] for rule, _, _ in told}
        unused = [rule for rule, _, finding in told if "candidate" in finding]
        assert unused == ["claims-agent/unused", "claims-agent/models/other/x"]
        assert uses["claims-agent/pay"] == 1

    def test_rights_used_in_a_chain_are_no_candidates(
        self, guard: Guard, authority: Authority, declared: Declared
    ) -> None:
        """A delegated call needs the grants of both; the record names one, the other is spared."""
        session = guard.login(authority.source("claims-agent"))
        child = session.delegate("analytics-agent", tools=["claims_db.query"])
        guard.admit(ToolCall("claims_db.query", {"table": "claims"}), session=child).settle()
        report = report_access(entries(guard), facts(guard), declared)
        findings = dict(column(report, "Permissions", "rule", "finding"))
        for rule in ("claims-agent/read", "analytics-agent/stats"):
            assert "used" in findings[rule]
            assert "candidate" not in findings[rule]

    def test_outside_the_present_policy(self, guard: Guard, busy: Session) -> None:
        """Calls allowed by what this policy does not have, or has for other tools, are told."""
        text = POLICY.replace("id: read", "id: other").replace("[lookup, paid]", "[paid]")
        report = report_access(entries(guard), facts(guard), declare(text))
        told = column(report, "Used outside the present policy", "rule", "action", "calls")
        assert ("claims-agent/read", "tool claims_db.query", 7) in told
        assert ("claims-agent/free", "tool lookup", 1) in told
        assert not any(rule == "claims-agent/free" and "paid" in action for rule, action, _ in told)


class TestArt30:
    def test_observed(self, reports: dict[str, Report], guard: Guard) -> None:
        """Purposes with what was seen under them, as counted by hand; refusals process nothing."""
        ran = [
            r
            for r in guard.records()
            if r["type"].endswith(".decision")
            and (r["decision"]["effect"] == "allow" or r["decision"]["mode"] == "shadow")
        ]
        expected = Counter((r.get("data") or {}).get("purpose", "(none on record)") for r in ran)
        told = column(reports["art30"], "Observed", "purpose", "calls")
        assert dict(told) == dict(expected)
        [claims] = [
            r for r in rows(reports["art30"], "Observed") if r.cells[0] == "claims_handling"
        ]
        assert claims.cells[1:6] == (
            "contract", "claimants", "personal",
            "claims database, tool lookup, tool paid, model provider m, tool pay, "
            "delegation analytics-agent",
            "claims-agent (prod)",
        )  # fmt: skip
        assert cited(claims) == expected["claims_handling"]

    def test_declared(self, reports: dict[str, Report]) -> None:
        """What the policy says, as no more than that."""
        found = rows(reports["art30"], "Declared")
        assert found[0].cells == ("claims_handling", "contract", "claimants", "personal",
                                  "claims database, crm", "claims-agent", 3650)  # fmt: skip
        assert {row.standing for row in found} == {"declared"}

    def test_deviations(self, reports: dict[str, Report]) -> None:
        """Both ways: what was seen and is not declared, what is declared and was not seen."""
        told = set(column(reports["art30"], "Deviations", "what", "name", "finding"))
        assert ("purpose", "marketing", "declared, not seen in this span") in told
        assert ("asset", "crm", "declared, not seen in this span") in told
        assert ("tool", "stats.sum", "seen, and `tools` says nothing of its data") in told
        assert ("data class", "personal", "seen in calls without a purpose") in told

    def test_seen_and_not_declared(self, guard: Guard, busy: Session) -> None:
        """Against a policy that does not have them any more, what is on record stands out."""
        text = POLICY.replace("claims_handling", "support").replace("claims database", "archive")
        report = report_art30(entries(guard), facts(guard), declare(text))
        told = {(a, b): c for a, b, c in column(report, "Deviations", "what", "name", "finding")}
        assert told["purpose", "claims_handling"] == "seen, not declared"
        assert told["asset", "claims database"] == "seen, not declared"
        assert told["purpose", "support"] == "declared, not seen in this span"
        assert ("agent", "claims-agent") not in told

    def test_without_a_policy(self, guard: Guard, busy: Session) -> None:
        """Nothing is declared, so no deviation is made up."""
        report = report_art30(entries(guard), facts(guard))
        assert "No policy was given" in section(report, "Deviations").statement
        assert not [one for one in report.sections if one.heading == "Declared"]


class TestArt12:
    def test_timeline(self, reports: dict[str, Report], guard: Guard) -> None:
        """One row for each decision, with its outcome; entries of both are cited."""
        records = list(enumerate(guard.records(), start=1))
        outcomes = {r["call"]: n for n, r in records if r["type"].endswith(".outcome")}
        found = rows(reports["art12"], "Timeline")
        decisions = [(n, r) for n, r in records if r["type"].endswith(".decision")]
        assert [row.cites.entries for row in found if not str(row.cells[3]).startswith("ask")] == [
            tuple(sorted({n, outcomes.get(r["id"], n)}))
            for n, r in decisions
            if r["decision"]["effect"] != "ask"
        ]
        endings = Counter(row.cells[-1] for row in found)
        assert (endings["error (ValueError)"], endings[NO_OUTCOME]) == (1, 1)
        [paid] = [row for row in found if row.cells[5] and str(row.cells[3]).startswith("allow")]
        assert str(paid.cells[5]).endswith("/agent/anna")

    def test_risks_and_oversight(self, reports: dict[str, Report]) -> None:
        """Refusals, stops, revocations, failed logins; what people were asked and said."""
        told = dict(column(reports["art12"], "Risk events", "what", "count"))
        assert told == {
            "denied": 4,
            "denied, let pass in shadow mode": 1,
            "failed login": 1,
            "revocation": 1,
            "stopped by budget or rate": 1,
        }
        whats = [what for (what,) in column(reports["art12"], "Human oversight", "what")]
        assert whats == ["asked", "granted"]

    def test_gaps(self, reports: dict[str, Report]) -> None:
        """The call without an end, and the writers that are still open."""
        kinds = Counter(what for (what,) in column(reports["art12"], "Gaps", "what"))
        assert kinds["call without an outcome"] == 1
        assert kinds["writer without a closing record"] >= 1
        assert "clock went back" not in kinds
        assert not any("missing" in str(kind) for kind in kinds)

    def test_missing_number_and_clock(self, guard: Guard, busy: Session) -> None:
        """A record taken out of a session shows; so does a clock that was turned back."""
        found = entries(guard)
        place = [n for n, e in enumerate(found) if e.get("session") == busy.id][3]
        holed, session = found[:place] + found[place + 1 :], Span(session=busy.id)
        for span, what in ((Span(), "writer"), (session, "session")):
            report = report_art12(holed, facts(guard), span=span)
            missing = [r for r in rows(report, "Gaps") if "missing" in str(r.cells[0])]
            assert [r.cells[0] for r in missing] == [f"records of a {what} are missing"]
            assert found[place + 1].index in missing[0].cites.entries
        back = found[-1].time - timedelta(hours=1)
        found[-1] = Entry(
            index=found[-1].index, leaf="", fields={**found[-1].fields, "ts": back.isoformat()}
        )
        told = column(report_art12(found, facts(guard)), "Gaps", "what", "what can be said")
        assert ("clock went back", "3600 s back") in told

    def test_one_session(self, guard: Guard, busy: Session) -> None:
        """Only that one, with the answer of the person it asked."""
        report = report_art12(entries(guard), facts(guard), span=Span(session=busy.id))
        mine = [r for r in guard.records() if r.get("session") == busy.id]
        assert len(rows(report, "Timeline")) == sum(r["type"].endswith(".decision") for r in mine)
        [use] = rows(report, "Period of use")
        assert (use.cells[0], use.cells[-1]) == (busy.id, "closed")
        assert use.cells[3] == mine[0]["on_behalf_of"] != "user-1"
        assert [w for (w,) in column(report, "Human oversight", "what")] == ["asked", "granted"]
        kinds = [what for (what,) in column(report, "Gaps", "what")]
        assert kinds == ["writer without a closing record", "call without an outcome"]
        nobody = report_art12(entries(guard), facts(guard), span=Span(session="0" * 24))
        assert section(nobody, "Nothing on record").statement

    def test_what_stopped_a_session(
        self, guard: Guard, authority: Authority, declared: Declared
    ) -> None:
        """The revocation of its agent, or of its token, while it was open; not that of others."""
        mine = guard.login(authority.issue("claims-agent"))
        other = guard.login(authority.issue("analytics-agent"))
        authority.evict("claims-agent", reason="leak")
        authority.revoke_token(other.token.jti, reason="x")
        other.close()
        authority.revoke("analytics-agent", reason="later")
        for session, expected in ((mine, ["agent.evicted"]), (other, ["token.revoked"])):
            report = report_art12(entries(guard), facts(guard), span=Span(session=session.id))
            told = column(report, "Risk events, one by one", "event")
            assert [event for (event,) in told] == expected

    def test_biometrics_are_not_misquoted(self, reports: dict[str, Report]) -> None:
        """Art. 12(3) is for Annex III 1(a) only, and Art. 12 asks for no tamper evidence."""
        said = section(reports["art12"], "What the articles ask for").statement
        assert "Annex III, point 1(a), only" in said
        assert "does not ask for logs that are tamper-evident" in said

    @pytest.mark.parametrize(
        ("days", "pruned", "said"),
        [
            (183, 0, "yes, by the oldest entry"),
            (182, 0, "not shown yet: the log is younger, and was never pruned"),
            (182, 9, "no: the log was pruned, and what is left is younger"),
        ],
    )
    def test_six_months(self, days: int, pruned: int, said: str) -> None:
        """At least 183 days, by the oldest entry there is."""
        oldest = MADE - timedelta(days=days)
        log = LogFacts(origin="o", size=9, made_at=MADE, pruned=pruned, oldest=(pruned + 1, oldest))
        entry = Entry(index=1, leaf="", fields={"type": "writer.open", "ts": MADE.isoformat()})
        told = column(report_art12([entry], log), "Retention", "what", "found")
        assert ("at least 183 days", said) in told

    def test_prunings(self, guard: Guard, busy: Session, home: Path, clock: Any) -> None:
        """A pruning is on record in the report, and in the name of the log."""
        seal = Seal.open(home)
        seal.seal()
        seal.close()
        clock.now += 365 * 86_400
        with pytest.raises(AccessDenied):
            guard.login("eyJ.no.token")
        retention = Retention(store=guard._store, clock=clock)
        retention.prune(
            retention.plan(datetime.fromtimestamp(clock.now - 86_400, UTC)), reason="over"
        )
        report = report_art12(entries(guard), facts(guard))
        assert "pruned" in [what for (what,) in column(report, "Retention", "what")]
        assert report.log.pruned > 0
        assert f"pruned up to entry {report.log.pruned}" in to_markdown(report)


class TestDora:
    def test_matrix(self, reports: dict[str, Report], guard: Guard) -> None:
        """Calls, denials and last access by asset and agent, as counted by hand."""
        calls, denials = Counter(), Counter()  # type: ignore[var-annotated]
        for r in guard.records():
            if r["type"].endswith(".decision") and r["agent"]:
                asset = (r.get("data") or {}).get("asset")
                what = asset or f"{r['action']['kind']} {r['action']['name']}"
                key = (what, f"{r['agent']['name']} ({r['agent']['environment']})")
                decision = r["decision"]
                calls[key] += decision["effect"] == "allow" or decision["mode"] == "shadow"
                denials[key] += decision["effect"] == "deny"
        told = column(
            reports["dora"], "ICT assets and agents", "asset", "agent", "calls", "denials"
        )
        assert {t[:2]: t[2:] for t in told} == {
            key: (calls[key], denials[key]) for key in calls if calls[key] or denials[key]
        }
        assert calls["claims database", "claims-agent (prod)"] == 7

    def test_events(self, reports: dict[str, Report], guard: Guard) -> None:
        """Every event about access and change, in order, and nothing twice."""
        prefixes = ("agent.", "token.", "auth.", "approval.")
        expected = [r["type"] for r in guard.records() if r["type"].startswith(prefixes)]
        assert [e for (e,) in column(reports["dora"], "Access control", "event")] == expected
        changed = [e for (e,) in column(reports["dora"], "Changes", "event")]
        assert changed.count("policy.apply") == 1
        [row] = [
            r for r in rows(reports["dora"], "Access control") if r.cells[1] == "agent.revoked"
        ]
        assert row.cells[2:] == ("analytics-agent", "mia", "", "compromised")

    def test_logging_failures(
        self, home: Path, authority: Authority, clock: Any, declared: Declared
    ) -> None:
        """Calls that ran while the log could not be written are told, with the time they ran."""
        with Guard.open(
            home, policy=POLICY, clock=clock, on_audit_failure="allow_and_alarm"
        ) as guard:
            store: Any = guard._store
            with guard.login(authority.issue("claims-agent")) as session:
                store._db.execute("PRAGMA busy_timeout = 5")
                with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
                    other.execute("BEGIN IMMEDIATE")
                    guard.admit(ToolCall("lookup"), session=session).settle()
                    other.execute("ROLLBACK")
                clock.now += 60
                guard.admit(ToolCall("lookup"), session=session).settle()
            found, log = entries(guard), facts(guard)
        report = report_dora(found, log, declared)
        told = column(report, "Logging", "event", "about", "code or state")
        assert [event for event, _, _ in told] == ["tool.decision", "audit.recovered"]
        assert told[0][1] == "tool lookup, made 2027-01-15T08:00:00.000000Z"
        assert "1 calls ran without a record, 0 were refused, 2027-01-15T08:00:00" in told[1][1]
        assert told[1][2] == "allow_and_alarm"
        points = {row.cells[0]: row for row in rows(report, "What is asked for")}
        assert points["RTS 12(2)(e)"].standing == "partly"
        timeline = report_art12(found, log)
        assert [o for (o,) in column(timeline, "Timeline", "outcome")] == ["ok", "ok"]
        decisions = [str(d) for (d,) in column(timeline, "Timeline", "decision")]
        assert ["written later" in d for d in decisions] == [True, False]
        risks = dict(column(timeline, "Risk events", "what", "count"))
        assert risks["ran while the log could not be written"] == 1
        assert "call without an outcome" not in {w for (w,) in column(timeline, "Gaps", "what")}

    def test_clock_steps(self, guard: Guard, busy: Session, clock: Any, declared: Declared) -> None:
        """What the writer itself has noticed is told once."""
        clock.now -= 1000
        with pytest.raises(AccessDenied):
            guard.login("eyJ.no.token")
        report = report_dora(entries(guard), facts(guard), declared)
        [step] = rows(report, "Steps of the clock")
        assert step.cells[1:] == ("1000 s back", "2027-01-15 08:01:00", "2027-01-15 07:44:20")
        assert [r["type"] for r in guard.records()][step.cites.entries[1] - 1] == "clock.step"

    def test_register_keys(self, reports: dict[str, Report]) -> None:
        """The provider that was seen is a hint; its code is the entity's to supply."""
        found = rows(reports["dora"], "Keys of the register of information (ITS 2024/2956)")
        assert [row.standing for row in found] == ["not evidenced"] * 3 + ["partly"]
        assert found[-1].cells[2] == "m"


EVIL = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "a|b`c` [x](https://evil.example) <https://evil.example> www.evil.example\n# heading\r\n| c |",
    "\x00\x1b[31m\u202egnp.exe\u2066\u200b\ud800",
    "=HYPERLINK(1)",
    "+1",
    "-1+cmd|' /C calc'!A0",
    "@SUM(1)",
    " \t=1",
)


def evil_entries() -> list[Entry]:
    """Records in which everything that is text is an attack."""
    found: list[Entry] = []
    for text in EVIL:
        fields = {
            "ts": MADE.isoformat(),
            "w": text,
            "session": text,
            "on_behalf_of": text,
            "agent": {"name": text, "environment": text, "team": text, "instance": text},
            "action": {"kind": "tool", "name": text},
            "data": {"purpose": text, "asset": text, "data_class": text, "data_subjects": [text]},
            "reason": text,
            "author": text,
            "approval": {"id": text, "by": text, "tool": text, "rule": text},
            "charge": {"held": 7, "currency": text, "windows": [f"{text} agent x|{text}"]},
            "subject": {"name": text},
        }
        for effect in ("allow", "deny", "ask"):
            decision = {"effect": effect, "code": text, "rule": text, "reason": text}
            index = len(found) + 1
            members = {"type": "tool.decision", "id": f"{index}", "decision": decision, **fields}
            found.append(Entry(index=index, leaf="", fields=members))
        for kind in ("agent.revoked", "approval.granted", "budget.reset", "log.pruned"):
            budget = {"key": f"{text}|{text}", "spent": 3}
            members = {"type": kind, "budget": budget, "pruned": {"before": text}, **fields}
            found.append(Entry(index=len(found) + 1, leaf="", fields=members))
    return found


@pytest.fixture
def evil() -> list[Report]:
    log = LogFacts(origin="o<script>", size=99, made_at=MADE)
    return every_report(evil_entries(), log, declare(POLICY))


class _Page(HTMLParser):
    """Reads a page: are its elements closed in order, and what do they refer to?"""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.names: Counter[str] = Counter()
        self.attributes: set[str] = set()
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names[tag] += 1
        self.attributes |= {name for name, _ in attrs}
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names[tag] += 1
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def parse(text: str) -> _Page:
    page = _Page()
    page.feed(text)
    page.close()
    assert not page.open
    return page


ELEMENTS = {
    "html", "head", "meta", "title", "style", "body", "h1", "h2", "dl", "dt", "dd", "section", "p",
    "div", "table", "thead", "tbody", "tr", "th", "td", "svg", "rect", "text", "path",
}  # fmt: skip
ATTRIBUTES = {
    "lang", "charset", "http-equiv", "content", "name", "class", "viewbox", "role", "aria-label",
    "x", "y", "width", "height", "d",
}  # fmt: skip


class TestHtml:
    def test_one_file_that_needs_nothing(self, reports: dict[str, Report]) -> None:
        """Well-formed, no script, no reference to anything outside, for light, dark and paper."""
        for report in reports.values():
            text = to_html(report)
            page = parse(text)
            assert set(page.names) <= ELEMENTS
            assert page.attributes <= ATTRIBUTES
            for outside in ("http:", "https:", "url(", "@import", "data:"):
                assert outside not in text
            assert "default-src 'none'" in text
            assert "prefers-color-scheme: dark" in text
            assert "@media print" in text

    def test_charts(self, reports: dict[str, Report]) -> None:
        """Timeline, matrix, budgets and reasons are drawn."""
        for name, words in {
            "art12": "Decisions over time",
            "dora": "Calls by asset and agent",
            "spend": "Spent and held against budgets",
            "denials": "Refusals by code",
        }.items():
            page = parse(to_html(reports[name]))
            assert page.names["svg"] >= 1
            assert words in page.words

    def test_every_text_is_escaped(self, evil: list[Report]) -> None:
        """Names that are markup become text: no element and no attribute comes of them."""
        for report in evil:
            text = to_html(report)
            page = parse(text)
            assert set(page.names) <= ELEMENTS
            assert page.attributes <= ATTRIBUTES
            assert not any(c for c in text if not (c.isprintable() or c == "\n"))
        words = "".join(parse(to_html(evil[-1])).words)
        assert "<script>alert(1)</script>" in words
        assert "\\u202egnp.exe" in words


class TestOtherForms:
    def test_markdown(self, evil: list[Report]) -> None:
        """No name adds a cell, a line, a link, a tag or code."""
        for report in evil:
            text = to_markdown(report)
            assert not any(c for c in text if not (c.isprintable() or c == "\n"))
            for one in report.sections:
                if one.table is not None and one.table.rows:
                    head = "| " + " | ".join(one.table.columns) + " | standing | entries |"
                    assert head in text
            for line in text.splitlines():
                bare = line.replace("\\\\", "")
                assert (
                    line == ""
                    or line[:2] in ("# ", "##", "* ", "| ", "|-", "| ")
                    or (line[0].isalpha() or line[0] == "(")
                )
                for mark in ("`", "<", "[", "!["):
                    assert all(bare[n - 1] == "\\" for n, c in enumerate(bare) if c == mark[0])
                assert "https://" not in line
                assert "www." not in line
        widths = {
            len([n for n, c in enumerate(line) if c == "|" and line[n - 1] != "\\"])
            for line in to_markdown(evil[-1]).partition("## By agent")[2].splitlines()
            if "alert" in line and line.startswith("|")
        }
        assert widths == {6}

    def test_csv(self, evil: list[Report]) -> None:
        """All lines are of one width, and no cell can begin a formula."""
        for report in evil:
            lines = list(csv.reader(io.StringIO(to_csv(report), newline="")))
            assert len({len(line) for line in lines}) == 1
            for cell in (cell for line in lines for cell in line):
                assert not cell.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r"))
                assert cell.isprintable()
            rows_of = [line for line in lines if line[1] == "row" and line[0] != "report"]
            tables = [one.table for one in report.sections if one.table is not None]
            assert len(rows_of) == sum(len(table.rows) for table in tables)

    def test_json(self, reports: dict[str, Report]) -> None:
        """One line that says all of it, amounts in whole nano-units."""
        for report in reports.values():
            text = to_json(report)
            assert text.isascii()
            assert text.count("\n") == 1
            found = json.loads(text)
            assert [one["heading"] for one in found["sections"]] == [
                one.heading for one in report.sections
            ]
            for told, one in zip(found["sections"], report.sections, strict=True):
                if one.table is not None:
                    assert [row["entries"] for row in told["rows"]] == [
                        list(row.cites.entries) for row in one.table.rows
                    ]
        spent = json.loads(to_json(reports["spend"]))["sections"][0]["rows"]
        day = next(row["cells"] for row in spent if row["cells"][1].startswith("day:"))
        assert {"amount": 25 * EURO, "currency": "EUR"} in day

    @pytest.mark.parametrize("render", [to_markdown, to_csv, to_json, to_html])
    def test_the_same_twice(
        self, reports: dict[str, Report], render: Callable[[Report], str]
    ) -> None:
        """A report is a value: its forms do not depend on when they are made."""
        for report in reports.values():
            assert render(report) == render(report)


def test_home_is_read_only(guard: Guard, busy: Session, home: Path, declared: Declared) -> None:
    """Making every report adds no entry."""
    before = Home.locate(home).database.stat().st_size, guard._store.extent()
    every_report(entries(guard), facts(guard), declared)
    assert (Home.locate(home).database.stat().st_size, guard._store.extent()) == before
