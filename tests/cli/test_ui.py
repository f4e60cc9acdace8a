"""The viewer: a real Datasette over HTTP, on a snapshot with nothing in it that should stay out."""

from __future__ import annotations

import http.cookiejar
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tabard import AccessDenied, Authority, Guard, ToolCall
from tabard.audit.snapshot import write_snapshot
from tabard.store import SqliteStore

POLICY = """\
version: 1
tools:
  claims_db.query: {capture: {args: [q], result: true}}
agents:
  claims-agent:
    match: {team: claims}
    grants: [{id: g, tools: ["**"], unknown_args: allow}]
"""
CANARY = "c4nary-value"


@dataclass
class Ui:
    """A viewer that runs."""

    process: subprocess.Popen[str]
    url: str
    temporary: Path
    secrets: list[str]
    jar: http.cookiejar.CookieJar = field(default_factory=http.cookiejar.CookieJar)

    @property
    def base(self) -> str:
        return self.url.partition("/-/")[0]

    @property
    def port(self) -> int:
        return int(self.base.rpartition(":")[2])

    def ask(self, path: str, *, inside: bool = True, data: bytes | None = None) -> tuple[int, str]:
        handlers = [urllib.request.HTTPCookieProcessor(self.jar)] if inside else []
        opener = urllib.request.build_opener(*handlers)
        try:
            with opener.open(self.base + path, data, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def query(self, sql: str) -> tuple[int, str]:
        return self.ask("/log.json?" + urllib.parse.urlencode({"sql": sql, "_shape": "array"}))


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    """The command itself, over a home with users, keys and secrets."""
    folder = tmp_path_factory.mktemp("ui")
    home, temporary = folder / "home", folder / "tmp"
    temporary.mkdir()
    with Authority.open(home, trust_domain="acme.example") as authority:
        authority.register("claims-agent", team="claims", environment="prod")
        token = authority.issue("claims-agent")
        key = authority.create_key("claims-agent")
    with Guard.open(home, policy=POLICY) as guard:
        with guard.login(token, on_behalf_of=CANARY) as session:
            for name in ("claims_db.query", "<script>alert(1)</script>", "\u202egnp\x1b[31m"):
                with guard.admit(ToolCall(name, {"q": CANARY}), session=session):
                    pass
        with pytest.raises(AccessDenied):
            guard.login("not a token")
    run = "from tabard.cli import main; main()"
    command = [sys.executable, "-c", run, "--home", str(home), "audit", "ui"]
    process = subprocess.Popen(
        [*command, "--port", "0", "--no-open", "--json"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary), "TABARD_CREDENTIAL": token},
    )
    assert process.stdout is not None
    started = json.loads(process.stdout.readline())
    made = Ui(process, started["url"], temporary, secrets_of(home, token, key))
    yield made
    if process.poll() is None:
        process.kill()
    process.wait()
    process.stdout.close()


def secrets_of(home: Path, *more: str) -> list[str]:
    with sqlite3.connect(home / "state.db") as database:
        found = [row[0] for row in database.execute("SELECT value FROM meta WHERE name = 'secret'")]
        found += [row[0].hex() for row in database.execute("SELECT key FROM subject")]
        found += [row[0].hex() for row in database.execute("SELECT digest FROM api_key")]
        assert database.execute("SELECT count(*) FROM payload").fetchone() != (0,)
    database.close()
    return [*found, *more, CANARY]


def test_stranger_gets_nothing(ui: Ui) -> None:
    """Without the address that was printed nobody sees anything, nor with a wrong one."""
    for path in ("/", "/log", "/log/entry", "/log/entry.json", "/log.json?sql=select+1", "/log.db",
                 "/-/dashboards", "/-/dashboards/agents", "/-/databases.json", "/-/metadata.json",
                 "/log/session?session=x", "/-/auth-token?token=wrong"):  # fmt: skip
        code, text = ui.ask(path, inside=False)
        assert code == 403, path
        assert "claims" not in text


@pytest.fixture
def inside(ui: Ui) -> Ui:
    """One that has let us in: the address works once."""
    if not len(ui.jar):
        code, _ = ui.ask(ui.url.removeprefix(ui.base))
        assert code == 200
        assert ui.ask(ui.url.removeprefix(ui.base), inside=False)[0] == 403
    return ui


def test_shows_the_log(inside: Ui) -> None:
    """Entries, summaries, facets, queries and the dashboard."""
    for name in ("timeline_per_hour", "denials_by_code", "calls_by_agent_and_tool"):
        code, text = inside.ask(f"/log/{name}.json?_shape=array")
        assert code == 200
        assert json.loads(text), name
    assert inside.ask("/log/spend_by_agent.json")[0] == 200
    code, page = inside.ask("/log/entry")
    assert code == 200
    assert "claims_db.query" in page
    assert "<script>alert(1)" not in page
    assert "\u202e" not in page
    assert "\x1b" not in page
    rows = json.loads(inside.ask("/log/entry.json?_shape=array&_size=max")[1])
    assert [r["entry"] for r in rows] == list(range(len(rows), 0, -1))
    code, page = inside.ask("/-/dashboards/agents")
    assert code == 200
    assert "Why calls were refused" in page
    for query in ("session?session=x", "refused", "without_outcome"):
        assert inside.ask(f"/log/{query}")[0] == 200


def test_dashboard_queries_run(inside: Ui) -> None:
    """Each chart's query answers."""
    from tabard.audit.viewer import _CHARTS

    for chart in _CHARTS.values():
        assert inside.query(chart["query"])[0] == 200


