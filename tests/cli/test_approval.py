"""`tabard approval`: a person sees a question, answers it under their own name, and is recorded."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tabard import ApprovalRequired, Authority, Guard, NotPermitted, Session, ToolCall
from tabard.audit.fate import NO_OUTCOME
from tabard.central import Policies

POLICY = """\
version: 1
agents:
  claims-agent:
    approvals:
      - id: pay
        tools: [pay]
        when: {amount: {max: 500}, to: {}}
        by: supervisor
        show: [amount, to]
  analytics-agent: {}
"""
SECRET = "BE71-0961-2345-6769"
CALL = ToolCall("pay", {"amount": 300, "to": SECRET})


@pytest.fixture
def policy_text() -> str:
    return POLICY


@pytest.fixture
def clock() -> Any:
    """The command line goes by the real clock, and so has to its home."""
    return time.time


@pytest.fixture
def session(guard: Guard, authority: Authority, home: Any) -> Session:
    Policies.open(home).apply(POLICY)
    return guard.login(authority.issue("claims-agent"))


@pytest.fixture
def request_id(guard: Guard, session: Session) -> str:
    with pytest.raises(ApprovalRequired) as caught:
        guard.admit(CALL, session=session)
    return str(caught.value.request)


@pytest.fixture
def anna(tabard: Any) -> str:
    """A supervisor, registered on the command line."""
    added = tabard("agent", "add", "anna", "--team", "claims", "--environment", "prod",
                   "--role", "auditor", "--role", "supervisor", "--json")  # fmt: skip
    assert added.rows[0]["attributes"] == {"roles": "auditor,supervisor"}
    return "anna"


def test_list_and_show(tabard: Any, request_id: str) -> None:
    """What waits, and of one request the arguments that the policy lets an approver see."""
    [row] = tabard("approval", "list", "--json").rows
    assert (row["id"], row["standing"], row["tool"]) == (request_id, "pending", "pay")
    listed = tabard("approval", "list").out
    assert request_id in listed
    assert "supervisor" in listed
    shown = tabard("approval", "show", request_id).out
    assert "amount =" in shown
    assert f'"{SECRET}"' in shown
    [facts] = tabard("approval", "show", request_id, "--json").rows
    assert facts["shown"] == {"amount": 300, "to": SECRET}


class TestWhatBecameOfIt:
    """`audit who`, `audit show` and `report art12` say the same of a call that was asked about."""

    @pytest.fixture
    def told(self, tabard: Any, guard: Guard, request_id: str) -> Any:
        """What the three of them say of the first call; they agree."""
        [(entry, asked)] = [
            (n, r) for n, r in enumerate(guard.records(), start=1)
            if r.get("decision", {}).get("effect") == "ask"
        ]  # fmt: skip

        def tell() -> str:
            [row] = tabard("audit", "who", asked["id"], "--json").rows
            shown = tabard("audit", "show", str(entry)).out
            [said] = [line for line in shown.splitlines() if line.startswith("what became")]
            ending = str(row["outcome"])
            assert said.partition("of it")[2].strip() == ending
            report = json.loads(tabard("report", "art12", "--json").out)
            [timeline] = [s for s in report["sections"] if s["heading"] == "Timeline"]
            assert ending in json.dumps(timeline)
            return ending

        return tell

    def test_waits(self, told: Any, request_id: str) -> None:
        assert told() == f"waits for an approval, or nobody answered in time ({request_id})"

    def test_refused(self, told: Any, tabard: Any, request_id: str, anna: str) -> None:
        tabard("approval", "deny", request_id, "--as", anna)
        assert told().startswith("did not run: a person refused it at 20")

    def test_agreed_and_ran(
        self, told: Any, tabard: Any, request_id: str, anna: str, guard: Guard, session: Session
    ) -> None:
        tabard("approval", "grant", request_id, "--as", anna)
        agreed = told()
        assert agreed.startswith("was asked about, agreed to at 20")
        assert agreed.endswith("and not called again so far")
        permit = guard.admit(CALL, session=session)
        assert told().endswith(f"ran as call {permit.call}: {NO_OUTCOME}")
        permit.fail(TimeoutError())
        assert told().endswith(f"ran as call {permit.call}: error (TimeoutError)")
        [row] = tabard("audit", "who", permit.call, "--json").rows
        assert row["outcome"] == "error (TimeoutError)"


def test_numbers_json_cannot_say(tabard: Any, guard: Guard, session: Session) -> None:
    """`--json` is JSON whatever a model has written: infinity is text."""
    low = ToolCall("pay", {"amount": float("-inf"), "to": [{"x": float("nan")}]})
    with pytest.raises(ApprovalRequired):
        guard.admit(low, session=session)
    printed = tabard("approval", "list", "--json")
    [row] = [json.loads(line, parse_constant=pytest.fail) for line in printed.out.splitlines()]
    assert row["shown"] == {"amount": "-Infinity", "to": [{"x": "NaN"}]}
    shown = tabard("approval", "show", row["id"], "--json").out
    assert json.loads(shown, parse_constant=pytest.fail) == row


def test_grant(tabard: Any, request_id: str, anna: str, guard: Guard, session: Session) -> None:
    """After a yes the call goes ahead, once; who said it and why is on record, under their name."""
    granted = tabard("approval", "grant", request_id, "--as", anna, "--reason", "invoice seen")
    assert (granted.code, "may run once" in granted.out) == (0, True)
    guard.admit(CALL, session=session).settle()
    with pytest.raises(ApprovalRequired):
        guard.admit(CALL, session=session)
    [record] = [r for r in guard.records() if r["type"] == "approval.granted"]
    assert record["agent"]["name"] == "anna"
    assert record["approval"]["reason"] == "invoice seen"
    opened = [r for r in guard.records() if r["type"].startswith("session.")]
    assert [r["type"] for r in opened if r["agent"]["name"] == "anna"] == [
        "session.open", "session.close",
    ]  # fmt: skip
    assert [r["standing"] for r in tabard("approval", "list", "--json").rows] == ["pending"]
    every = tabard("approval", "list", "--all", "--json").rows
    assert [r["standing"] for r in every] == ["used", "pending"]
    assert SECRET not in str(every[0])


def test_deny_by_own_credential(
    tabard: Any, request_id: str, anna: str, authority: Authority, guard: Guard, session: Session,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The identity of $TABARD_CREDENTIAL answers where no name is given."""
    monkeypatch.setenv("TABARD_CREDENTIAL", authority.issue(anna))
    denied = tabard("approval", "deny", request_id, "--json")
    assert denied.rows[0]["standing"] == "denied"
    assert denied.rows[0]["decided_by"].endswith("/agent/anna")
    with pytest.raises(NotPermitted, match="approval_denied"):
        guard.admit(CALL, session=session)


