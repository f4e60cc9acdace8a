"""`tabard policy test`, `check` and `explain`: questions about a policy file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

POLICY = "version: 1\nagents: {clerk: {grants: [{id: a, tools: [t]}, {id: b, tools: [u]}]}}\n"
CASES = "cases: [{name: one, agent: clerk, tool: t, expect: {decision: allow}}]\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A policy with a test beside it."""
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "policy.test.yaml").write_text(CASES)
    return tmp_path / "policy.yaml"


class TestTest:
    def test_holds(self, tabard: Any, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Exit 0, and the last line says which rules no case reaches."""
        for arguments in ((file,), (file, "--cases", file.with_name("policy.test.yaml"))):
            found = tabard("policy", "test", *arguments)
            assert found.code == 0
            assert found.out.splitlines()[-2:] == [
                "1 of 1 cases hold", "coverage: 1 of 2 rules; no case reaches clerk/b",
            ]  # fmt: skip
        monkeypatch.chdir(file.parent)
        assert tabard("policy", "test").code == 0

    def test_fails(self, tabard: Any, file: Path) -> None:
        """Exit 1, and what differs, and why it was decided like that."""
        file.write_text(POLICY.replace("[t]", "[v]"))
        found = tabard("policy", "test", file)
        assert found.code == 1
        for part in ("FAILED  one", "expected allow, found deny", "no grant names this tool",
                     "0 of 1 cases hold"):  # fmt: skip
            assert part in found.out
        found = tabard("policy", "test", file, "--json")
        assert found.code == 1
        assert found.rows[0]["failures"] == ["decision: expected allow, found deny"]
        assert found.rows[1] == {"rules": 2, "unreached": ["clerk/a", "clerk/b"]}

    def test_bad_input(self, tabard: Any, file: Path) -> None:
        """Each file that cannot be used is named: exit 2."""
        cases = file.with_name("policy.test.yaml")
        cases.write_text(CASES.replace("decision: allow", "decision: maybe"))
        refused = tabard("policy", "test", file)
        assert (refused.code, f"{cases}: cases.0.expect.decision: " in refused.err) == (2, True)
        assert "found 'maybe'" in refused.err
        cases.write_text(CASES)
        file.write_text(POLICY.replace("clerk: {", "clerk: {windows: [w], ") +
                        "windows: {w: {tz: UTC, from: '07:00', to: '08:00'}}\n")  # fmt: skip
        refused = tabard("policy", "test", file)
        assert (refused.code, f"{cases}: cases.0.at: `one` has to say" in refused.err) == (2, True)
        cases.unlink()
        refused = tabard("policy", "test", file)
        assert (refused.code, f"{cases}: no readable policy test file" in refused.err) == (2, True)
