"""Policy tests: what may stand in the file, what holds, and which rules no case reaches."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from tabard import Authority, ConfigurationError, Guard, ModelCall, ToolCall
from tabard.budget import Cost, ListPricer, TokenUsage
from tabard.policy import load
from tabard.policy.cases import load_cases, parse_moment
from tabard.policy.rehearsal import Rehearsal, rehearse

EXAMPLES = Path(__file__).parents[3] / "examples"
NOW = "2027-01-15T08:00:00Z"
POLICY = """\
version: 1
currency: USD
prices: {m/own: {input: "1", output: "1"}}
windows: {morning: {tz: Europe/Brussels, from: "08:00", to: "10:00"}}
tools: {paid: {cost: "4"}, dear: {cost: "6"}}
agents:
  clerk:
    match: {team: [desk, back], environment: prod}
    scope: {k: optional}
    models: {allow: ["m/*"]}
    budgets: [{per: session, limit: "5"}, {per: day, limit: "100"}]
    delegates_to: [early]
    grants:
      - {id: read, tools: ["db.*"], args: {key: {equals_scope: k, optional: true}}}
      - {tools: [paid, dear, retrieval.docs], args: {query: {optional: true}}}
    approvals: [{id: pay, tools: [pay], by: lead}]
  early: {windows: [morning], grants: [{id: only, tools: [t]}]}
  lax: {mode: shadow}
deny:
  - {id: no, tools: [db.drop]}
  - {id: no-large, models: ["m/large*"]}
