"""Shipping lags, repeats and resumes, and never skips an entry or holds a decision up."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tabard import AuditError, Authority, ConfigurationError, Guard, Session, ToolCall
from tabard.audit import delivery
from tabard.audit.delivery import Undelivered
from tabard.audit.destinations import open_destination
from tabard.audit.entries import Entry
from tabard.audit.shipping import Shipping
from tabard.audit.shipping_state import Position, StateFile
from tabard.store import SqliteStore

CALL = ToolCall("claims_db.query", {"table": "claims", "claimant_id": "C-1"})


class Collector:
    """An HTTP collector that answers what it is told to."""

    def __init__(self, port: int = 0) -> None:
        self.bodies: list[bytes] = []
        self.types: list[str] = []
        self.paths: list[str] = []
        self.answer = 200
        self.pause = 0.0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                time.sleep(outer.pause)
                if outer.answer == 200:
                    outer.bodies.append(body)
                    outer.types.append(self.headers["Content-Type"])
                    outer.paths.append(self.path)
                with suppress(OSError):
                    self.send_response(outer.answer)
                    self.send_header("Location", "http://127.0.0.1:1/elsewhere")
                    self.send_header("Content-Length", "0")
                    self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def numbers(self) -> list[int]:
        """The entries that arrived, in order."""
        lines = b"".join(self.bodies).splitlines()
        return [json.loads(line)["entry"] for line in lines]


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture
def store(guard: Guard, session: Session, home: Path) -> SqliteStore:
    """A log of some calls."""
    for _ in range(3):
        with guard.admit(CALL, session=session):
            pass
    return SqliteStore(home / "state.db")


@pytest.fixture
def ship(store: SqliteStore) -> Callable[..., Any]:
    """Ships to an address; returns the shipping and what it told."""

    def run(to: str, form: str = "jsonl", *, out: StringIO | None = None, **options: Any) -> Any:
        told: list[str] = []
        position = options.pop("position", Position(origin=store.origin, destination="d"))
        shipping = Shipping(
            store=store,
            destination=open_destination(form, to, out or StringIO()),
            position=position,
            tell=told.append,
            **{"wait": lambda _: None, **options},
        )
        shipped = sum(shipping.run())
        return shipping, shipped, told

    return run


def last(store: SqliteStore) -> int:
    return store.extent()[1]


def test_stream(ship: Callable[..., Any], store: SqliteStore) -> None:
    """Every entry, in order, once."""
    out = StringIO()
    _, shipped, told = ship("-", out=out)
    numbers = [json.loads(line)["entry"] for line in out.getvalue().splitlines()]
    assert numbers == list(range(1, last(store) + 1))
    assert (shipped, told) == (last(store), [])


@pytest.mark.parametrize("form", ["jsonl", "ocsf", "ecs", "syslog"])
def test_http_lines(
    ship: Callable[..., Any], collector: Collector, store: SqliteStore, form: str
) -> None:
    """One line an entry."""
    ship(f"{collector.url}/in?x=1", form)
    [body] = collector.bodies
    assert len(body.splitlines()) == last(store)
    assert collector.paths == ["/in?x=1"]


def test_http_cloudevents(
    ship: Callable[..., Any], collector: Collector, store: SqliteStore
) -> None:
    """A batch is one array, by the standard's type."""
    ship(collector.url, "cloudevents")
    assert len(json.loads(collector.bodies[0])) == last(store)
    assert collector.types == ["application/cloudevents-batch+json"]


def test_otlp(ship: Callable[..., Any], collector: Collector, store: SqliteStore) -> None:
    """What an OpenTelemetry collector reads, at the path it reads from."""
    ship(collector.url, "otel")
    assert set(collector.paths) == {"/v1/traces"}
    request = ExportTraceServiceRequest()
    # The exporter may press it.
    request.ParseFromString(collector.bodies[0])
    spans = [s for r in request.resource_spans for c in r.scope_spans for s in c.spans]
    numbers = [a.value.int_value for s in spans for a in s.attributes if a.key == "tabard.entry"]
    assert sorted(numbers) == list(range(1, last(store) + 1))
    assert {s.name for s in spans} >= {"execute_tool claims_db.query"}