@pytest.mark.parametrize(
    ("who", "code"), [("claims-agent", "approval_own"), ("analytics-agent", "approval_role")]
)
def test_who_may_not(
    tabard: Any, request_id: str, guard: Guard, session: Session, who: str, code: str
) -> None:
    """The agent itself, and whoever lacks the role, is refused: exit 1, and on record."""
    refused = tabard("approval", "grant", request_id, "--as", who)
    assert (refused.code, code in refused.err) == (1, True)
    with pytest.raises(ApprovalRequired):
        guard.admit(CALL, session=session)
    [record] = [r for r in guard.records() if r["type"] == "approval.refused"]
    assert record["approval"]["code"] == code


def test_twice(tabard: Any, request_id: str, anna: str) -> None:
    """A question that is answered is over: nobody turns a no into a yes."""
    assert tabard("approval", "deny", request_id, "--as", anna).code == 0
    again = tabard("approval", "grant", request_id, "--as", anna)
    assert (again.code, "approval_over" in again.err) == (1, True)


def test_revoked_person(tabard: Any, request_id: str, anna: str, authority: Authority) -> None:
    """A person who was revoked answers nothing, by name or by an old credential."""
    authority.revoke(anna, reason="left")
    refused = tabard("approval", "grant", request_id, "--as", anna)
    assert (refused.code, "token_revoked" in refused.err) == (1, True)


def test_forged_credential(
    tabard: Any, request_id: str, anna: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A credential that does not hold answers nothing, and is not shown."""
    monkeypatch.setenv("TABARD_CREDENTIAL", "eyJhbGciOiJub25lIn0.e30.")
    refused = tabard("approval", "grant", request_id)
    assert (refused.code, "eyJ" in refused.err) == (1, False)


def test_what_is_shown_deceives_no_eye(tabard: Any, guard: Guard, session: Session) -> None:
    """Control and direction characters in an argument are shown as `?`, a text as a text."""
    deceptive = ToolCall("pay", {"amount": 300, "to": "\x1b[2J\u202eABC\u009b1m"})
    with pytest.raises(ApprovalRequired) as caught:
        guard.admit(deceptive, session=session)
    shown = tabard("approval", "show", caught.value.request).out
    assert not {"\x1b", "\u202e", "\u009b"} & set(shown)
    assert "?ABC?" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("approval", "show", "apr_0"), "no request 'apr_0'"),
        (("approval", "grant", "apr_0"), "say who answers"),
        (("approval", "deny", "apr_0", "--as", "ghost"), "no agent 'ghost' is registered"),
        (("approval", "grant", "apr_0", "--as", "claims-agent", "--policy", "x"), "no readable"),
        (("agent", "add", "b", "--team", "t", "--environment", "e", "--role", "a,b"),
         "--role: expected one role without a comma"),
        (("agent", "add", "b", "--team", "t", "--environment", "e", "--role", " "), "--role"),
    ],
)  # fmt: skip
def test_misuse(tabard: Any, request_id: str, arguments: tuple[str, ...], message: str) -> None:
    """One clear sentence each, and exit 2."""
    refused = tabard(*arguments)
    assert (refused.code, message in refused.err) == (2, True), refused.err


def test_no_such_request(tabard: Any, request_id: str, anna: str) -> None:
    """An answer to nothing is refused: exit 1."""
    refused = tabard("approval", "grant", "apr_0", "--as", anna)
    assert (refused.code, "no_request" in refused.err) == (1, True)
