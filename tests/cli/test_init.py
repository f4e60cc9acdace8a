"""`tabard init`: a home and a policy to begin with, and nothing overwritten."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tabard import Authority
from tabard.policy import load
from tabard.policy.schema import published_schema

FILES = ("policy.yaml", "policy.schema.json", "policy.test.yaml")


def test_made(tabard: Any, tmp_path: Path) -> None:
    """A home of the trust domain, a policy that loads, and an editor that knows its schema."""
    place = tmp_path / "new"
    made = tabard("init", place, "--trust-domain", "acme.example", home=None)
    assert made.code == 0
    assert Authority.open(place / ".tabard").trust_domain == "acme.example"
    text = (place / "policy.yaml").read_text()
    assert text.splitlines()[0] == "# yaml-language-server: $schema=policy.schema.json"
    assert "assistant" in load(text).agents
    assert (place / "policy.schema.json").read_text() == published_schema()
    applied = tabard("policy", "apply", place / "policy.yaml", "--yes", home=place / ".tabard")
    assert applied.code == 0


def test_home_option(tabard: Any, home: Path, tmp_path: Path) -> None:
    """`--home` says where the home is; one of the same trust domain is kept as it is."""
    assert tabard("init", tmp_path, "--trust-domain", "acme.example", home=home).code == 0
    assert not (tmp_path / ".tabard").exists()
    again = tabard("init", tmp_path / "other", "--trust-domain", "acme.example", home=home)
    assert again.code == 0
    assert (home / "state.db").exists()


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_overwritten(tabard: Any, tmp_path: Path, home: Path, name: str) -> None:
    """One file that is there, be it a dangling link, and nothing at all is made: exit 2."""
    (tmp_path / name).symlink_to("nowhere")
    refused = tabard("init", tmp_path, "--trust-domain", "acme.example")
    assert (refused.code, f"{name}: is there already" in refused.err) == (2, True)
    assert not home.exists()
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Missing option"),
        (("--trust-domain", "not a domain"), "trust domain"),
        (("/dev/null/x", "--trust-domain", "acme.example"), "cannot be"),
    ],
)
def test_bad_input(
    tabard: Any, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...], message: str,
) -> None:  # fmt: skip
    """One sentence each, and exit 2."""
    monkeypatch.chdir(tmp_path)
    refused = tabard("init", *arguments)
    assert (refused.code, message in refused.err) == (2, True), refused.err
    assert not (tmp_path / "policy.yaml").exists()


def test_another_trust_domain(tabard: Any, tmp_path: Path, home: Path) -> None:
    """A home of another trust domain is left alone."""
    Authority.open(home, trust_domain="acme.example").close()
    refused = tabard("init", tmp_path, "--trust-domain", "other.example")
    assert (refused.code, "belongs to the trust domain" in refused.err) == (2, True)
    assert not (tmp_path / "policy.yaml").exists()
