"""`tabard report`: every report in every form, from the home's log, into new files only."""

from __future__ import annotations

import csv
import io
import json
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tabard import Authority, Guard, NotPermitted, Session, ToolCall
from tabard.central import Policies

NAMES = ("art30", "art12", "dora", "access", "spend", "denials")
QUERY = ToolCall("claims_db.query", {"table": "claims", "claimant_id": "C-1"})


@pytest.fixture
def busy(guard: Guard, session: Session, home: Path, policy_text: str, clock: Any) -> Session:
    """Three calls, two refusals, and a central policy."""
    Policies.open(home, clock=clock).apply(policy_text, author="mia")
    for _ in range(3):
        guard.admit(QUERY, session=session).settle()
    for _ in range(2):
        with pytest.raises(NotPermitted):
            guard.admit(ToolCall("nowhere"), session=session)
    return session


def found(answer: Any) -> dict[str, Any]:
    [report] = answer.rows
    return dict(report)


def rows(report: dict[str, Any], heading: str) -> list[list[Any]]:
    [section] = [one for one in report["sections"] if one["heading"] == heading]
    return [row["cells"] for row in section["rows"]]


@pytest.mark.parametrize("name", NAMES)
class TestEvery:
    def test_every_form(self, tabard: Any, busy: Session, name: str) -> None:
        """Markdown unless asked otherwise; --json is the same as --format json."""
        markdown, as_json = tabard("report", name), tabard("report", name, "--format", "json")
        assert (markdown.code, markdown.err) == (0, "")
        assert markdown.out.startswith("# ")
        assert tabard("report", name, "--format", "md").out[:40] == markdown.out[:40]
        assert found(as_json)["report"] == found(tabard("report", name, "--json"))["report"] == name
        assert tabard("report", name, "--format", "html").out.startswith("<!doctype html>")
        lines = list(csv.reader(io.StringIO(tabard("report", name, "--format", "csv").out)))
        assert len({len(line) for line in lines}) == 1

    def test_empty(
        self, tabard: Any, authority: Authority, policy_text: str, tmp_path: Path, name: str
    ) -> None:
        """Nothing in the span: every form says so, and it is no failure to ask."""
        file = tmp_path / "policy.yaml"
        file.write_text(policy_text)
        for form in ("md", "html", "csv", "json"):
            said = tabard(
                "report", name, "--policy", file, "--since", "2099-01-01", "--format", form
            )
            assert said.code == 0
            assert "Nothing on record" in said.out
            assert "candidate for removal" not in said.out
            for line in said.rows if form == "json" else ():
                standings = {r["standing"] for s in line["sections"] for r in s.get("rows", ())}
                assert standings == {"not evidenced"}

    def test_out(self, tabard: Any, busy: Session, tmp_path: Path, name: str) -> None:
        """A new file for its owner alone; one that is there, or a link to one, is left alone."""
        file = tmp_path / "report.html"
        assert tabard("report", name, "--format", "html", "--out", file).code == 0
        assert file.read_text().startswith("<!doctype html>")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        before = file.read_bytes()
        again = tabard("report", name, "--out", file)
        assert (again.code, "exists already" in again.err, file.read_bytes()) == (2, True, before)
        link = tmp_path / "link.md"
        link.symlink_to(tmp_path / "elsewhere.md")
        assert tabard("report", name, "--out", link).code == 2
        assert not (tmp_path / "elsewhere.md").exists()
        lost = tabard("report", name, "--out", tmp_path / "no" / "report.md")
        assert (lost.code, "cannot be written" in lost.err) == (2, True)
        assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == ["report.html"]

    def test_out_as_json(self, tabard: Any, busy: Session, tmp_path: Path, name: str) -> None:
        """With both, the file has the report and the answer has the file."""
        file = tmp_path / "report.json"
        [said] = tabard("report", name, "--json", "--out", file).rows
        assert said == {"file": str(file), "report": name, "format": "json"}
        assert json.loads(file.read_text())["report"] == name


def test_the_central_policy_is_the_default(
    tabard: Any, busy: Session, policy_text: str, tmp_path: Path
) -> None:
    """What is declared is what is in force, unless a file is given."""
    told = dict(
        (row[2], row[4]) for row in rows(found(tabard("report", "access", "--json")), "Permissions")
    )
    assert told["claims-agent/claims-read"] == 3
    file = tmp_path / "other.yaml"
    file.write_text(policy_text.replace("claims-read", "other"))
    other = found(tabard("report", "access", "--policy", file, "--json"))
    assert [row[1:4] for row in rows(other, "Used outside the present policy")] == [
        ["claims-agent/claims-read", "tool claims_db.query", 3]
    ]


def test_without_any_policy(tabard: Any, guard: Guard, session: Session) -> None:
    """Only what needs one refuses to go on, and says how to give one."""
    guard.admit(QUERY, session=session).settle()
    for name in NAMES:
        said = tabard("report", name)
        assert said.code == (2 if name == "access" else 0)
    assert "--policy FILE" in tabard("report", "access").err
    assert "No policy was given" in tabard("report", "art30").out


def test_numbers_and_span(tabard: Any, busy: Session, guard: Guard, clock: Any) -> None:
    """The numbers are those of the log, in the span that was asked for."""
    told = {row[0]: row[1] for row in rows(found(tabard("report", "denials", "--json")), "By code")}
    assert told == {"no_grant": 2}
    clock.now += 100
    with pytest.raises(NotPermitted):
        guard.admit(ToolCall("elsewhere"), session=busy)
    since = datetime.fromtimestamp(clock.now - 1, UTC).isoformat()
    later = found(tabard("report", "denials", "--since", since, "--json"))
    assert [row[:2] for row in rows(later, "By action")] == [["tool elsewhere", 1]]
    earlier = found(tabard("report", "denials", "--until", since, "--json"))
    assert [row[:2] for row in rows(earlier, "By action")] == [["tool nowhere", 2]]


def test_one_session(tabard: Any, busy: Session, guard: Guard, authority: Authority) -> None:
    """`art12 --session` leaves the others out."""
    other = guard.login(authority.issue("analytics-agent"))
    guard.admit(ToolCall("stats.sum"), session=other).settle()
    report = found(tabard("report", "art12", "--session", other.id, "--json"))
    assert [row[2] for row in rows(report, "Timeline")] == ["tool stats.sum"]
    assert report["span"]["session"] == other.id


@pytest.mark.parametrize("more", [(), ("--json",), ("--format", "html")])
def test_no_such_session(tabard: Any, busy: Session, more: tuple[str, ...]) -> None:
    """A session that is not in the log, or not in the span, is no empty report."""
    for asked in (("nope",), (busy.id, "--until", "1999-01-01")):
        answer = tabard("report", "art12", "--session", *asked, *more)
        assert (answer.code, answer.out) == (2, "")
        assert "no record of such a session" in answer.err


def test_unusable_input(tabard: Any, busy: Session, tmp_path: Path) -> None:
    """What contradicts itself, or is no time, no form, no policy, no home, is refused with 2."""
    for wrong in (
        ("--json", "--format", "html"),
        ("--format", "pdf"),
        ("--since", "yesterday"),
        ("--policy", tmp_path / "none.yaml"),
    ):
        said = tabard("report", "denials", *wrong)
        assert (said.code, said.out) == (2, "")
        assert "an error inside tabard" not in said.err
    assert tabard("report", "denials", home=tmp_path / "nowhere").code == 2
    assert tabard("report", "denials", "--json", "--format", "json").code == 0
