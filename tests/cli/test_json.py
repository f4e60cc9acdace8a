"""Every command has `--json`, and prints objects with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from tabard import Authority
from tabard.cli.app import app
from tabard.identity import SigningKey, TrustBundle

TEXTS = {"policy schema", "policy show", "policy suggest", "policy test", "policy check", "init"}
"""What prints a file's text, or is only looked at by a person."""


def commands(group: Any, name: str = "") -> dict[str, Any]:
    """Every command by its whole name."""
    found: dict[str, Any] = {}
    for part, command in getattr(group, "commands", {}).items():
        whole = f"{name} {part}".strip()
        inner = commands(command, whole)
        found.update(inner or {whole: command})
    return found


@pytest.mark.parametrize("name", sorted(set(commands(get_command(app))) - TEXTS))
def test_has_the_option(name: str) -> None:
    """No command is for people alone."""
    options = {o for p in commands(get_command(app))[name].params for o in p.opts}
    assert "--json" in options


def test_credentials_and_keys(
    tabard: Any, home: Path, authority: Authority, tmp_path: Path
) -> None:
    """What is handed out, rotated, killed and trusted, as objects."""
    for command in ("issue", "key", "rotate", "join"):
        [row] = tabard("agent", command, "analytics-agent", "--json").rows
        assert set(row) == {"kind", "credential"}
    [row] = tabard("agent", "svid", "claims-agent", "--out", tmp_path / "s.pem", "--json").rows
    assert row["spiffe_id"].endswith("/claims-agent")
    keys = tabard("bundle", "rotate", "--json").rows
    assert {k["state"] for k in keys} >= {"active", "retiring"}
    [killed] = tabard("bundle", "kill", keys[0]["kid"], "--reason", "x", "--json").rows
    assert killed["state"] == "killed"
    file = tmp_path / "b.json"
    file.write_text(TrustBundle.of(SigningKey.generate(), trust_domain="o.example").to_jwks())
    file.chmod(0o600)
    [trusted] = tabard("bundle", "trust", "o.example", file, "--json").rows
    assert (trusted["trust_domain"], trusted["keys"]) == ("o.example", 1)
    [exported] = tabard("bundle", "export", "o.example", "--json").rows
    assert len(exported["keys"]) == 1
    [gone] = tabard("bundle", "distrust", "o.example", "--reason", "x", "--json").rows
    assert gone["trusted"] is False
    [refused] = tabard("token", "revoke", "x" * 22, "--reason", "x", "--json").rows
    assert refused["refused"] is True


def test_key_id_that_begins_with_a_dash(tabard: Any, authority: Authority) -> None:
    """A thumbprint may begin like an option; it is still taken for what it is."""
    said = tabard("bundle", "kill", "-WSFwnpk", "--reason", "x")
    assert (said.code, "no key '-WSFwnpk'" in said.err) == (2, True)