def test_otlp_away(ship: Callable[..., Any]) -> None:
    """A dead OpenTelemetry collector is said in one sentence, within the time of an attempt."""
    begun = time.monotonic()
    destination = open_destination("otel", f"http://127.0.0.1:{free_port()}", StringIO())
    with pytest.raises(Undelivered, match="is away"):
        destination.deliver([Entry(index=1, leaf="ab", fields={})], "o")
    assert time.monotonic() - begun < delivery.ATTEMPT + 3


@contextmanager
def tcp_server(*, read: bool, pause: float = 0) -> Iterator[tuple[int, list[bytes]]]:
    """A TCP collector that reads to the end, or not, and closes after a while."""
    taken: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            if read:
                taken.append(b"".join(iter(lambda: connection.recv(65536), b"")))  # noqa: B023
            time.sleep(pause)
            connection.close()

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1], taken
    listener.close()


@pytest.mark.parametrize("form", ["syslog", "jsonl", "ecs"])
def test_tcp(ship: Callable[..., Any], store: SqliteStore, form: str) -> None:
    """One line an entry, all of them read before it counts."""
    with tcp_server(read=True) as (port, taken):
        ship(f"tcp://127.0.0.1:{port}", form)
        assert len(taken[0].splitlines()) == last(store)


@pytest.mark.parametrize("pause", [0, 0.2])
def test_tcp_that_does_not_read(ship: Callable[..., Any], pause: float) -> None:
    """A collector that takes the connection and not the lines has taken nothing."""
    with tcp_server(read=False, pause=pause) as (port, _), pytest.raises(Undelivered):
        ship(f"tcp://127.0.0.1:{port}", "syslog")


