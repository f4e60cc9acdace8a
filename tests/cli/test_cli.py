"""The command line: what it prints, its exit codes, and its answers to bad input."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tabard import AccessDenied, Authority, Guard, ToolCall


def tabard(*arguments: object, home: Path | None = None) -> tuple[int, str, str]:
    """Run the command as a person would; exit code, output, complaints."""
    environment = {**os.environ, "COLUMNS": "250", "NO_COLOR": "1"}
    if home is not None:
        environment["TABARD_HOME"] = str(home)
    done = subprocess.run(
        [sys.executable, "-c", "from tabard.cli import main; main()", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def used(home: Path, authority: Authority, policy_text: str, clock: Any) -> Path:
    """A home in which an allowed and a denied call happened."""
    with Guard.open(home, policy=policy_text, clock=clock) as guard:
        with guard.login(authority.issue("claims-agent"), scope={"claimant_id": "C-1"}):
            guard.admit(ToolCall("policy_lookup", {"policy_no": "POL-123456"})).settle()
            with pytest.raises(AccessDenied):
                guard.admit(ToolCall("policy_lookup", {"policy_no": "SECRET-9"}))
    return home


class TestAgent:
    def test_list(self, used: Path) -> None:
        """Lists every agent, as a table and as JSON lines."""
        code, out, _ = tabard("agent", "list", home=used)
        assert code == 0
        assert "claims-agent" in out
        assert "active" in out
        code, out, _ = tabard("agent", "list", "--json", home=used)
        rows = [json.loads(line) for line in out.splitlines()]
        assert [row["name"] for row in rows] == ["analytics-agent", "claims-agent"]

    def test_home_option_wins(self, used: Path, tmp_path: Path) -> None:
        """`--home` names a home beside the environment's."""
        code, out, _ = tabard("--home", used, "agent", "list", home=tmp_path / "nowhere")
        assert code == 0
        assert "claims-agent" in out

    def test_revoke(self, used: Path, authority: Authority) -> None:
        """Revokes by name, with the reason on record."""
        code, out, _ = tabard("agent", "revoke", "claims-agent", "--reason", "lost", home=used)
        assert code == 0
        assert "is revoked" in out
        assert authority.find("claims-agent").status == "revoked"
        _, out, _ = tabard("audit", "tail", "--json", home=used)
        revoked = [json.loads(line) for line in out.splitlines()]
        assert [r["reason"] for r in revoked if r["type"] == "agent.revoked"] == ["lost"]

    def test_revoke_unknown_and_ambiguous(self, used: Path, authority: Authority) -> None:
        """A name that is not clear is exit 2 and one sentence, and nothing is revoked."""
        authority.register("claims-agent", team="claims", environment="staging")
        code, _, err = tabard("agent", "revoke", "nobody", "--reason", "x", home=used)
        assert (code, "no agent 'nobody' is registered" in err) == (2, True)
        code, _, err = tabard("agent", "revoke", "claims-agent", "--reason", "x", home=used)
        assert (code, "name of 2 agents" in err) == (2, True)
        assert {a.status for a in authority.agents()} == {"active"}

    def test_revoke_without_reason(self, used: Path) -> None:
        """A revocation asks for its reason."""
        code, _, err = tabard("agent", "revoke", "claims-agent", home=used)
        assert (code, "--reason" in err) == (2, True)
        code, _, err = tabard("agent", "revoke", "claims-agent", "--reason", " ", home=used)
        assert (code, "a reason is required" in err) == (2, True)


class TestLevers:
    def test_add_show_issue(self, tmp_path: Path) -> None:
        """Registers an agent, shows it, and prints a token."""
        used = tmp_path / "of-today"  # the command line goes by the real clock
        Authority.open(used, trust_domain="acme.example").close()
        code, out, _ = tabard(
            "agent", "add", "new", "--team", "t", "--environment", "dev", home=used
        )
        assert (code, "team/t/agent/new is registered" in out) == (0, True)
        code, out, _ = tabard("agent", "show", "new", "--json", home=used)
        assert (code, json.loads(out)["team"]) == (0, "t")
        code, out, _ = tabard("agent", "issue", "new", home=used)
        assert code == 0
        assert len(out.split(".")) == 3
        assert len(out.splitlines()) == 1
        code, _, err = tabard("agent", "issue", "new", "--lifetime", "9999", home=used)
        assert (code, "lifetime" in err) == (2, True)
        code, _, err = tabard(
            "agent", "add", "a b", "--team", "t", "--environment", "dev", home=used
        )
        assert (code, "name: expected" in err) == (2, True)

    def test_keys(self, tmp_path: Path) -> None:
        """Makes a key, shows it once, lists it by its id, and takes it back."""
        home = tmp_path / "of-today"
        with Authority.open(home, trust_domain="acme.example") as authority:
            authority.register("a", team="t", environment="dev")
        code, out, _ = tabard("agent", "key", "a", "--days", "30", home=home)
        key = out.strip()
        assert (code, key.startswith("tbk_")) == (0, True)
        code, out, _ = tabard("agent", "keys", "a", home=home)
        assert (code, key[:14] in out, key in out) == (0, True, False)
        assert tabard("token", "revoke", key[:14], "--reason", "r", home=home)[0] == 0
        _, out, _ = tabard("agent", "keys", "a", "--json", home=home)
        assert json.loads(out)["revoked"] is True
        code, _, err = tabard("token", "revoke", key, "--reason", "r", home=home)
        assert (code, "no API key" in err, key in err) == (2, True, False)
        code, _, err = tabard("agent", "key", "a", "--days", "0", home=home)
        assert (code, "lifetime" in err) == (2, True)

    def test_revoke_by_team(self, used: Path, authority: Authority) -> None:
        """A team is banned in one act; a ban of an agent and a team at once is refused."""
        code, _, err = tabard(
            "agent", "revoke", "claims-agent", "--team", "claims", "--reason", "x", home=used
        )
        assert (code, "name an agent, or --team" in err) == (2, True)
        code, _, err = tabard("agent", "revoke", "--reason", "x", home=used)
        assert (code, "name an agent, or --team" in err) == (2, True)
        code, out, _ = tabard(
            "agent", "revoke", "--team", "claims", "--reason", "x", "--json", home=used
        )
        assert (code, json.loads(out)["status"]) == (0, "revoked")
        assert authority.find("analytics-agent").status == "active"

    def test_evict_and_unban(self, used: Path, authority: Authority) -> None:
        """Eviction, ban and unban each say what they did, and leave author and reason."""
        who = ("claims-agent", "--reason", "r", "--author", "ada")
        assert "needs a new credential" in tabard("agent", "evict", *who, home=used)[1]
        assert tabard("agent", "revoke", *who, home=used)[0] == 0
        assert "may get new credentials" in tabard("agent", "unban", *who, home=used)[1]
        code, _, err = tabard("agent", "unban", *who, home=used)
        assert (code, "is not revoked" in err) == (2, True)
        _, out, _ = tabard("audit", "tail", "--json", home=used)
        rows = [json.loads(line) for line in out.splitlines()]
        acts = [(r["type"], r["reason"]) for r in rows if r.get("author") == "ada"]
        assert acts == [(f"agent.{act}", "r") for act in ("evicted", "revoked", "unbanned")]

    def test_token(self, used: Path) -> None:
        """One token is refused by its id; a token in place of its id is an error."""
        code, out, _ = tabard("token", "revoke", "x" * 22, "--reason", "r", home=used)
        assert (code, "is refused everywhere" in out) == (0, True)
        code, _, err = tabard("token", "revoke", "a.b.c", "--reason", "r", home=used)
        assert (code, "expected a token's `jti`" in err) == (2, True)


