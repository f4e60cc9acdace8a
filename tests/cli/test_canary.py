"""A credential typed in the wrong place is in nothing that a command prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tabard import Authority, ConfigurationError

PLACES = [
    ["agent", "show", "{}"],
    ["agent", "revoke", "{}", "--reason", "x"],
    ["agent", "revoke", "--team", "{}", "--reason", "x"],
    ["agent", "evict", "{}", "--reason", "x"],
    ["agent", "unban", "{}", "--reason", "x"],
    ["agent", "issue", "{}"],
    ["agent", "issue", "claims-agent", "--profile", "{}"],
    ["agent", "key", "{}"],
    ["agent", "keys", "{}"],
    ["agent", "join", "{}"],
    ["agent", "rotate", "{}"],
    ["agent", "svid", "{}", "--out", "x.pem"],
    ["agent", "add", "{} ", "--team", "t", "--environment", "e"],
    ["agent", "add", "a", "--team", "{} ", "--environment", "e"],
    ["agent", "add", "a", "--team", "t", "--environment", "e", "--spiffe-id", "{}"],
    ["agent", "{}"],
    ["agent", "list", "{}"],
    ["agent", "list", "--{}"],
    ["approval", "show", "{}"],
    ["approval", "grant", "{}", "--as", "claims-agent"],
    ["approval", "grant", "apr_1", "--as", "{}"],
    ["audit", "tail", "-n", "{}"],
    ["audit", "verify", "{}"],
    ["budget", "show", "--agent", "{}"],
    ["budget", "reset", "{}", "--reason", "x"],
    ["bundle", "export", "{}"],
    ["bundle", "trust", "{}", "nowhere"],
    ["bundle", "trust", "other.example", "{}"],
    ["bundle", "trust", "other.example", "https://x.example/b", "--pin", "{}"],
    ["bundle", "distrust", "{}", "--reason", "x"],
    ["bundle", "kill", "{}", "--reason", "x"],
    ["policy", "apply", "{}"],
    ["policy", "check", "{}"],
    ["policy", "rollback", "{}"],
    ["policy", "suggest", "--agent", "{}"],
    ["policy", "replay", "--policy", "{}"],
    ["policy", "suggest", "--agent", "claims-agent", "--since", "{}"],
    ["token", "inspect", "none", "{}"],
    ["token", "inspect", "{}x"],
    ["token", "revoke", "{}", "--reason", "x"],
    ["token", "{}"],
    ["{}"],
    ["init", "{}/x/\0"],
]


@pytest.fixture
def tabard(tabard: Any, home: Path, authority: Authority, monkeypatch: Any, tmp_path: Path) -> Any:
    """The command line at work on a home with two agents."""
    monkeypatch.chdir(tmp_path)
    return tabard


@pytest.fixture
def credentials(authority: Authority) -> dict[str, str]:
    """One of every kind, and the part of each that must not be seen."""
    return {
        "key": authority.create_key("claims-agent"),
        "join": authority.create_join_token("claims-agent"),
        "token": authority.issue("claims-agent"),
        "svid": authority.issue_svid("claims-agent").to_pem().decode(),
    }


def secret_of(kind: str, text: str) -> str:
    """A stretch from the middle of the secret part."""
    if kind == "svid":
        return text.partition("PRIVATE KEY-----\n")[2][20:40]
    return text.rpartition("_" if kind in ("key", "join") else ".")[2][5:25]


@pytest.mark.parametrize("place", PLACES, ids=" ".join)
def test_nothing_is_repeated(tabard: Any, credentials: dict[str, str], place: list[str]) -> None:
    """Whatever the command makes of it, it ends in one of our sentences, without the secret."""
    for kind, text in credentials.items():
        said = tabard(*[part.replace("{}", text) for part in place])
        shown = "".join((said.out + said.err).split())
        assert secret_of(kind, text) not in shown
        assert "Traceback" not in shown
        assert "pleasereportit" not in shown


def test_neither_by_the_library(authority: Authority, credentials: dict[str, str]) -> None:
    """What goes wrong in Python repeats no credential either."""
    for kind, text in credentials.items():
        with pytest.raises(ConfigurationError) as caught:
            authority.find(text)
        assert secret_of(kind, text) not in str(caught.value)


def test_home(tabard: Any, credentials: dict[str, str]) -> None:
    """Also where the home is expected."""
    for kind, text in credentials.items():
        said = tabard("agent", "list", home=Path(text))
        assert said.code == 2
        assert secret_of(kind, text) not in said.err
