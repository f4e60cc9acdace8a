"""`tabard audit ship` as an operator uses it."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from tabard import Authority, Guard, Session, ToolCall
from tabard.audit import shipping


@pytest.fixture(autouse=True)
def _log(guard: Guard, session: Session) -> None:
    call = ToolCall("claims_db.query", {"table": "claims", "claimant_id": "C-1"})
    with guard.admit(call, session=session):
        pass


def numbers(file: Path) -> list[int]:
    return [json.loads(line)["entry"] for line in file.read_text().splitlines()]


@pytest.mark.parametrize("form", ["ocsf", "ecs", "syslog", "cloudevents", "jsonl"])
def test_to_standard_output(tabard: Any, form: str) -> None:
    """Events and nothing else."""
    said = tabard("audit", "ship", "--format", form, "--to", "-")
    lines = said.out.splitlines()
    assert (said.code, said.err) == (0, "")
    assert len(lines) == len(tabard("audit", "tail", "--json").rows)
    assert all(line.startswith("<" if form == "syslog" else "{") for line in lines)


def test_to_a_file_with_state(tabard: Any, tmp_path: Path, guard: Guard) -> None:
    """Each run ships what is new."""
    file, state = tmp_path / "out.jsonl", tmp_path / "state"
    command = ("audit", "ship", "--format", "jsonl", "--to", file, "--state", state, "--json")
    [first] = tabard(*command).rows
    assert first["shipped"] == first["entry"] == len(numbers(file))
    [again] = tabard(*command).rows
    assert (again["shipped"], again["entry"]) == (0, first["entry"])
    with pytest.raises(Exception, match="malformed"):
        guard.login("x")
    assert tabard(*command[:-1]).out == f"shipped 1 entries, up to entry {first['entry'] + 1}\n"
    assert numbers(file) == list(range(1, first["entry"] + 2))


def test_after(tabard: Any, tmp_path: Path) -> None:
    """Begins after an entry; with a state file it is how that begins, once."""
    file, state = tmp_path / "out", tmp_path / "state"
    command = ("audit", "ship", "--format", "jsonl", "--to", file)
    assert tabard(*command, "--after", 3).code == 0
    assert numbers(file)[0] == 4
    assert tabard(*command, "--after", 3, "--state", state).code == 0
    said = tabard(*command, "--after", 3, "--state", state)
    assert (said.code, "--after" in said.err) == (2, True)
    said = tabard(*command, "--after", 10**6)
    assert (said.code, "shorter" in said.err) == (2, True)


def test_state_of_something_else(tabard: Any, tmp_path: Path) -> None:
    """A state file belongs to one log, one destination and one format."""
    state = tmp_path / "state"
    command = ("audit", "ship", "--format", "jsonl", "--to", tmp_path / "a", "--state", state)
    assert tabard(*command).code == 0
    kept = state.read_text()
    for form, to in (("ocsf", "a"), ("jsonl", "b")):
        said = tabard("audit", "ship", "--format", form, "--to", tmp_path / to, "--state", state)
        assert (said.code, "another --to or --format" in said.err) == (2, True)
        assert not (tmp_path / "b").exists()
    with Authority.open(tmp_path / "other", trust_domain="acme.example"):
        said = tabard(*command, home=None)
        assert said.code == 2
        said = tabard("--home", tmp_path / "other", *command, home=None)
    assert (said.code, "another log" in said.err) == (2, True)
    assert state.read_text() == kept


def test_state_is_never_another_file(tabard: Any, home: Path, tmp_path: Path) -> None:
    """Neither the database nor anything else that is there is written over."""
    before = (home / "bundle.json").read_bytes() if (home / "bundle.json").exists() else b""
    for place in (home / "state.db", home / "bundle.json"):
        said = tabard(
            "audit", "ship", "--format", "jsonl", "--to", tmp_path / "x", "--state", place
        )
        if place.exists():
            assert (said.code, "not a state file" in said.err) == (2, True)
    if before:
        assert (home / "bundle.json").read_bytes() == before
    assert tabard("audit", "verify").code == 0


@pytest.mark.parametrize("name", ["state.db", "state.db-wal", "new.jsonl"])
def test_never_into_the_home(tabard: Any, home: Path, name: str) -> None:
    """Lines are not added to the database."""
    said = tabard("audit", "ship", "--format", "jsonl", "--to", home / name)
    assert (said.code, "in the home" in said.err) == (2, True)
    assert tabard("audit", "verify").code == 0


def test_nor_to_a_database_elsewhere(
    tabard: Any, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever `$TABARD_STORE` says it is, by whichever name."""
    monkeypatch.setenv("TABARD_STORE", str(home / "state.db"))
    link = tmp_path / "link"
    link.symlink_to(home / "state.db")
    said = tabard("audit", "ship", "--format", "jsonl", "--to", link, home=tmp_path / "empty")
    assert (said.code, "in the home" in said.err) == (2, True)


@pytest.mark.parametrize(
    "options",
    [
        ("--format", "cef", "--to", "-"),
        ("--format", "jsonl", "--to", "gopher://x"),
        ("--format", "jsonl", "--to", "-", "--json"),
        ("--format", "jsonl"),
        ("--to", "-"),
        ("--format", "jsonl", "--to", "-", "--after", "-1"),
        ("--format", "jsonl", "--to", "/no/such/folder/x"),
        ("--format", "jsonl", "--to", "-", "--state", "/no/such/folder/x"),
        ("--format", "otel", "--to", "-"),
    ],
)
def test_unusable_input(tabard: Any, options: tuple[str, ...]) -> None:
    """Exit 2 and a sentence."""
    said = tabard("audit", "ship", *options)
    assert said.code == 2
    assert said.err.startswith("tabard: ")
    assert "Traceback" not in said.err
    assert said.out == ""


def test_collector_away(tabard: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 1, a sentence, and the next run begins where it stopped."""
    monkeypatch.setattr(shipping, "_ATTEMPTS", 1)
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        to = f"tcp://127.0.0.1:{found.getsockname()[1]}"
    state = tmp_path / "state"
    said = tabard("audit", "ship", "--format", "syslog", "--to", to, "--state", state)
    assert said.code == 1
    assert said.err == (
        f"tabard: {to} cannot be reached: Connection refused; entry 1 and later ones were not "
        "shipped, and stay in the log\n"
    )
    assert json.loads(state.read_text())["entry"] == 0


def test_without_the_extra(tabard: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Says what to install."""
    monkeypatch.setitem(
        __import__("sys").modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None
    )
    said = tabard("audit", "ship", "--format", "otel", "--to", "http://127.0.0.1:1")
    assert (said.code, "tabard[otel]" in said.err) == (2, True)


def test_imports_no_telemetry() -> None:
    """What is not asked for is not loaded."""
    import subprocess
    import sys

    code = (
        "import tabard, tabard.cli, sys; "
        "sys.exit(any(m.startswith(('opentelemetry', 'datasette')) for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
