"""`tabard policy`: applying, comparing, rolling back; and what is said to bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tabard import Authority
from tabard.central import Policies
from tabard.policy.schema import schema

LENIENT = "version: 1\nagents: {claims-agent: {grants: [{id: a, tools: [t]}]}}\n"
STRICT = "version: 1\nagents: {claims-agent: {grants: [{id: b, tools: [u]}]}}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(LENIENT)
    return path


@pytest.fixture
def tabard(tabard: Any, home: Path, authority: Authority) -> Any:
    """The command line at work on a home with two agents."""
    return tabard


def test_apply(tabard: Any, file: Path, home: Path) -> None:
    """Shows what changes, asks, applies; author and reason are on record."""
    applied = tabard("policy", "apply", file, "--author", "mia", "--reason", "start", stdin="y\n")
    assert applied.code == 0
    assert "agents: added" in applied.out
    assert "is in force" in applied.out
    file.write_text(STRICT)
    applied = tabard("policy", "apply", file, "--yes")
    assert "agents.claims-agent.grants.0.id: a -> b" in applied.out
    again = tabard("policy", "apply", file, "--yes")
    assert (again.code, "in force already" in again.out) == (0, True)
    rows = tabard("policy", "history", "--json").rows
    assert [(r["number"], r["applied_by"], r["in_force"]) for r in rows] == [
        (1, "mia", False), (2, None, True),
    ]  # fmt: skip
    records = tabard("audit", "tail", "--json").rows
    [first, _] = [r["policy"] for r in records if r["type"] == "policy.apply"]
    assert (first["author"], first["reason"]) == ("mia", "start")


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_not_agreed(tabard: Any, file: Path, home: Path, answer: str) -> None:
    """Without a yes, and with nobody there to give one, nothing is changed: exit 1."""
    refused = tabard("policy", "apply", file, stdin=answer)
    assert (refused.code, "nothing was changed" in refused.out) == (1, True)
    assert Policies.open(home).history() == []


def test_another_was_applied_meanwhile(
    tabard: Any, file: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A yes to differences that are no longer true undoes nobody's work."""
    from tabard.cli import policy

    def slow_person() -> bool:
        Policies.open(home).apply(STRICT, author="noa")
        return True

    monkeypatch.setattr(policy, "_agrees", slow_person)
    refused = tabard("policy", "apply", file)
    assert (refused.code, "came into force meanwhile" in refused.err) == (2, True)
    assert [c.applied_by for c in Policies.open(home).history()] == ["noa"]


def test_file_changed_meanwhile(
    tabard: Any, file: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was shown is what is applied, whatever becomes of the file while somebody reads."""
    from tabard.cli import policy

    monkeypatch.setattr(policy, "_agrees", lambda: bool(file.write_text(STRICT)))
    assert tabard("policy", "apply", file).code == 0
    assert "tools: [t]" in (Policies.open(home).text() or "")


def test_diff_show_rollback(tabard: Any, file: Path, home: Path) -> None:
    """The differences by path, the text in force, and the way back."""
    Policies.open(home).apply(LENIENT)
    assert tabard("policy", "diff", file).out == "no differences\n"
    assert tabard("policy", "show").out == LENIENT
    file.write_text(STRICT)
    assert tabard("policy", "diff", file, "--json").rows == [
        {"difference": "agents.claims-agent.grants.0.id: a -> b"},
        {"difference": "agents.claims-agent.grants.0.tools.0: t -> u"},
    ]
    tabard("policy", "apply", file, "--yes")
    back = tabard("policy", "rollback", "--author", "noa", "--reason", "too strict")
    assert (back.code, "in force again" in back.out) == (0, True)
    assert tabard("policy", "show").out == LENIENT
    table = tabard("policy", "history").out
    assert table.count("in force") == 1
    assert "noa" in table


def test_schema(tabard: Any) -> None:
    """The JSON Schema as the document has it."""
    assert json.loads(tabard("policy", "schema").out) == schema()


def test_bad_files(tabard: Any, file: Path, home: Path) -> None:
    """Each command names the file, the field, what was found and what was expected: exit 2."""
    file.write_text("version: 1\nmode: lax\nagents: {a: {grnts: []}}\n")
    for command in ("apply", "diff", "check"):
        refused = tabard("policy", command, file)
        assert refused.code == 2
        assert f"{file}: mode: " in refused.err
        assert "found 'lax'" in refused.err
        assert "did you mean `grants`?" in refused.err
        missing = tabard("policy", command, home / "missing.yaml")
        assert (missing.code, "no readable policy file" in missing.err) == (2, True)
    assert Policies.open(home).history() == []


def test_nothing_applied(tabard: Any) -> None:
    """Showing or rolling back what is not there says so: exit 2."""
    shown = tabard("policy", "show")
    assert (shown.code, "no policy was ever applied" in shown.err) == (2, True)
    back = tabard("policy", "rollback")
    assert (back.code, "no earlier policy" in back.err) == (2, True)
    back = tabard("policy", "rollback", "zz")
    assert (back.code, "applied were: none yet" in back.err) == (2, True)
