"""The command line: what it prints, its exit codes, and its answers to bad input."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tabard import AccessDenied, Authority, Guard, ToolCall
from tabard.cli import main


def tabard(*arguments: object, home: Path | None = None) -> tuple[int, str, str]:
    """Run a command in this process; exit code, output, complaints."""
    environment = {"COLUMNS": "250", "NO_COLOR": "1"}
    if home is not None:
        environment["TABARD_HOME"] = str(home)
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.dict(os.environ, environment),
        mock.patch.object(sys, "argv", ["tabard", *map(str, arguments)]),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
    return code, out.getvalue(), err.getvalue()


def run_into_closed_pipe(*arguments: str, home: Path) -> tuple[int, str]:
    """Run a command whose output nobody reads; its exit code and complaints."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        run = subprocess.run(
            [sys.executable, "-c", "from tabard.cli import main; main()", *arguments],
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env={**os.environ, "TABARD_HOME": str(home)},
        )
    finally:
        os.close(writer)
    return run.returncode, run.stderr


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

    def test_empty_home_option(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, authority: Authority
    ) -> None:
        """An empty `--home` is the default home, like an empty variable, and not this folder."""
        monkeypatch.chdir(tmp_path)
        init = ("init", "--trust-domain", "acme.example")
        assert tabard("--home", "", *init, home=tmp_path / "nowhere")[0] == 0
        assert (tmp_path / ".tabard" / "state.db").exists()
        assert not (tmp_path / "state.db").exists()
        assert tabard("--home", "", "agent", "list", home=tmp_path / "nowhere")[0] == 0
        assert tabard("agent", "list", home=Path())[0] == 2  # the folder itself can be said

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

    @pytest.mark.parametrize("lines", ["9223372036854775808", "1" * 400, "0", "-1"])
    def test_tail_too_many(self, used: Path, lines: str) -> None:
        """A number that is none of lines is one sentence."""
        code, _, err = tabard("audit", "tail", "-n", lines, home=used)
        assert (code, "--lines" in err, "inside tabard" in err) == (2, True, False)

    @pytest.mark.parametrize(
        "arguments",
        [("audit", "tail"), ("audit", "tail", "--json"), ("--help",), ("bundle", "show")],
    )
    def test_reader_that_has_gone(self, used: Path, arguments: tuple[str, ...]) -> None:
        """Who closes a pipe has seen enough: exit 0, and no complaint."""
        run = run_into_closed_pipe(*arguments, home=used)
        assert run == (0, "")

    def test_reader_that_has_gone_from_a_failure(self, used: Path) -> None:
        """A refusal stays one, whether or not its output is read."""
        code, err = run_into_closed_pipe("agent", "show", "nobody", home=used)
        assert (code, "no agent 'nobody'" in err) == (2, True)

    @pytest.mark.parametrize("command", [("approval", "show"), ("bundle", "export")])
    def test_text_that_is_no_utf8(self, used: Path, command: tuple[str, ...]) -> None:
        """Half a character, as a shell passes it on, is one sentence."""
        code, _, err = tabard(*command, "\udcff", home=used)
        assert (code, err.strip()) == (2, "tabard: what was typed is not UTF-8 text")

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