"""


class FlatPricer:
    """Knows one price."""

    def cost(self, model: str, usage: TokenUsage, now: float) -> Cost | None:
        return Cost(Fraction(1), "USD", "flat") if model == "m/listed" else None


def run(*lines: str, policy: str = POLICY) -> Rehearsal:
    """Try the policy on cases, each the inside of a YAML mapping."""
    cases = [f"  - {{name: case {n}, {line}}}" for n, line in enumerate(lines)]
    return rehearse(load(policy), load_cases("\n".join(["cases:", *cases])), FlatPricer())


def decided(line: str, policy: str = POLICY) -> tuple[str, str, str | None]:
    """What a policy decides about one case."""
    found = run(f"{line}, expect: {{decision: allow}}", policy=policy).trials[0].decision
    return found.effect, found.code, found.rule


@pytest.mark.parametrize(
    ("line", "effect", "code", "rule"),
    [
        ("agent: clerk, tool: db.read", "allow", "ok", "clerk/read"),
        ("agent: clerk, tool: db.drop", "deny", "denied_by_rule", "deny/no"),
        ("agent: clerk, tool: db.read, args: {key: 1}, scope: {k: 1}", "allow", "ok", "clerk/read"),
        ("agent: clerk, tool: db.read, args: {key: 1}, scope: {k: '1'}", "deny",
         "arg.equals_scope", "clerk/read"),
        ("agent: clerk, team: other, tool: db.read", "deny", "match", "clerk/match"),
        ("agent: clerk, environment: dev, tool: db.read", "deny", "match", "clerk/match"),
        ("agent: clerk, team: desk, environment: prod, tool: db.read", "allow", "ok", "clerk/read"),
        ("agent: clerk, tool: pay", "ask", "ask", "clerk/pay"),
        ("agent: clerk, retrieval: docs, args: {query: x}", "allow", "ok", "clerk/grants[1]"),
        ("agent: clerk, delegate: early", "allow", "ok", "clerk/delegates_to"),
        ("agent: clerk, delegate: lax", "deny", "delegation", "clerk/delegates_to"),
        ("agent: clerk, model: m/own", "allow", "ok", "clerk/models/m/*"),
        ("agent: clerk, model: n/own", "deny", "model", "clerk/models"),
        ("agent: clerk, model: m/large", "deny", "denied_by_rule", "deny/no-large"),
        ("agent: ghost, tool: t", "deny", "unknown_agent", None),
        ("agent: lax, tool: t", "deny", "no_grant", None),
        (f"agent: early, tool: t, at: {NOW}", "allow", "ok", "early/only"),
        ("agent: early, tool: t, at: 2027-01-15T10:00:00+01:00", "deny", "window", "early/windows"),
        ("agent: early, tool: t, at: '2027-01-15T09:59:59.5+01:00'", "allow", "ok", "early/only"),
    ],
)  # fmt: skip
def test_decided(line: str, effect: str, code: str, rule: str | None) -> None:
    """Every kind of call, and every fact a case can have, as the policy has it."""
    assert decided(line) == (effect, code, rule)


@pytest.mark.parametrize(
    ("model", "tokens", "code"),
    [
        ("m/own", "input_tokens: 2000000, max_output_tokens: 3000000", "ok"),
        ("m/own", "input_tokens: 2000000, max_output_tokens: 3000001", "budget"),
        ("m/own", "input_tokens: 1", "unknown_price"),
        ("m/listed", "input_tokens: 1, max_output_tokens: 1", "ok"),
        ("m/secret", "input_tokens: 1, max_output_tokens: 1", "unknown_price"),
    ],
)
def test_priced_as_the_guard_does(
    home: Path, authority: Authority, clock: Any, model: str, tokens: str, code: str
) -> None:
    """With `input_tokens` a case is decided as by a guard whose budgets are still full."""
    assert decided(f"agent: clerk, model: {model}, {tokens}, at: {NOW}")[1] == code
    given: Any = {n: int(v) for n, v in (part.split(": ") for part in tokens.split(", "))}
    authority.register("clerk", team="desk", environment="prod")
    with Guard.open(home, policy=POLICY, pricer=FlatPricer(), clock=clock) as guard:
        session = guard.login(authority.issue("clerk"))
        assert guard.check(ModelCall(model, **given), session=session).code == code
        for tool in ("paid", "dear"):
            found = guard.check(ToolCall(tool), session=session)
            assert decided(f"agent: clerk, tool: {tool}") == (found.effect, found.code, found.rule)


@pytest.mark.parametrize(
    ("expect", "failures"),
    [
        ("{decision: allow, code: ok, rule: clerk/read}", []),
        ("{decision: deny}", ["decision: expected deny, found allow"]),
        ("{decision: allow, code: ask}", ["code: expected ask, found ok"]),
        ("{decision: allow, rule: clerk/x}", ["rule: expected clerk/x, found clerk/read"]),
    ],
)
def test_failures(expect: str, failures: list[str]) -> None:
    """Decision, code and rule are each compared, where they are given."""
    found = run(f"agent: clerk, tool: db.read, expect: {expect}")
    assert found.trials[0].failures == failures
    assert found.holds is (not failures)


def test_coverage() -> None:
    """Grants, approvals, deny rules and model patterns that decided no case are named."""
    found = run(
        "agent: clerk, tool: db.read, expect: {decision: allow}",
        "agent: clerk, tool: db.drop, expect: {decision: deny}",
    )
    assert found.rules == (
        "clerk/models/m/*", "clerk/read", "clerk/grants[1]", "clerk/pay", "early/only",
        "deny/no", "deny/no-large",
    )  # fmt: skip
    assert found.unreached == (
        "clerk/models/m/*", "clerk/grants[1]", "clerk/pay", "early/only", "deny/no-large",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("line", "policy", "why"),
    [
        ("agent: early, tool: t", POLICY, "has time windows"),
        ("agent: clerk, model: m/own, input_tokens: 1", POLICY, "prices change"),
        (
            "agent: clerk, tool: t",
            POLICY + "cedar: 'permit(principal, action, resource);'\n",
            "Ced",
        ),
    ],
)
def test_when_is_never_guessed(line: str, policy: str, why: str) -> None:
    """A case that hangs on the time has to say it: a test that fails at night is none."""
    with pytest.raises(ConfigurationError, match=rf"cases\.0\.at: .*{why}"):
        decided(line, policy)


@pytest.mark.parametrize(
    "value",
    ["2027-01-15", "2027-01-15T08:00:00", "yesterday", "", 1, None, "1899-01-01T00:00:00Z"],
)
def test_no_moment(value: object) -> None:
    """A time without a zone, or that is none, is refused: it would be taken as machine-local."""
    with pytest.raises(ValueError, match="expected a time"):
        parse_moment(value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("agent: a, expect: {decision: allow}", "cases.0: expected one of tool, model, retriev"),
        ("agent: a, tool: t, model: m, expect: {decision: allow}", "found tool and model"),
        ("agent: a, tool: t", "cases.0.expect: this field is required"),
        ("tool: t, expect: {decision: allow}", "cases.0.agent: this field is required"),
        ("agent: a, tool: t, expect: {decision: maybe}", "cases.0.expect.decision: "),
        ("agent: a, tool: t, expect: {decison: deny}", "did you mean `decision`?"),
        ("agent: a, tol: t, expect: {decision: deny}", "did you mean `tool`?"),
        ("agent: a b, tool: t, expect: {decision: deny}", "cases.0.agent: expected letters"),
        ("agent: a, team: ../x, tool: t, expect: {decision: deny}", "cases.0.team: expected"),
        ("agent: a, model: m, args: {x: 1}, expect: {decision: deny}", "`args` has no meaning"),
        ("agent: a, retrieval: r, args: {query: 1}, expect: {decision: deny}", "`query`, is text"),
        ("agent: a, tool: t, input_tokens: 1, expect: {decision: deny}", "tokens have no meaning"),
        ("agent: a, model: m, input_tokens: -1, expect: {decision: deny}", "input_tokens"),
        ("agent: a, tool: t, args: {1: x}, expect: {decision: deny}", "cases.0.args: "),
        ("agent: a, tool: t, at: 2027-01-15T08:00:00, expect: {decision: deny}", "cases.0.at: "),
        ("agent: a, tool: t, at: 2027-01-15, expect: {decision: deny}", "with its zone"),
    ],
)
def test_problem_is_named(line: str, message: str) -> None:
    """Each mistake is one sentence with its path."""
    with pytest.raises(ConfigurationError) as caught:
        run(line)
    assert message in str(caught.value)
    assert str(caught.value).startswith("policy test text: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n", "expected a mapping with `cases:`, found nothing"),
        ("[1]\n", "found list"),
        ("cases: []\n", "cases: "),
        ("cases: {\n", "not valid YAML"),
        ("cases: 1\ncases: 2\n", "duplicate key"),
        ("cases:\n" + "  - {name: x, agent: a, tool: t, expect: {decision: deny}}\n" * 2,
         "the case `x` is there 2 times"),
    ],
)  # fmt: skip
def test_no_cases(text: str, message: str) -> None:
    """A file without cases is no test that passes."""
    with pytest.raises(ConfigurationError) as caught:
        load_cases(text)
    assert message in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    """A file that is missing, or no text, is named."""
    with pytest.raises(ConfigurationError, match="no readable policy test file"):
        load_cases(tmp_path / "missing.yaml")
    (tmp_path / "x").write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match="not a policy test file"):
        load_cases(tmp_path / "x")


@pytest.mark.parametrize(
    ("policy", "cases"),
    [
        (EXAMPLES / "insurer.yaml", EXAMPLES / "policy.test.yaml"),
        *[(path, path.with_name("policy.test.yaml")) for path in
          [Path(__file__).parents[3] / "core/tabard/cli/starter/policy.yaml"]],
    ],
)  # fmt: skip
def test_what_we_ship(policy: Path, cases: Path) -> None:
    """The example and the starter decide as their tests say, and no rule is left out."""
    found = rehearse(load(policy), load_cases(cases), ListPricer())
    assert {t.case.name: t.failures for t in found.trials if t.failures} == {}
    assert found.unreached == ()
