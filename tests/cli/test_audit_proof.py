"""`tabard audit`: who made a call, and the proof of it, as a person types it."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tabard import Authority, Guard, Session, ToolCall
from tabard.audit import independent_verifier
from tabard.central import Policies

ALLOWED = ToolCall("claims_db.query", {"table": "claims", "claimant_id": "C-1"}, call_id="fw-1")


@pytest.fixture
def call(guard: Guard, session: Session) -> str:
    """A call that ran, one that was refused, and the log closed."""
    with guard.admit(ALLOWED, session=session) as permit:
        permit.settle({"rows": 2}, provider_id="chatcmpl-123")
    with pytest.raises(Exception, match="no_grant"):
        guard.admit(ToolCall("drop_tables", call_id="fw-2"), session=session)
    session.close()
    guard.close()
    return permit.call


class TestWho:
    @pytest.mark.parametrize("name", ["call", "fw-1", "chatcmpl-123", "entry"])
    def test_by_any_of_its_names(self, tabard: Any, call: str, guard: Guard, name: str) -> None:
        """tabard's, the framework's and the provider's id, and the number of the record."""
        if name == "entry":
            rows = tabard("audit", "tail", "--action", "claims_db.query", "--json").rows
            name = str(rows[0]["index"])
        answer = tabard("audit", "who", call if name == "call" else name, "--json")
        [row] = answer.rows
        assert row["agent"].endswith("/claims-agent")
        assert (row["decision"], row["rule"]) == ("allow (ok)", "claims-agent/claims-read")
        assert (row["outcome"], row["provider's id"]) == ("ok", "chatcmpl-123")
        assert len(row["entries"]) == 2
        text = tabard("audit", "who", call).out
        assert "claims-agent" in text
        assert "sealed by the checkpoint" in text

    def test_by_tool_and_time(self, tabard: Any, call: str) -> None:
        rows = tabard("audit", "who", "--tool", "drop_tables", "--json").rows
        assert [row["outcome"] for row in rows] == ["did not run"]
        rows = tabard("audit", "who", "--tool", "drop_*", "--json").rows
        assert [row["outcome"] for row in rows] == ["did not run"]
        asked = ("audit", "who", "--tool", "drop_tables", "--until", "2020-01-01", "--json")
        assert tabard(*asked).code == 2

    @pytest.mark.parametrize(
        "typed",
        [(), ("x", "--tool", "y"), ("no-such-call",), ("99999",), ("9" * 26,), ('"',), ("\\",),
         ("é",), ("--tool", "t", "--since", "yesterday")],
    )  # fmt: skip
    def test_misuse(self, tabard: Any, call: str, typed: tuple[str, ...]) -> None:
        answer = tabard("audit", "who", *typed)
        assert (answer.code, answer.out) == (2, "")
        assert len(answer.err.splitlines()) == 1