def test_tcp_that_hangs(ship: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt ends, even when the other side does not."""
    monkeypatch.setattr(delivery, "ATTEMPT", 0.2)
    begun = time.monotonic()
    with tcp_server(read=False, pause=30) as (port, _), pytest.raises(Undelivered):
        ship(f"tcp://127.0.0.1:{port}", "syslog")
    assert time.monotonic() - begun < 15


def test_udp(ship: Callable[..., Any], store: SqliteStore) -> None:
    """A datagram an entry, without a line end."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.settimeout(2)
        ship(f"udp://127.0.0.1:{taken.getsockname()[1]}", "syslog")
        found = [taken.recv(65536) for _ in range(last(store))]
    assert all(b"\n" not in line and line.startswith(b"<") for line in found)


def test_udp_nobody_listens(ship: Callable[..., Any]) -> None:
    """On this machine, that is noticed."""
    with pytest.raises(Undelivered, match="refused"):
        ship(f"udp://127.0.0.1:{free_port()}", "syslog")


def test_file(ship: Callable[..., Any], store: SqliteStore, tmp_path: Path) -> None:
    """Lines are added; a torn one stays alone; nobody else can read them."""
    file = tmp_path / "out.jsonl"
    ship(str(file))
    assert file.stat().st_mode & 0o777 == 0o600
    whole = file.read_text()
    file.write_text(whole + '{"torn')
    ship(str(file))
    assert file.read_text() == f'{whole}{{"torn\n{whole}'


@pytest.mark.parametrize("answer", [404, 400, 302, 500, 429])
def test_refused(ship: Callable[..., Any], collector: Collector, answer: int) -> None:
    """What is not 2xx was not taken; a redirection is not followed."""
    collector.answer = answer
    with pytest.raises(Undelivered, match=f"answers {answer}.*stay in the log") as raised:
        ship(collector.url)
    assert f":{collector.port}" in str(raised.value)
    assert collector.bodies == []


def test_slow_collector(
    ship: Callable[..., Any], collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attempt has an end."""
    monkeypatch.setattr(delivery, "ATTEMPT", 0.1)
    collector.pause = 1.0
    with pytest.raises(Undelivered, match="too long"):
        ship(collector.url)


def test_no_secret_of_an_address(ship: Callable[..., Any]) -> None:
    """A token in the path is not repeated."""
    with pytest.raises(Undelivered) as raised:
        ship(f"http://127.0.0.1:{free_port()}/services/t0ken?key=t0ken")
    assert "t0ken" not in str(raised.value)


def test_backs_off(ship: Callable[..., Any], store: SqliteStore) -> None:
    """Longer and longer, up to a minute; and when it is back, all goes on."""
    port = free_port()
    waited: list[float] = []
    made: list[Collector] = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 10:
            made.append(Collector(port))
        if made and made[0].bodies:
            raise KeyboardInterrupt

    told: list[str] = []
    shipping = Shipping(
        store=store,
        destination=open_destination("jsonl", f"http://127.0.0.1:{port}", StringIO()),
        position=Position(origin=store.origin, destination="d"),
        follow=True,
        tell=told.append,
        wait=wait,
    )
    with pytest.raises(KeyboardInterrupt):
        list(shipping.run())
    made[0].close()
    assert waited[:10] == [0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert made[0].numbers() == list(range(1, last(store) + 1))
    assert "refused" in told[0]
    assert "entry 1 and later ones wait" in told[0]
    assert "again" in told[-1]


class Fails:
    """A destination that dies after some batches."""

    name = "it"

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.left = 10**9

    def deliver(self, entries: Sequence[Entry], origin: str) -> None:
        for entry in entries:
            if self.left == 0:
                raise Undelivered("dead", lasting=True)
            self.left -= 1
            self.numbers.append(entry.index)


def test_resumes(store: SqliteStore, guard: Guard, session: Session, tmp_path: Path) -> None:
    """Whatever half of a batch arrived, nothing is skipped, and the order is kept."""
    state, destination = StateFile(tmp_path / "state"), Fails()
    position = Position(origin=store.origin, destination="d")
    for left in (2, 0, 5, 10**9, 0, 1, 10**9):
        destination.left = left
        with guard.admit(CALL, session=session):
            pass
        shipping = Shipping(
            store=store,
            destination=destination,
            position=state.read() or position,
            state=state,
            tell=lambda _: None,
        )
        with suppress(Undelivered):
            list(shipping.run())
    first_seen = list(dict.fromkeys(destination.numbers))
    assert first_seen == list(range(1, last(store) + 1))
    kept = state.read()
    assert kept is not None
    assert kept.entry == last(store)


def test_large_log(
    store: SqliteStore, ship: Callable[..., Any], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches end at a size, and a record that is longer goes alone."""
    monkeypatch.setattr("tabard.audit.shipping._MAX_BYTES", 900)
    out = StringIO()
    _, shipped, _ = ship("-", out=out)
    assert shipped == last(store) == len(out.getvalue().splitlines())


def tamper(home: Path, *statements: str) -> None:
    with sqlite3.connect(home / "state.db") as database:
        for name in ("record_is_final", "record_stays"):
            database.execute(f"DROP TRIGGER IF EXISTS {name}")
        for statement in statements:
            database.execute(statement)
    database.close()


def test_a_missing_entry(ship: Callable[..., Any], store: SqliteStore, home: Path) -> None:
    """What is before a gap goes; then it stops, and says where."""
    tamper(home, "DELETE FROM record WHERE id = 4")
    out = StringIO()
    with pytest.raises(AuditError, match="entry 4 is missing"):
        ship("-", out=out)
    assert len(out.getvalue().splitlines()) == 3


def test_a_missing_end(ship: Callable[..., Any], store: SqliteStore, home: Path) -> None:
    """A log that has lost its tail is not done."""
    count = last(store)
    tamper(home, f"DELETE FROM record WHERE id >= {count - 1}")
    with pytest.raises(AuditError, match=f"entries from {count - 1} on are missing"):
        ship("-")


def test_no_record(ship: Callable[..., Any], store: SqliteStore, home: Path) -> None:
    """Neither is what cannot be read skipped."""
    tamper(home, "UPDATE record SET body = '{}' WHERE id = 3")
    out = StringIO()
    with pytest.raises(AuditError, match="entry 3 is not a record"):
        ship("-", out=out)
    assert len(out.getvalue().splitlines()) == 2


def test_a_rewritten_log(ship: Callable[..., Any], store: SqliteStore, home: Path) -> None:
    """Shipping remembers the hash of what it shipped last, so that a rewrite shows."""
    shipping, _, _ = ship("-")
    position = shipping.position
    tamper(home, f"UPDATE record SET leaf = zeroblob(32) WHERE id = {position.entry}")
    with pytest.raises(AuditError, match="not the one that was shipped"):
        ship("-", position=position)
    tamper(home, "DELETE FROM record WHERE id > 2", "UPDATE sqlite_sequence SET seq = 2")
    with pytest.raises(AuditError, match="rolled back"):
        ship("-", position=position)


@pytest.mark.parametrize(
    ("form", "to"),
    [
        ("cef", "-"),
        ("jsonl", "ftp://x/y"),
        ("jsonl", "tcp://host"),
        ("jsonl", "tcp://host:0"),
        ("jsonl", "tcp://host:99999"),
        ("jsonl", "tcp://host:1/path"),
        ("jsonl", "udp://host:514"),
        ("jsonl", "http://"),
        ("jsonl", "http://[::1"),
        ("otel", "-"),
        ("otel", "tcp://h:1"),
        ("jsonl", "/no/such/folder/file"),
        ("jsonl", "/"),
        ("jsonl", "a\0b"),
        ("jsonl", "/dev/null"),
    ],
)
def test_unusable_destination(form: str, to: str) -> None:
    """Said at once, by what is wrong with it."""
    with pytest.raises(ConfigurationError):
        open_destination(form, to, StringIO())


def test_credential_in_address() -> None:
    """Refused, and not repeated."""
    with pytest.raises(ConfigurationError) as raised:
        open_destination("jsonl", "https://me:hunter2@x/", StringIO())
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "\xff", '{"format":"tabard-shipping/1"}', "[" * 10_000, "1" * 9_999]
)
def test_unusable_state(tmp_path: Path, text: str) -> None:
    """Something else is not taken for a state, and stays what it is."""
    file = tmp_path / "state"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigurationError, match="not a state file"):
        StateFile(file).read()
    assert file.read_bytes() == text.encode("latin-1")


