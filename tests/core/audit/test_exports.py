"""Each format says what the entry says, and nothing an entry holds can break out of a format."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from tabard import AccessDenied, Authority, Guard, ModelCall, Retrieval, Session, ToolCall
from tabard.audit.entries import Entry
from tabard.audit.exports.cloudevents import to_cloudevent
from tabard.audit.exports.ecs import to_ecs
from tabard.audit.exports.formats import LINE_FORMATS
from tabard.audit.exports.ocsf import to_ocsf
from tabard.audit.exports.otel import to_span
from tabard.audit.exports.syslog import MAX_LINE, to_syslog
from tabard.store import SqliteStore

ORIGIN = "acme.example/tabard/0123456789abcdef"
LEAF = "ab" * 32
OCSF = Draft202012Validator(json.loads(Path(__file__).with_name("ocsf.schema.json").read_text()))

# Everything a line protocol, a terminal, a query language or an eye could trip over.
EVIL = (
    "a\r\n<0>1 - - - - - - forged",
    'q"]\\ [x y="z"] | = % \' ; --',
    "\x00\x07\x1b[31mred\x1b[0m\x7f\x9b",
    "\u202egnp.exe\u202c\u2066x\u2069\u200b\ufeff",
    "\ud800half",
    "\u2028line\u2029paragraph\x85next",
    "n" * 100_000,
    "\N{PILE OF POO}" * 10_000,
    "]" * 10_000 + '"' * 10_000 + "\\" * 10_000,
    "",
)
NAMES = (*LINE_FORMATS, "otel")


def entry(**fields: Any) -> Entry:
    return Entry(index=7, leaf=LEAF, fields={"v": 1, **fields})


def evil(text: str) -> Entry:
    """A record with a text wherever a record has texts."""
    return entry(
        type=f"tool.{text}",
        id=text,
        ts="2026-11-25T10:08:30.159140Z",
        agent={"id": text, "name": text, "team": text, "instance": f"{text}:12:ab"},
        cred={"kind": text, "jti": text},
        session=text,
        on_behalf_of=text,
        act={"sub": text, "act": {"sub": text}},
        call=text,
        provider_id=text,
        action={"kind": "model", "name": f"{text}/{text}", "call_id": text,
                "args": {"commit": text, "n": 1, "names": [text] * 100}},
        decision={"effect": text, "code": text, "rule": text, "reason": text, "policy": text},
        approval={"id": text, "role": text, "by": text},
        data={"purpose": text, "data_class": text, "asset": text},
        outcome={"status": "error", "error_type": text, "duration_ms": 1.5},
        **{text: text},
    )  # fmt: skip


def texts(value: Any) -> Iterator[str]:
    """Every text in an event, names included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from (*texts(name), *texts(item))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from texts(item)


def event(name: str, found: Entry) -> Any:
    """An event as a receiver has it."""
    if name == "otel":
        return json.loads(to_span(found, ORIGIN).to_json())
    line = LINE_FORMATS[name].write(found, ORIGIN)
    assert len(line.splitlines()) == 1
    return parse_syslog(line) if name == "syslog" else json.loads(line)


_HEADER = re.compile(
    r"<(\d{1,3})>1 (\S+) ([!-~]{1,255}) ([!-~]{1,48}) ([!-~]{1,128}) ([!-~]{1,32}) "
)
_PARAMETER = re.compile(r' ([!#-<>-\\^-~]{1,32})="((?:[^"\\\]]|\\["\\\]])*)"')


def parse_syslog(line: str) -> dict[str, str]:
    """What a strict reader of RFC 5424 reads."""
    assert len(line.encode()) < MAX_LINE
    assert line.isprintable()
    header = _HEADER.match(line)
    assert header is not None
    assert 0 <= int(header[1]) <= 191
    assert header[2] == "-" or datetime.fromisoformat(header[2])
    at = line.index("[tabard@32473", header.end()) + len("[tabard@32473")
    assert at == header.end() + len("[tabard@32473")
    found: dict[str, str] = {}
    while (parameter := _PARAMETER.match(line, at)) is not None:
        assert parameter[1] not in found
        found[parameter[1]] = re.sub(r'\\(["\\\]])', r"\1", parameter[2])
        at = parameter.end()
    assert line[at] == "]"
    assert line[at + 1 :].isascii()
    return {"host": header[3], "pid": header[5], "id": header[6], **found}