class TestCredentials:
    @pytest.fixture
    def live(self, tmp_path: Path) -> Path:
        """A home by the real clock: a command asks no other."""
        place = tmp_path / "live"
        with Authority.open(place, trust_domain="acme.example") as authority:
            authority.register("claims-agent", team="claims", environment="prod")
        return place

    @pytest.mark.parametrize(
        ("arguments", "kind"),
        [
            (["issue"], "agent+jwt"),
            (["issue", "--profile", "jwt-svid"], "jwt-svid"),
            (["key"], "api-key"),
            (["rotate"], "api-key"),
            (["join"], "join-token"),
        ],
    )
    def test_every_kind_is_made_and_inspected(
        self, live: Path, tmp_path: Path, arguments: list[str], kind: str
    ) -> None:
        """What one command hands out, another looks at, again and again, and never prints."""
        code, out, _ = tabard("agent", arguments[0], "claims-agent", *arguments[1:], home=live)
        assert code == 0
        credential = out.strip()
        file = tmp_path / "credential"
        file.touch(mode=0o600)
        file.write_text(credential)
        for given in (credential, file, file):
            code, out, _ = tabard("token", "inspect", given, "--json", home=live)
            found = json.loads(out)
            assert (code, found["valid"], found["kind"]) == (0, True, kind)
            assert found["subject"].endswith("/agent/claims-agent")
            assert credential[-30:] not in out
        code, out, _ = tabard("token", "inspect", file, home=live)
        assert "ok: it" in out
        code, out, _ = tabard("token", "revoke", found["id"], "--reason", "x", home=live)
        assert code == 0
        code, out, _ = tabard("token", "inspect", file, "--json", home=live)
        assert (code, json.loads(out)["code"]) == (1, "token_revoked")

    def test_svid(self, live: Path, tmp_path: Path) -> None:
        """A certificate and key in a file for its owner only."""
        file = tmp_path / "svid.pem"
        code, out, _ = tabard("agent", "svid", "claims-agent", "--out", file, home=live)
        assert code == 0
        assert "BEGIN" not in out
        assert file.stat().st_mode & 0o777 == 0o600
        code, out, _ = tabard("token", "inspect", file, "--json", home=live)
        assert (code, json.loads(out)["kind"]) == (0, "x509-svid")

    def test_standard_input_and_environment(self, live: Path) -> None:
        """`-` reads standard input; without an argument `$TABARD_CREDENTIAL` is looked at."""
        _, token, _ = tabard("agent", "issue", "claims-agent", home=live)
        command = [sys.executable, "-c", "from tabard.cli import main; main()", "token", "inspect"]
        environment = {**os.environ, "TABARD_HOME": str(live)}
        piped = subprocess.run([*command, "-"], input=token, text=True, check=False,
                               capture_output=True, env=environment)  # fmt: skip
        named = subprocess.run(command, text=True, check=False, capture_output=True,
                               env={**environment, "TABARD_CREDENTIAL": token.strip()})  # fmt: skip
        assert piped.returncode == named.returncode == 0

    def test_keys_are_listed_by_their_ids(self, live: Path) -> None:
        """Three kinds of key, and the secret of none."""
        secrets = [tabard("agent", c, "claims-agent", home=live)[1] for c in ("key", "join")]
        _, out, _ = tabard("agent", "keys", "claims-agent", "--json", home=live)
        rows = [json.loads(line) for line in out.splitlines()]
        assert {row["kind"] for row in rows} == {"key", "join"}
        assert not any(secret.strip()[15:] in out for secret in secrets)

    @pytest.mark.parametrize(
        ("arguments", "code", "message"),
        [
            (("token", "inspect"), 2, "name a file, `-`, or set $TABARD_CREDENTIAL"),
            (("token", "inspect", "./missing"), 2, "no readable credential"),
            (("token", "revoke", "x", "--reason", "y"), 2, "expected a token's `jti`"),
            (("token", "revoke", "x" * 22), 2, "Missing option"),
            (("agent", "issue", "claims-agent", "--profile", "x"), 2, "profile: expected"),
            (("agent", "svid", "claims-agent"), 2, "Missing option"),
            (("agent", "svid", "claims-agent", "--out", "/nowhere/x"), 2, "cannot write"),
            (("agent", "join", "claims-agent", "--lifetime", "0"), 2, "lifetime: expected"),
            (("agent", "rotate", "claims-agent", "--grace", "-1"), 2, "grace: expected"),
            (("agent", "rotate", "ghost"), 2, "no agent 'ghost' is registered"),
            (("bundle", "kill", "x", "--reason", "y"), 2, "no key 'x' in the trust bundle"),
            (("bundle", "trust", "other.example", "missing.json"), 2, "cannot be read"),
            (("bundle", "trust", "other.example", "http://x/y"), 2, "expected https://"),
            (("bundle", "trust", "acme.example", "x"), 2, "this home's own trust domain"),
            (("bundle", "distrust", "other.example", "--reason", "x"), 2, "is not trusted here"),
            (("bundle", "export", "other.example"), 2, "is not trusted here"),
        ],
    )
    def test_misuse(self, live: Path, arguments: tuple[str, ...], code: int, message: str) -> None:
        """One clear sentence each, and the exit code of unusable input."""
        found, _, err = tabard(*arguments, home=live)
        assert (found, message in err) == (code, True), err
        assert "Traceback" not in err


class TestBundle:
    def test_show_rotate_kill(self, home: Path, authority: Authority) -> None:
        """The keys of a home, their states, and one that is trusted no more."""
        _, out, _ = tabard("bundle", "rotate", "--author", "ada", home=home)
        assert out.count("retiring") == out.count("active") == 2
        _, out, _ = tabard("bundle", "show", "--json", home=home)
        rows = [json.loads(line) for line in out.splitlines()]
        [old] = [
            r["kid"] for r in rows if (r.get("use"), r.get("state")) == ("jwt-svid", "retiring")
        ]
        assert old in rows[0]["keys"]
        code, _, _ = tabard("bundle", "kill", old, "--reason", "stolen", home=home)
        assert code == 0
        _, out, _ = tabard("bundle", "show", "--json", home=home)
        assert old not in json.loads(out.splitlines()[0])["keys"]

    def test_export_and_trust(self, home: Path, authority: Authority, tmp_path: Path) -> None:
        """What one home exports, another trusts."""
        _, exported, _ = tabard("bundle", "export", home=home)
        (tmp_path / "acme.json").write_text(exported)
        other = tmp_path / "other"
        Authority.open(other, trust_domain="other.example").close()
        code, out, _ = tabard("bundle", "trust", "acme.example", tmp_path / "acme.json", home=other)
        assert code == 0
        assert "1 keys and 1 authorities" in out
        code, _, err = tabard("bundle", "trust", "acme.example", tmp_path / "acme.json", home=other)
        assert (code, "is trusted already" in err) == (2, True)
        again = ("bundle", "trust", "acme.example", tmp_path / "acme.json", "--replace")
        assert tabard(*again, home=other)[0] == 0
        foreign = ("agent", "add", "x", "--team", "t", "--environment", "e", "--spiffe-id")
        assert tabard(*foreign, "spiffe://acme.example/x", home=other)[0] == 0
        assert tabard(*foreign, "spiffe://other.example/x", home=other)[0] == 2
        _, out, _ = tabard("bundle", "export", "acme.example", home=other)
        assert json.loads(out) == json.loads(exported)
        code, _, _ = tabard("bundle", "distrust", "acme.example", "--reason", "over", home=other)
        assert code == 0
        _, out, _ = tabard(*again[:-1], home=other)
        assert "0 keys and 0 authorities" in out
        _, out, _ = tabard(*again, "--go-back", home=other)
        assert "1 keys and 1 authorities" in out