def test_state_is_private_and_whole(tmp_path: Path) -> None:
    """Replaced, not overwritten; nothing is left beside it."""
    state = StateFile(tmp_path / "state")
    assert state.read() is None
    for entry in range(3):
        position = Position(origin="o", destination="d", entry=entry, leaf="ab" * 32)
        state.write(position)
        assert state.read() == position
    assert [p.name for p in tmp_path.iterdir()] == ["state"]
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigurationError, match="cannot be written"):
        StateFile(tmp_path / "no" / "state").write(position)


def test_dead_collector_holds_nobody_up(home: Path, tmp_path: Path) -> None:
    """A real shipping process, a dead collector, a real guard: every admission is as quick as
    without, and every entry arrives once the collector is up, killed in between or not."""
    policy = "version: 1\nagents: {a: {match: {team: t}, grants: [{id: g, tools: [x]}]}}\n"
    with Authority.open(home, trust_domain="acme.example") as authority:
        authority.register("a", team="t", environment="prod")
        token = authority.issue("a")
    port = free_port()
    state = tmp_path / "state"
    options = ["--format", "jsonl", "--to", f"http://127.0.0.1:{port}", "--follow"]
    run = "from tabard.cli import main; main()"
    command = [sys.executable, "-c", run, "--home", str(home), "audit", "ship"]

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*command, *options, "--state", str(state)], stderr=subprocess.PIPE, text=True
        )

    shipper = start()
    assert shipper.stderr is not None
    assert "refused" in shipper.stderr.readline()
    with Guard.open(home, policy=policy) as guard, guard.login(token) as session:
        slowest, calls = 0.0, 60
        for _ in range(calls):
            begun = time.monotonic()
            with guard.admit(ToolCall("x"), session=session):
                slowest = max(slowest, time.monotonic() - begun)
        assert sum(r["type"] == "tool.decision" for r in guard.records()) == calls
        assert slowest < 1
        assert shipper.poll() is None
        shipper.kill()
        shipper.wait()
        collector = Collector(port)
        shipper = start()
        try:
            with guard.admit(ToolCall("x"), session=session):
                pass
            count = len(list(guard.records()))
            until = time.monotonic() + 60
            while len(set(collector.numbers())) < count and time.monotonic() < until:
                time.sleep(0.1)
            assert sorted(set(collector.numbers())) == list(range(1, count + 1))
            shipper.send_signal(signal.SIGINT)
            assert shipper.wait(20) == 0
        finally:
            shipper.kill()
            shipper.wait()
            collector.close()
    kept = StateFile(state).read()
    assert kept is not None
    assert 0 < kept.entry <= count