@pytest.mark.parametrize("text", EVIL, ids=lambda text: ascii(text[:8]))
@pytest.mark.parametrize("name", NAMES)
def test_evil_names(name: str, text: str) -> None:
    """Nothing unseen gets out; the evidence is always named."""
    found = event(name, evil(text))
    flat = list(texts(found))
    if name == "jsonl":  # the record as it is: what is unseen is escaped, and the line is ASCII
        line = LINE_FORMATS[name].write(evil(text), ORIGIN)
        assert line.isascii()
        assert line.isprintable()
    else:
        assert all(one.isprintable() for one in flat)
        assert max(map(len, flat)) < 3000
    assert LEAF in flat
    assert ORIGIN in flat


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"type": None, "ts": None, "agent": None, "action": None, "decision": None},
        {"type": 5, "ts": 5, "agent": 5, "action": [], "decision": "x", "outcome": [1], "act": 1},
        {"ts": "yesterday", "agent": {}, "action": {}, "outcome": {}, "usage": {}, "cost": {}},
        {"ts": "9999-12-31T23:59:59-23:59", "action": {"kind": "model", "name": "/"}},
        {"ts": "0001-01-01T00:00:00+23:59", "action": {"kind": "model", "name": "x"}},
        {"type": "tool.outcome", "outcome": {"status": "ok", "duration_ms": 1e308}},
        {"type": "tool.outcome", "outcome": {"status": "ok", "duration_ms": float("nan")}},
        {"usage": {"input_tokens": 10**400, "output_tokens": -1}, "cost": {"amount": True}},
        {"odd": [float("inf"), 10**400, {"a": [[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]}]},
        {"act": {"act": {"act": {}}}, "agent": {"instance": ":::"}, "id": ""},
    ],
    ids=range(11),
)
def test_missing_members(name: str, fields: dict[str, Any]) -> None:
    """A record that lacks anything, or has something else there, is still an event."""
    found = event(name, entry(**fields))
    assert LEAF in list(texts(found))
    if name == "ocsf":
        OCSF.validate(found)
    if name == "cloudevents":
        check_cloudevent(found)
    json.dumps(found, allow_nan=False)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
_MEMBERS = ("type", "ts", "id", "agent", "action", "decision", "outcome", "usage", "call", "act")


@given(st.dictionaries(st.sampled_from(_MEMBERS), anything))
@settings(max_examples=150, deadline=None)
def test_any_record(fields: dict[str, Any]) -> None:
    """No record makes an exporter raise, or write what its format does not allow."""
    found = entry(**fields)
    OCSF.validate(to_ocsf(found, ORIGIN))
    check_cloudevent(to_cloudevent(found, ORIGIN))
    parse_syslog(to_syslog(found, ORIGIN))
    json.dumps(to_ecs(found, ORIGIN), allow_nan=False)
    json.loads(LINE_FORMATS["jsonl"].write(found, ORIGIN), parse_constant=pytest.fail)
    to_span(found, ORIGIN)


def check_cloudevent(found: dict[str, Any]) -> None:
    """By the reference library, which insists on names, types and a time."""
    read = JSONFormat().read(CloudEvent, json.dumps(found))
    assert read.get_id()
    assert read.get_source()
    if "time" in found:
        moment = read.get_time()
        assert moment is not None
        assert moment.utcoffset() == timedelta(0)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", found["time"])
    for name in set(found) - {"data"}:
        assert re.fullmatch(r"[a-z0-9]{1,20}", name)


@pytest.fixture
def store(guard: Guard, authority: Authority, session: Session, home: Path) -> SqliteStore:
    """A log with everything an agent commonly does."""
    with session:
        with guard.admit(
            ToolCall("claims_db.query", {"table": "claims", "claimant_id": "C-1"}, call_id="c-1")
        ):
            pass
        with guard.admit(ModelCall("gpt-4o", provider="openai")) as permit:
            permit.settle(usage={"input_tokens": 12, "output_tokens": 3}, provider_id="r-1")
        with pytest.raises(AccessDenied):
            guard.admit(ToolCall("rm.rf", {"secret_value": "hunter2"}))
        with pytest.raises(AccessDenied):
            guard.admit(Retrieval("library", "hunter2"))
    with pytest.raises(AccessDenied):
        guard.login("not a token")
    authority.revoke("analytics-agent", reason="lost")
    return SqliteStore(home / "state.db")


@pytest.fixture
def entries(store: SqliteStore) -> list[Entry]:
    return [Entry.of(record) for record in store.stored_records()]


def of(entries: list[Entry], kind: str) -> Entry:
    return next(one for one in entries if one.kind == kind)


def test_every_entry_of_a_log(store: SqliteStore, entries: list[Entry]) -> None:
    """Real records, by schema, library and a strict parser; no value of an argument in any."""
    kinds = {one.kind for one in entries}
    assert kinds >= {"tool.decision", "model.outcome", "auth.failed", "agent.revoked"}
    for one in entries:
        OCSF.validate(to_ocsf(one, store.origin))
        check_cloudevent(to_cloudevent(one, store.origin))
        said = parse_syslog(to_syslog(one, store.origin))
        assert (said["entry"], said["leaf"]) == (str(one.index), one.leaf)
        for form in LINE_FORMATS.values():
            line = form.write(one, store.origin)
            assert one.leaf in line
            assert store.origin in line
            assert "hunter2" not in line


def test_jsonl_has_the_bytes(store: SqliteStore, entries: list[Entry]) -> None:
    """The leaf is the hash of the record in the line."""
    for one in entries:
        line = LINE_FORMATS["jsonl"].write(one, store.origin)
        record = line.partition('"record":')[2][:-1]
        assert hashlib.sha256(b"\0" + record.encode()).hexdigest() == one.leaf