class TestAudit:
    def test_tail(self, used: Path) -> None:
        """Shows who did what, why it was allowed or denied, and no argument value."""
        code, out, _ = tabard("audit", "tail", home=used)
        assert code == 0
        assert "allow" in out
        assert "deny arg.regex" in out
        assert "claims-agent/lookup" in out
        assert "agent.registered" in out
        assert "writer.open" not in out
        assert "SECRET-9" not in out

    def test_tail_some(self, used: Path) -> None:
        """`-n` limits the lines; `--json` gives the records."""
        code, out, _ = tabard("audit", "tail", "-n", "3", "--json", home=used)
        rows = [json.loads(line) for line in out.splitlines()]
        assert (code, len(rows)) == (0, 3)
        assert [row["type"] for row in rows][-1] == "writer.close"
        code, _, err = tabard("audit", "tail", "-n", "0", home=used)
        assert (code, bool(err)) == (2, True)

    def test_verify(self, used: Path) -> None:
        """A whole log is exit 0, and what was not proven is said."""
        code, out, _ = tabard("audit", "verify", home=used)
        assert code == 0
        assert "verified:" in out
        assert "not proven:" in out
        code, out, _ = tabard("audit", "verify", "--json", home=used)
        assert json.loads(out)["verified"] is True

    def test_verify_tampered(self, used: Path) -> None:
        """A changed log is exit 1 and names the entry."""
        database = sqlite3.connect(used / "state.db")
        database.execute("DROP TRIGGER record_is_final")
        database.execute("UPDATE record SET body = replace(body, 'arg.regex', 'arg.enum!')")
        database.commit()
        database.close()
        code, _, err = tabard("audit", "verify", home=used)
        assert code == 1
        assert "entry 11 was changed" in err
        code, out, _ = tabard("audit", "verify", "--json", home=used)
        assert (code, json.loads(out)["entry"]) == (1, 11)

    def test_control_characters_do_not_reach_the_terminal(
        self, used: Path, authority: Authority
    ) -> None:
        """What somebody wrote into the log does not steer a terminal."""
        authority.revoke("claims-agent", reason="\x1b[2Jgone\nverified: 0")
        _, out, _ = tabard("audit", "tail", home=used)
        assert "\x1b" not in out
        assert "?[2Jgone?verified: 0" in out


class TestBadInput:
    @pytest.mark.parametrize(
        "arguments",
        [("agent", "list"), ("audit", "tail"), ("audit", "verify"),
         ("agent", "revoke", "x", "--reason", "y")],
    )  # fmt: skip
    def test_no_home(self, tmp_path: Path, arguments: tuple[str, ...]) -> None:
        """Without a home: exit 2, one sentence, no traceback, nothing created."""
        code, _, err = tabard(*arguments, home=tmp_path / "nowhere")
        assert code == 2
        assert "nowhere" in err
        assert "Traceback" not in err
        assert not (tmp_path / "nowhere").exists()

    def test_damaged_home(self, home: Path) -> None:
        """A damaged database: exit 2 and one sentence."""
        home.mkdir()
        (home / "state.db").write_bytes(b"x" * 5000)
        for arguments in (("agent", "list"), ("audit", "verify")):
            code, _, err = tabard(*arguments, home=home)
            assert code == 2
            assert "not a database" in err
            assert "Traceback" not in err

    def test_unknown_command(self) -> None:
        """An unknown command: exit 2 and help on what there is."""
        code, _, err = tabard("agnet")
        assert (code, "No such command" in err) == (2, True)

    def test_help_names_every_command(self) -> None:
        """The README's commands are the ones there are."""
        _, out, _ = tabard("--help")
        for noun in ("agent", "audit"):
            assert noun in out
