"""`tabard policy replay` and `suggest`, on a log that real calls have left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tabard import AccessDenied, Authority, Guard, ToolCall

POLICY = """\
version: 1
agents:
  claims-agent:
    grants: [{id: read, tools: [read], args: {table: {enum: [claims]}}}]
"""


@pytest.fixture
def tabard(tabard: Any, home: Path) -> Any:
    """A home in which an agent has called a tool, and tried another."""
    with Authority.open(home, trust_domain="acme.example") as authority:
        authority.register("claims-agent", team="claims", environment="prod")
        with Guard.open(home, policy=POLICY) as guard:
            with guard.login(authority.issue("claims-agent")):
                guard.admit(ToolCall("read", {"table": "claims"})).settle()
                with pytest.raises(AccessDenied):
                    guard.admit(ToolCall("drop", {"all": True}))
    return tabard


def test_replay(tabard: Any, tmp_path: Path) -> None:
    """Each kind of call that would be answered in another way is a row."""
    (tmp_path / "new.yaml").write_text(POLICY.replace("tools: [read]", "tools: [drop]"))
    rows = tabard("policy", "replay", "--policy", tmp_path / "new.yaml", "--json").rows
    assert [(r["name"], r["before"], r["after"]) for r in rows] == [("read", "allow", "deny")]
    shown = tabard("policy", "replay", "--policy", tmp_path / "new.yaml", "--since", "1h")
    assert "2 calls replayed" in shown.out
    (tmp_path / "new.yaml").write_text(POLICY)
    assert "every one would be decided as it was" in tabard(
        "policy", "replay", "--policy", tmp_path / "new.yaml"
    ).out  # fmt: skip
    (tmp_path / "new.yaml").write_text(POLICY.replace("[claims]", "[people]"))
    shown = tabard("policy", "replay", "--policy", tmp_path / "new.yaml")
    assert "cannot be told" in shown.out


def test_suggest(tabard: Any) -> None:
    """Grants for what was seen; where a type is not in the log, that is said."""
    said = tabard("policy", "suggest", "--agent", "claims-agent")
    assert said.code == 0
    assert 'tools: ["read"]' in said.out
    assert "only shadow mode keeps it" in said.out


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["replay", "--policy", "none.yaml"], "no readable policy file"),
        (["suggest", "--agent", "nobody"], "no agent"),
        (["suggest", "--agent", "claims-agent", "--since", "yesterday"], "such as 90m"),
        (["suggest", "--agent", "claims-agent", "--since", "0d"], "such as 90m"),
    ],
)
def test_misuse(tabard: Any, arguments: list[str], part: str) -> None:
    """One sentence, exit 2."""
    refused = tabard("policy", *arguments)
    assert refused.code == 2
    assert part in refused.err