def test_ocsf(entries: list[Entry]) -> None:
    """Who, what, allowed or not, and by which rule."""
    allowed = to_ocsf(of(entries, "tool.decision"), ORIGIN)
    assert (allowed["type_uid"], allowed["action"], allowed["status"]) == (
        600399, "Allowed", "Success",
    )  # fmt: skip
    assert allowed["actor"]["app_name"] == "claims-agent"
    assert allowed["authorizations"][0]["policy"]["name"] == "claims-agent/claims-read"
    denied = to_ocsf(next(e for e in entries if e.get("action.name") == "rm.rf"), ORIGIN)
    assert (denied["action_id"], denied["severity_id"], denied["status_code"]) == (2, 3, "no_grant")
    model = to_ocsf(of(entries, "model.outcome"), ORIGIN)
    assert model["ai_model"] == {"ai_provider": "openai", "name": "gpt-4o"}
    assert model["message_context"]["total_tokens"] == 15
    assert model["metadata"]["profiles"] == ["ai_operation"]
    search = to_ocsf(of(entries, "retrieval.decision"), ORIGIN)
    assert search["activity_name"] == "Read"


def test_ecs(entries: list[Entry]) -> None:
    """The schema's `agent` is the shipper, so ours is a user."""
    denied = to_ecs(next(e for e in entries if e.get("action.name") == "rm.rf"), ORIGIN)
    assert "agent" not in denied
    assert denied["user"]["name"] == "claims-agent"
    assert denied["event"]["type"] == ["access", "denied"]
    assert denied["event"]["outcome"] == "failure"
    assert denied["event"]["sequence"] == denied["tabard"]["entry"]
    assert to_ecs(of(entries, "agent.revoked"), ORIGIN)["event"]["category"] == ["iam"]


def test_shadow_is_no_refusal() -> None:
    """What shadow mode would have refused has run."""
    decision = {"effect": "deny", "code": "no_grant", "mode": "shadow"}
    found = entry(type="tool.decision", decision=decision, action={"kind": "tool", "name": "x"})
    assert to_ocsf(found, ORIGIN)["action"] == "Allowed"
    assert to_ecs(found, ORIGIN)["event"]["type"] == ["access", "allowed"]
    assert to_ecs(found, ORIGIN)["tabard"]["effect"] == "deny"


def test_spans(entries: list[Entry]) -> None:
    """A session is a trace; an outcome is the child of its decision, with the names of GenAI."""
    decision, outcome = of(entries, "model.decision"), of(entries, "model.outcome")
    asked, ran = to_span(decision, ORIGIN), to_span(outcome, ORIGIN)
    assert (asked.name, ran.name) == ("decide chat openai/gpt-4o", "chat openai/gpt-4o")
    assert ran.parent == asked.context
    assert ran.context is not None
    assert ran.context.span_id != asked.context.span_id
    assert asked.context.trace_id == to_span(of(entries, "tool.decision"), ORIGIN).context.trace_id
    said = dict(ran.attributes or {})
    assert said["gen_ai.operation.name"] == "chat"
    assert said["gen_ai.provider.name"] == "openai"
    assert said["gen_ai.request.model"] == "gpt-4o"
    assert said["gen_ai.response.id"] == "r-1"
    assert (said["gen_ai.usage.input_tokens"], said["gen_ai.usage.output_tokens"]) == (12, 3)
    assert said["tabard.leaf"] == outcome.leaf
    assert "gen_ai.operation.name" not in dict(asked.attributes or {})
    assert ran.end_time >= ran.start_time  # type: ignore[operator]
    tool = dict(to_span(of(entries, "tool.outcome"), ORIGIN).attributes or {})
    assert (tool["gen_ai.operation.name"], tool["gen_ai.tool.name"]) == (
        "execute_tool", "claims_db.query",
    )  # fmt: skip
    refused = to_span(next(e for e in entries if e.get("action.name") == "rm.rf"), ORIGIN)
    assert dict(refused.attributes or {})["error.type"] == "no_grant"
    assert not refused.status.is_ok


def test_severity() -> None:
    """A log in trouble is worse than a refusal, and that is worse than what was let pass."""
    failure = entry(type="audit.failure")
    refused = entry(type="tool.decision", decision={"effect": "deny", "code": "no_grant"})
    passed = entry(type="tool.decision", decision={"effect": "allow", "code": "ok"})
    found = [to_ocsf(one, ORIGIN)["severity_id"] for one in (failure, refused, passed)]
    assert found == [4, 3, 1]
    assert [to_syslog(one, ORIGIN)[:5] for one in (failure, refused, passed)] == [
        "<107>", "<108>", "<110>",
    ]  # fmt: skip


@pytest.mark.parametrize("build", [to_ocsf, to_ecs, to_cloudevent, to_syslog])
def test_pure(build: Callable[[Entry, str], Any], entries: list[Entry]) -> None:
    """The same entry gives the same event, and is left as it was."""
    for one in entries:
        before = json.dumps(one.fields)
        assert build(one, ORIGIN) == build(one, ORIGIN)
        assert json.dumps(one.fields) == before