class TestShowAndTail:
    def test_show(self, tabard: Any, call: str) -> None:
        [row] = tabard("audit", "show", "4", "--json").rows
        assert row["index"] == 4
        assert "leaf" in tabard("audit", "show", "4").out
        assert tabard("audit", "show", "999").code == 2
        assert tabard("audit", "show", "0").code == 2
        answer = tabard("audit", "show", "9" * 20)
        assert (answer.code, "please report it" in answer.err) == (2, False)

    def test_narrow_terminal(self, tabard: Any, call: str, monkeypatch: Any) -> None:
        """No word is cut in two where a table has not the room; the title counts what is shown."""
        monkeypatch.setattr("tabard.cli.output._ROOMY", 1000)
        lines = tabard("audit", "tail", "-n", "6").out.splitlines()
        shown = [row for row in tabard("audit", "tail", "-n", "6", "--json").rows
                 if not row["type"].startswith("writer.")]  # fmt: skip
        assert lines[0].startswith(f"{len(shown)} among the latest 6 of ")
        assert len(lines) == 1 + len(shown)
        assert any("tool drop_tables  deny no_grant  no grant names this tool" in x for x in lines)

    @pytest.mark.parametrize(
        ("typed", "count"),
        [
            (("--agent", "claims-agent", "--decision", "deny"), 1),
            (("--decision", "no_grant"), 1),
            (("--decision", "allow"), 1),
            (("--action", "claims_db.query"), 2),
            (("--action", "claims_db.*"), 2),
            (("--action", "*"), 3),
            (("--action", "claims?db.query"), 0),
            (("--action", "laims_db.*"), 0),
            (("--agent", "nobody"), 0),
            (("--since", "2099-01-01"), 0),
            (("--until", "1999-01-01"), 0),
            (("--since", "2027-01-01", "--action", "drop_tables"), 1),
        ],
    )
    def test_filters(self, tabard: Any, call: str, typed: tuple[str, ...], count: int) -> None:
        assert len(tabard("audit", "tail", *typed, "--json").rows) == count

    def test_session(self, tabard: Any, call: str, session: Session) -> None:
        rows = tabard("audit", "tail", "--session", session.id, "-n", "100", "--json").rows
        assert [row["sn"] for row in rows] == list(range(5))

    def test_follow(self, home: Path, guard: Guard, session: Session) -> None:
        """Records are shown as they are written, until somebody interrupts."""
        process = subprocess.Popen(
            [sys.executable, "-m", "tabard", "--home", str(home), "audit", "tail", "-f", "--json",
             "--action", "claims_db.query"],
            stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        assert process.stdout is not None
        try:
            with guard.admit(ALLOWED, session=session) as permit:
                pass
            shown = [json.loads(process.stdout.readline()) for _ in range(2)]
            # Another one, so that it is certain that it follows by now.
            guard.admit(ALLOWED, session=session)
            process.stdout.readline()
        finally:
            process.send_signal(2)
            process.wait(20)
            process.stdout.close()
        assert shown[0]["id"] == permit.call == shown[1]["call"]
        assert process.returncode == 0


class TestProof:
    def export(self, tabard: Any, path: Path, *more: str) -> tuple[Path, str]:
        [row] = tabard("audit", "export", "--out", path, *more, "--json").rows
        return path, row["key"]

    def test_end_to_end(self, tabard: Any, call: str, tmp_path: Path, home: Path) -> None:
        """Seal, export, verify elsewhere, change a byte, and see it found."""
        note = tabard("audit", "checkpoint")
        assert note.code == 0
        assert "private key lies in the home" in note.err
        kept = tmp_path / "kept.note"
        kept.write_text(note.out)
        path, key = self.export(tabard, tmp_path / "log.jsonl")
        assert tabard("audit", "key").out.strip() == key
        good = tabard("audit", "verify", path, "--key", key, home=None)
        assert good.code == 0
        assert "not proven: That whoever holds the log's key" in good.out
        good = tabard("audit", "verify", path, "--key", home / "log.vkey", "--known", kept)
        assert "whoever holds" not in good.out
        known = tabard("audit", "verify", path, "--key", key, "--known", home / "checkpoints.log")
        assert known.code == 0
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        bad = tabard("audit", "verify", path, "--key", key)
        assert bad.code == 1
        assert "entry" in bad.err
        [row] = tabard("audit", "verify", path, "--key", key, "--json").rows
        assert row["verified"] is False

    def test_session_and_range(
        self, tabard: Any, call: str, tmp_path: Path, session: Session
    ) -> None:
        path, key = self.export(tabard, tmp_path / "s.jsonl", "--session", session.id)
        [row] = tabard("audit", "verify", path, "--key", key, "--json").rows
        assert (row["verified"], row["session"]) == (True, session.id)
        path, key = self.export(tabard, tmp_path / "r.jsonl", "--from", "3", "--to", "5")
        [row] = tabard("audit", "verify", path, "--key", key, "--json").rows
        assert row["first"] == 3

    def test_home(self, tabard: Any, call: str, tmp_path: Path, home: Path) -> None:
        """The home itself: never without what it does not show, and with evidence it shows more."""
        kept = tmp_path / "kept.note"
        kept.write_text(tabard("audit", "checkpoint").out)
        [row] = tabard("audit", "verify", "--json").rows
        assert any("roll it back" in limit for limit in row["not_proven"])
        assert "not proven: That whoever can write to the store" in tabard("audit", "verify").out
        key = home / "log.vkey"
        [row] = tabard("audit", "verify", "--key", key, "--known", kept, "--json").rows
        assert row["compared_with"] == [row["sealed"]]
        assert row["not_proven"]
        assert not any("roll it back" in limit for limit in row["not_proven"])
        other = tabard("witness", "key", "--key", tmp_path / "o.pem", "--name", "o.example").out
        assert tabard("audit", "verify", "--witness", other.strip()).code == 1

    def test_part(self, tabard: Any, call: str, tmp_path: Path, home: Path) -> None:
        """A part says where it ends, and a newer checkpoint accuses nobody."""
        tabard("audit", "checkpoint")
        with Authority.open(home) as authority:
            authority.register("another", team="t", environment="prod")
        kept = tmp_path / "kept.note"
        kept.write_text(tabard("audit", "checkpoint").out)
        path = tmp_path / "part.jsonl"
        done = tabard("audit", "export", "--out", path, "--from", "2", "--to", "3")
        assert "(the first checkpoint from entry 3 on)" in done.out
        _, key = self.export(tabard, tmp_path / "log.jsonl")
        answer = tabard("audit", "verify", path, "--key", key, "--known", kept)
        assert (answer.code, answer.err) == (0, "")
        assert "a part that ends before the log does" in answer.out
        assert "not proven: That the checkpoints of up to" in answer.out

    def test_misuse(self, tabard: Any, call: str, tmp_path: Path, home: Path) -> None:
        """Each is one sentence, and exit code 2."""
        path, key = self.export(tabard, tmp_path / "log.jsonl")
        nothing = tmp_path / "nothing"
        nothing.write_text("x\n")
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        for typed in (
            ("verify", path),
            ("verify", path, "--key", "nonsense"),
            ("verify", tmp_path / "missing", "--key", key),
            ("verify", nothing, "--key", key),
            ("verify", path, "--key", key, "--known", tmp_path / "missing"),
            ("verify", path, "--key", key, "--known", nothing),
            ("verify", path, "--key", key, "--witness", "nonsense"),
            ("verify", path, "--key", key, "-k", "1"),
            ("verify", "--key", "nonsense"),
            ("verify", "--known", nothing),
            ("verify", "--known", path),
            ("verify", "--witness", key),
            ("verify", "-k", "1"),
            ("verify", path, "--key", key, "--known", path),
            ("verify", path, "--key", key, "--witness", key),
            ("verify", pipe, "--key", key),
            ("verify", path, "--key", key, "--known", pipe),
            ("export", "--out", path),
            ("export", "--out", tmp_path / "no" / "such" / "folder"),
            ("export", "--out", tmp_path / "x", "--from", "999"),
            ("export", "--out", tmp_path / "x", "--session", "none"),
            ("checkpoint", "--key", nothing),
            ("checkpoint", "--witness", "nonsense"),
            ("checkpoint", "--witness", f"http://[::1={key}"),
            ("checkpoint", "--witness", f"http://127.0.0.1:1={key}"),
            ("checkpoint", "--checkpoints", tmp_path / "no" / "such" / "folder"),
            ("seal", "--every", "0"),
            ("show", "nonsense"),
        ):
            answer = tabard("audit", *typed)
            assert (answer.code, answer.out) == (2, ""), typed
            assert len(answer.err.strip().splitlines()) == 1, (typed, answer.err)
        assert not (tmp_path / "x").exists()

    def test_independent_verifier_as_a_command(
        self,
        tabard: Any,
        call: str,
        tmp_path: Path,
        home: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: Any,
    ) -> None:
        """The second verifier's exit codes and words."""
        path, key = self.export(tabard, tmp_path / "log.jsonl")
        for typed, code in (
            ([path, "--key", key], 0),
            ([path, "--key", "x"], 2),
            ([path], 2),
            ([tmp_path / "missing", "--key", key], 2),
            ([path, "--key", home / "log.vkey"], 0),
            ([path, "--key", key, "--known", home / "checkpoints.log"], 0),
            ([path, "--key", key, "--known", path], 2),
            ([path, "--key", key, "--witness", key], 2),
            ([path, "--key", key, "-k", "1"], 2),
        ):
            monkeypatch.setattr(sys, "argv", ["verifier", *map(str, typed)])
            assert independent_verifier.main() == code
        path.write_bytes(path.read_bytes().replace(b"allow", b"denyy", 1))
        monkeypatch.setattr(sys, "argv", ["verifier", str(path), "--key", key])
        assert independent_verifier.main() == 1
        assert "tampered with" in capsys.readouterr().err

    def test_sealer_as_a_process(
        self, home: Path, authority: Authority, policy_text: str, clock: Any, tmp_path: Path
    ) -> None:
        """In production the key lies elsewhere, and a process of its own seals."""
        elsewhere = tmp_path / "sealer"
        elsewhere.mkdir(mode=0o700)
        (home / "log" / "key.pem").rename(elsewhere / "key.pem")
        with Guard.open(home, policy=policy_text, clock=clock) as guard:
            session = guard.login(authority.issue("claims-agent"), scope={"claimant_id": "C-1"})
            process = subprocess.Popen(
                [sys.executable, "-m", "tabard", "--home", str(home), "audit", "seal", "--json",
                 "--key", str(elsewhere / "key.pem"), "--every", "0.1"],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )  # fmt: skip
            assert process.stdout is not None
            try:
                sizes = [json.loads(process.stdout.readline())["size"]]
                guard.admit(ALLOWED, session=session)
                sizes.append(json.loads(process.stdout.readline())["size"])
            finally:
                process.send_signal(2)
                process.wait(20)
                process.stdout.close()
        assert sizes[1] > sizes[0]


class TestWitness:
    def test_serve_and_seal(self, tabard: Any, home: Path, call: str, tmp_path: Path) -> None:
        """A witness as a process, a checkpoint it has cosigned, an export that needs it."""
        folder = tmp_path / "witness"
        folder.mkdir(mode=0o700)
        options = ("--key", str(folder / "key.pem"), "--name", "witness.example/w1")
        [row] = tabard("witness", "key", *options, "--json", home=None).rows
        log = (home / "log.vkey").read_text().strip()
        process = subprocess.Popen(
            [sys.executable, "-m", "tabard", "witness", "serve", *options, "--log", log,
             "--state", str(folder / "state.db"), "--port", "0", "--json"],
            stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        assert process.stdout is not None
        try:
            told = json.loads(process.stdout.readline())
            assert told["key"] == row["key"]
            with Authority.open(home) as authority:
                authority.register("another", team="t", environment="prod")
            address = f"{told['url']}={told['key']}"
            answer = tabard("audit", "checkpoint", "--witness", address, "--json")
            assert answer.code == 0, answer.err
            [sealed] = answer.rows
            assert "witness.example/w1" in sealed["note"]
        finally:
            process.send_signal(2)
            process.wait(20)
            process.stdout.close()
        path = tmp_path / "log.jsonl"
        tabard("audit", "export", "--out", path)
        good = tabard("audit", "verify", path, "--key", log, "--witness", told["key"])
        assert "witnessed by witness.example/w1" in good.out
        other = tabard("witness", "key", "--key", folder / "o.pem", "--name", "o.example").out
        assert tabard("audit", "verify", path, "--key", log, "--witness", other.strip()).code == 1

    @pytest.mark.parametrize(
        "typed",
        [("key", "--name", "a b"), ("key", "--name", "a+b"), ("key", "--name", ""),
         ("serve", "--name", "w", "--log", "x", "--state", "s"),
         ("serve", "--name", "w", "--log", "x", "--state", "s", "--port", "70000")],
    )  # fmt: skip
    def test_misuse(self, tabard: Any, tmp_path: Path, typed: tuple[str, ...]) -> None:
        folder = tmp_path / "w"
        folder.mkdir(mode=0o700)
        answer = tabard("witness", *typed, "--key", folder / "k.pem", home=None)
        assert (answer.code, answer.out) == (2, "")


class TestPeople:
    POLICY = (
        "version: 1\ntools: {crm.read: {capture: {args: [customer], result: true}}}\n"
        "agents: {claims-agent: {grants: [{tools: [crm.read], unknown_args: allow}]}}\n"
    )

    @pytest.fixture
    def policy_text(self) -> str:
        return self.POLICY

    @pytest.fixture
    def kept(self, guard: Guard, authority: Authority) -> str:
        session = guard.login(authority.issue("claims-agent"), on_behalf_of="jane")
        with guard.admit(ToolCall("crm.read", {"customer": "Doe"}), session=session) as permit:
            permit.settle("found")
        guard.close()
        return permit.call

    def test_payload_and_erase(self, tabard: Any, kept: str) -> None:
        """What is kept can be read, which is on record, and is gone once the user is erased."""
        [row] = tabard("audit", "payload", kept, "--reason", "complaint 7", "--json").rows
        assert (row["arguments"], row["result"]) == ({"customer": "Doe"}, "found")
        assert "Doe" in tabard("audit", "payload", kept, "--reason", "x").out
        rows = tabard("audit", "tail", "--json").rows
        [*_, read] = [row for row in rows if row["type"] == "payload.read"]
        assert read["read"]["call"] == kept
        [row] = tabard("audit", "erase", "--subject", "jane", "--reason", "Art. 17", "--json").rows
        assert row["payloads"] == 2
        assert tabard("audit", "payload", kept, "--reason", "x").code == 2
        assert tabard("audit", "erase", "--subject", "jane", "--reason", "again").code == 2
        assert tabard("audit", "verify").code == 0

    def test_erase_one_call(self, tabard: Any, guard: Guard, authority: Authority) -> None:
        """What was kept of a call for nobody in particular can be erased by the call's id."""
        session, calls = guard.login(authority.issue("claims-agent")), []
        for name in ("Doe", "Roe"):
            with guard.admit(ToolCall("crm.read", {"customer": name}), session=session) as one:
                one.settle("found")
            calls.append(one.call)
        typed = ("audit", "erase", "--call", calls[0], "--reason", "x")
        assert tabard(*typed, "--subject", "jane").code == 2
        [row] = tabard(*typed, "--json").rows
        assert row == {"call": calls[0], "payloads": 2}
        assert tabard(*typed).code == 2
        assert tabard("audit", "payload", calls[0], "--reason", "x").code == 2
        [row] = tabard("audit", "payload", calls[1], "--reason", "x", "--json").rows
        assert row["arguments"] == {"customer": "Roe"}
        rows = tabard("audit", "tail", "--json").rows
        [record] = [row["erased"] for row in rows if row["type"] == "payload.erased"]
        assert record == {"call": calls[0], "payloads": 2}
        assert tabard("audit", "verify").code == 0

    @pytest.mark.parametrize(
        "typed",
        [
            ("audit", "payload", "{}", "--reason", "x"),
            ("audit", "payload", "none", "--reason", "x"),
            ("audit", "erase", "--subject", "jane", "--reason", "x"),
            ("audit", "erase", "--call", "{}", "--reason", "x"),
            ("audit", "prune", "--before", "2099-01-01", "--reason", "x", "--yes"),
            ("policy", "apply", "policy.yaml", "--yes"),
            ("policy", "rollback"),
            ("agent", "add", "bob", "--team", "t", "--environment", "e"),
            ("agent", "issue", "claims-agent"),
            ("agent", "key", "claims-agent"),
            ("agent", "evict", "claims-agent", "--reason", "x"),
        ],
    )
    def test_no_command_leaves_its_writer_open(
        self, tabard: Any, kept: str, authority: Authority, tmp_path: Path, home: Path,
        monkeypatch: Any, typed: tuple[str, ...],
    ) -> None:  # fmt: skip
        """A command that writes says that it is done; else each verification would name it."""
        monkeypatch.chdir(tmp_path)
        (tmp_path / "policy.yaml").write_text(self.POLICY)
        for before in (self.POLICY + "# 1", self.POLICY + "# 2"):
            with Policies.open(home) as policies:
                policies.apply(before)
        tabard("audit", "checkpoint")
        tabard(*(word.format(kept) for word in typed))
        with sqlite3.connect(home / "state.db") as database:
            rows = database.execute("SELECT body ->> '$.w', body ->> '$.type' FROM record")
            last = dict(rows.fetchall())
        last.pop(authority._store._chain.writer, None)  # type: ignore[attr-defined]
        assert set(last.values()) == {"writer.close"}

    def test_prune(self, tabard: Any, kept: str) -> None:
        tabard("audit", "checkpoint")
        typed = ("audit", "prune", "--before", "2099-01-01", "--reason", "test")
        assert tabard(*typed, "--json").code == 2
        refused = tabard(*typed, stdin="n\n")
        assert refused.code == 1
        assert "six months" in refused.err
        [row] = tabard(*typed, "--yes", "--json").rows
        assert row["records"] > 0
        answer = tabard("audit", "verify", "--json")
        assert answer.rows[0]["pruned"] == row["pruned"]
        assert f"{row['pruned']} of them pruned" in tabard("audit", "verify").out
        assert tabard(*typed, "--yes").code == 2
        assert tabard("audit", "prune", "--before", "soon", "--reason", "x").code == 2


def test_sealing_goes_on_while_the_log_grows(
    tabard: Any, home: Path, guard: Guard, session: Session
) -> None:
    """`audit verify` holds at any moment of a busy log."""
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            guard.admit(ALLOWED, session=session)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(8):
            assert tabard("audit", "verify").code == 0
    finally:
        stop.set()
        thread.join()
