"""`tabard policy explain` and `check`, as typed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tabard import Authority

POLICY = """\
version: 1
agents:
  claims-agent:
    match: {team: claims}
    scope: {claimant: required}
    grants:
      - id: read
        tools: [read]
        args: {table: {enum: [claims]}, claimant: {equals_scope: claimant}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    return path


def test_explain(tabard: Any, file: Path) -> None:
    """The rule, the facts and the nearest change; no value is repeated."""
    asked = ("policy", "explain", "--policy", file, "--agent", "claims-agent", "--tool", "read",
             "--args", '{"table": "people-4711"}', "--scope", '{"claimant": "C-1"}')  # fmt: skip
    said = tabard(*asked)
    assert said.code == 0
    assert "deny: arg.missing, claims-agent/read" in said.out
    assert "nearest change: claims-agent/read: `claimant` has to be given" in said.out
    assert "`table` has to pass `enum`" in said.out
    assert "4711" not in said.out
    [row] = tabard(*asked, "--json").rows
    assert (row["decision"], len(row["nearest"])) == ("deny", 2)


def test_explain_the_central_one(tabard: Any, file: Path, authority: Authority) -> None:
    """Without a file the policy in force is explained."""
    tabard("policy", "apply", file, "--yes")
    said = tabard("policy", "explain", "--agent", "claims-agent", "--tool", "drop")
    assert "scope" in said.out
    assert "a rule that names the tool `drop`" in said.out


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--agent", "claims-agent"], "expected one of tool, model"),
        (["--agent", "claims-agent", "--tool", "t", "--model", "m"], "found tool and model"),
        (["--agent", "claims-agent", "--tool", "t", "--args", "[1]"], "--args: expected a JSON"),
        (["--agent", "claims-agent", "--tool", "t", "--scope", "x"], "--scope: expected a JSON"),
        (["--agent", "claims-agent", "--tool", "t", "--at", "noon"], "a time with its zone"),
        (["--agent", "a b", "--tool", "t"], "expected letters"),
        (["--tool", "t"], "Missing option"),
    ],
)
def test_misuse(tabard: Any, file: Path, arguments: list[str], part: str) -> None:
    """One sentence, exit 2."""
    refused = tabard("policy", "explain", "--policy", file, *arguments)
    assert refused.code == 2
    assert part in refused.err


def test_check(tabard: Any, file: Path, authority: Authority) -> None:
    """Odd things are told with exit 1; none with exit 0."""
    assert tabard("policy", "check", file).code == 0
    file.write_text(POLICY + "sets: {s: [m]}\n")
    odd = tabard("policy", "check", file)
    assert (odd.code, "sets.s: nothing uses it" in odd.out) == (1, True)
    [row] = tabard("policy", "check", file, "--json").rows
    assert row["problem"].startswith("sets.s")