def test_nothing_else_is_in_it(inside: Ui) -> None:
    """The tables are those of the summary; no secret is in the file, or on any page."""
    tables = json.loads(inside.query("SELECT name FROM sqlite_master WHERE type <> 'index'")[1])
    assert {t["name"] for t in tables} == {
        "entry", "timeline_per_hour", "denials_by_code", "calls_by_agent_and_tool",
        "spend_by_agent",
    }  # fmt: skip
    for name in ("payload", "subject", "api_key", "issuer_key", "meta", "record"):
        assert inside.ask(f"/log/{name}")[0] == 404
        assert inside.query(f"SELECT * FROM {name}")[0] == 400
    file = next(inside.temporary.glob("tabard-*/log.db"))
    data = file.read_bytes()
    pages = "".join(
        inside.ask(path)[1]
        for path in ("/", "/log", "/log/entry?_size=max", "/-/metadata.json", "/-/settings.json",
                     "/-/versions.json", "/-/plugins.json", "/-/databases.json", "/-/threads.json")
    )  # fmt: skip
    for secret in inside.secrets:
        assert secret.encode() not in data
        assert secret not in pages


def test_only_the_log_is_listed(inside: Ui) -> None:
    """Datasette's own database is not on the start page, and nobody gets at it."""
    assert list(json.loads(inside.ask("/.json")[1])) == ["log"]
    for path in ("/_internal", "/_internal/databases", "/_internal.json?sql=select+1"):
        assert inside.ask(path)[0] == 403, path


def test_leftovers_of_killed_viewers_go(tmp_path: Path, monkeypatch: Any) -> None:
    """The next viewer removes what a killed one left, and nothing of one that runs."""
    from tabard.cli.ui import _folder, _remove_leftovers

    monkeypatch.setattr("tabard.cli.ui.gettempdir", lambda: str(tmp_path))
    (tmp_path / "tabard-ui-left").mkdir()
    (tmp_path / "tabard-ui-left" / "log.db").write_text("x")
    (tmp_path / "tabard-other").mkdir()
    (tmp_path / "tabard-ui-link").symlink_to(tmp_path / "tabard-other")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with _folder() as running:
        _remove_leftovers()
        assert sorted(path.name for path in tmp_path.glob("tabard-*")) == sorted(
            ["tabard-other", "tabard-ui-link", running.name]
        )


def test_nothing_can_be_written(inside: Ui) -> None:
    """Neither by SQL, nor by a form, nor by reaching another file."""
    for sql in ("DELETE FROM entry", "UPDATE entry SET agent = 'x'", "DROP TABLE entry",
                "ATTACH DATABASE '/etc/passwd' AS x", "PRAGMA writable_schema = 1",
                "SELECT load_extension('x')", "VACUUM INTO '/tmp/x.db'",
                "WITH a AS (SELECT 1) DELETE FROM entry",
                "INSERT INTO entry (entry, type, leaf) VALUES (99, 'x', 'x')"):  # fmt: skip
        code, _ = inside.query(sql)
        assert code in (400, 403), sql
    for path in ("/log", "/log/entry", "/log/refused", "/-/create"):
        code, _ = inside.ask(path, data=b"sql=DELETE+FROM+entry")
        assert code in (403, 404, 405), path
    file = next(inside.temporary.glob("tabard-*/log.db"))
    assert file.stat().st_mode & 0o777 == 0o400
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert inside.ask("/log.db")[0] == 403


def test_wrong_pages_do_not_halt_it(inside: Ui) -> None:
    """However many; what an error says goes nowhere it could fill up."""
    for _ in range(8):
        assert inside.ask("/log/none")[0] == 404
    assert inside.ask("/log")[0] == 200


def test_on_this_machine_only(ui: Ui) -> None:
    """Bound to 127.0.0.1, and to no other address of the machine."""
    inode_lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    listening = [line.split()[1] for line in inode_lines if line.split()[3] == "0A"]
    ours = [one for one in listening if int(one.rpartition(":")[2], 16) == ui.port]
    assert ours == [f"0100007F:{ui.port:04X}"]
    for other in ("127.0.0.2", "::1"):
        with pytest.raises(OSError), socket.create_connection((other, ui.port), timeout=2):  # noqa: PT011
            pass


def test_ends_clean(ui: Ui) -> None:
    """Nothing is left behind when it is told to end; the last test here."""
    assert list(ui.temporary.iterdir())
    ui.process.send_signal(signal.SIGTERM)
    assert ui.process.wait(30) == 0
    assert list(ui.temporary.iterdir()) == []


def test_port_taken(tabard: Any, authority: Authority) -> None:
    """Said in a sentence."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = tabard("audit", "ui", "--no-open", "--port", taken.getsockname()[1])
    assert (said.code, "cannot listen" in said.err) == (2, True)


def test_without_the_extra(
    tabard: Any, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Says what to install."""
    monkeypatch.setitem(sys.modules, "datasette.app", None)
    said = tabard("audit", "ui", "--no-open")
    assert (said.code, "tabard[ui]" in said.err) == (2, True)


def test_snapshot_is_new(home: Path, authority: Authority, tmp_path: Path) -> None:
    """It takes no file that is there, and no link somebody put there."""
    from tabard import StoreError

    store = SqliteStore(home / "state.db")
    (tmp_path / "log.db").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="cannot be written"):
        write_snapshot(store, tmp_path / "log.db")
    assert not (tmp_path / "elsewhere").exists()
