"""What the loader refuses, and that it says where, what was found and what was expected."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tabard import ConfigurationError, TabardError
from tabard.budget import ListPricer, TokenUsage
from tabard.budget.money import NANO
from tabard.policy import load
from tabard.policy.document import Constraint

HEAD = "version: 1\n"


def message(text: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(HEAD + text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("agnets: {}", ["agnets", "unknown field", "did you mean `agents`"]),
        ("agents: {a: {grant: []}}", ["agents.a.grant", "did you mean `grants`"]),
        (
            "agents: {a: {grants: [{tool: [x]}]}}",
            ["agents.a.grants.0.tool", "did you mean `tools`"],
        ),
        ("agents: {a: {grants: [{id: g}]}}", ["agents.a.grants.0.tools", "required"]),
        ("agents: {a: {grants: [{tools: []}]}}", ["agents.a.grants.0.tools"]),
        ("agents: {a: {grants: [{tools: x}]}}", ["agents.a.grants.0.tools", "found 'x'"]),
        ("agents: {a: {grants: [{tools: ['***']}]}}", ["never `***`"]),
        ("agents: {a: {grants: [{tools: [t], args: {x: {regex: '(a'}}}]}}", ["args.x", "RE2"]),
        ("agents: {a: {grants: [{tools: [t], args: {x: {regex: '(?=a)'}}}]}}", ["args.x", "RE2"]),
        ("agents: {a: {grants: [{tools: [t], args: {x: {enum: []}}}]}}", ["args.x.enum"]),
        ("agents: {a: {grants: [{tools: [t], args: {x: {min: .nan}}}]}}", ["args.x", "NaN"]),
        ("agents: {a: {grants: [{tools: [t], args: {x: {max_length: -1}}}]}}", ["max_length"]),
        (
            "agents: {a: {grants: [{tools: [t], args: {x: {typ: string}}}]}}",
            ["did you mean `type`"],
        ),
        (
            "agents: {a: {grants: [{tools: [t], args: {x: {equals_scope: k}}}]}}",
            ["agents.a.grants.0.args.x.equals_scope", "no scope key `k`"],
        ),
        (
            "agents: {a: {grants: [{tools: [t], args: {x: {each: {equals_scope: k}}}}]}}",
            ["no scope key `k`"],
        ),
        ("agents: {a: {grants: [{id: g, tools: [t]}, {id: g, tools: [u]}]}}", ["is there 2 times"]),
        *(
            (
                f"agents: {{a: {{grants: [{{tools: [t], args: {{x: {condition}}}}}]}}}}",
                ["agents.a.grants.0.args.x", part],
            )
            for condition, part in (
                ("{min: 5, max: 1}", "no number is at least 5"),
                ("{type: integer, regex: ab}", "`regex`, `type` can never hold"),
                ("{type: string, max: 5}", "`max`, `type`"),
                ("{type: object, each: {}}", "`each`, `type`"),
                ("{type: boolean, max_length: 5}", "`max_length`, `type`"),
                ("{prefix: a, min: 1}", "`prefix`, `min`"),
                ("{type: string, enum: [1]}", "`enum`, `type`"),
                ("{type: string, enum: [a, 1]}", "the value 1 can never hold: `type`"),
                ("{equals: a, enum: [b]}", "can never hold"),
                ("{equals: a, not_in: [a]}", "the value 'a' can never hold: `not_in`"),
                ("{equals: 1.0, type: integer}", "`equals`, `type`"),
                ("{enum: [.nan]}", "can never hold"),
                ("{each: {min: 5, max: 1}}", "no number"),
                ("{prefix: ../data}", "`prefix` never holds"),
                ("{glob: '/a/../**'}", "`glob` never holds"),
            )
        ),
        (
            "agents: {a: {approvals: [{tools: [t], when: {x: {}}, by: r, show: [x, typo]}]}}",
            ["agents.a.approvals.0", "`show` names `typo`"],
        ),
        ("agents: {a: {windows: [w]}}", ["agents.a.windows", "no window `w`"]),
        ("agents: {a: {models: {allow: ['@s']}}}", ["agents.a.models.allow", "no set `@s`"]),
        ("currency: euro", ["currency", "euro"]),
        ("fx: {USD: {rate: 0.93, as_of: 2026-11-20}}", ["fx.USD.rate", "in quotes"]),
        ("fx: {USD: {rate: '0', as_of: 2026-11-20}}", ["fx.USD.rate", "more than zero"]),
        ("fx: {USD: {rate: '0.93'}}", ["fx.USD.as_of", "required"]),
        ("fx: {EUR: {rate: '1', as_of: 2026-11-20}}", ["fx.EUR", "own currency"]),
        ("prices: {m: {input: '1', output: '2', currency: USD}}", ["prices.m.currency", "`USD`"]),
        ("prices: {m: {input: 1.5, output: '2'}}", ["prices.m.input", "in quotes"]),
        ("prices: {m: {input: '-1', output: '2'}}", ["prices.m.input", "in quotes"]),
        ("data_classes: []", ["data_classes"]),
        ("data_classes: [a, a]", ["data_classes", "is there 2 times"]),
        ("purposes: {p: {legal_basis: because}}", ["purposes.p.legal_basis", "because"]),
        ("purposes: {p: {retention_days: 0}}", ["purposes.p.retention_days", "0"]),
        ("tools: {t: {data_class: secret}}", ["tools.t.data_class", "no data class `secret`"]),
        ("tools: {t: {purposes: [p]}}", ["tools.t.purposes", "no purpose `p`"]),
        ("tools: {t: {cost: 0.5}}", ["tools.t.cost", "in quotes"]),
        ("tools: {'a***': {}}", ["tools", "never `***`"]),
        ("agents: {a: {purpose: p}}", ["agents.a.purpose", "no purpose `p`"]),
        ("agents: {a: {max_data_class: x}}", ["agents.a.max_data_class", "no data class `x`"]),
        (
            "agents: {a: {grants: [{tools: [t]}]}}\ntools: {t: {data_class: personal}}",
            ["agents.a.grants.0.tools", "`personal`", "`public`"],
        ),
        (
            "agents: {a: {approvals: [{tools: [t], by: r}]}}\ntools: {t: {data_class: personal}}",
            ["agents.a.approvals.0.tools", "`personal`"],
        ),
        ("agents: {a: {models: {allow: [], max_output_tokens: 0}}}", ["max_output_tokens", "0"]),
        ("agents: {a: {budgets: [{per: week, limit: '1'}]}}", ["budgets.0.per", "week"]),
        ("agents: {a: {budgets: [{per: day, limit: 1.5}]}}", ["budgets.0.limit", "in quotes"]),
        ("agents: {a: {budgets: [{per: day, limit: '1', tz: Mars}]}}", ["budgets.0.tz", "Mars"]),
        (
            "agents: {a: {budgets: [{per: session, limit: '1', of: team}]}}",
            ["budgets.0", "one agent's"],
        ),
        (
            "agents: {a: {budgets: [{per: total, limit: '1', tz: Europe/Brussels}]}}",
            ["budgets.0", "`tz` has no meaning"],
        ),
        (
            "agents: {a: {budgets: [{per: day, limit: '1'}, {per: day, limit: '2'}]}}",
            ["agents.a.budgets", "is there 2 times"],
        ),
        ("agents: {a: {rates: [{tools: [t], limit: 0, per: 1m}]}}", ["rates.0.limit", "0"]),
        ("agents: {a: {rates: [{tools: [t], limit: 1, per: 60}]}}", ["rates.0.per", "such as 30s"]),
        ("agents: {a: {rates: [{tools: [t], limit: 1, per: 1w}]}}", ["rates.0.per", "1w"]),
        ("agents: {a: {approvals: [{tools: [t]}]}}", ["approvals.0.by", "required"]),
        ("agents: {a: {approvals: [{tools: [t], by: r, ttl: x}]}}", ["approvals.0.ttl", "15m"]),
        (
            "agents: {a: {grants: [{id: g, tools: [t]}], approvals: [{id: g, tools: [u], by: r}]}}",
            ["grants and approvals", "`g`", "is there 2 times"],
        ),
        ("on_error: allow", ["on_error", "allow"]),
        ("tools: {t: {cost: '1000001'}}", ["tools.t.cost"]),
        (
            "agents: {a: {budgets: [{per: day, limit: '1', of: team}]}, "
            "b: {budgets: [{per: day, limit: '1', of: team, tz: Europe/Brussels}]}}",
            ["agents.b.budgets.0.tz", "another team budget has `UTC`"],
        ),
        ("sets: {a: [m], b: ['@a', n]}", ["sets.b", "cannot hold another one", "`@a`"]),
        ("deny: [{models: ['openai/*']}]", ["deny.0.models", "write `openai/**`"]),
        (
            "sets: {all: ['openai/*']}\ndeny: [{models: ['@all']}]",
            ["deny.0.models", "`openai/*` of `@all`", "write `openai/**`"],
        ),
        ("sets: {all: ['*']}\ndeny: [{models: ['@all']}]", ["deny.0.models", "write `**`"]),
        ("cedar: 'permit('", ["cedar", "not a Cedar policy set"]),
        ("cedar: 'permit(principal == ?principal, action, resource);'", ["cedar", "templates"]),
        ("agents: {a: {mode: off}}", ["agents.a.mode", "found 'off'"]),
        ("agents: {a: {scope: {k: maybe}}}", ["agents.a.scope.k"]),
        ("agents: {'a b': {}}", ["agents.a b"]),
        ("agents: [a]", ["agents"]),
        ("windows: {w: {tz: Mars/Base, from: '07:30', to: '19:00'}}", ["unknown time zone"]),
        ("windows: {w: {tz: UTC, from: 7, to: '19:00'}}", ["windows.w.from", "time of day"]),
        ("windows: {w: {tz: UTC, from: '7:30', to: '19:00'}}", ["time of day"]),
        ("windows: {w: {tz: UTC, from: '24:00', to: '19:00'}}", ["windows.w.from"]),
        ("windows: {w: {tz: UTC, days: [monday], from: '07:30', to: '19:00'}}", ["days.0"]),
        ("deny: [{id: x}]", ["deny.0", "`tools` or `models`"]),
        ("deny: [{tools: ['*']}]", ["deny.0", "says `**`"]),
        ("deny: [{models: ['**'], any_arg: {regex: x}}]", ["deny.0", "a model call has none"]),
        ("deny: [{tools: [t], agents: [ghost]}]", ["deny.0.agents", "no agent `ghost`"]),
        ("deny: [{id: d, tools: [t]}, {id: d, tools: [u]}]", ["deny", "is there 2 times"]),
        ("agents: {a: {}}\nagents: {b: {}}", ["not valid YAML", "duplicate key"]),
        ("agents: {a: {", ["not valid YAML"]),
        ("version: !!bool x", ["not valid YAML"]),
        ("version: 1\nagents: !!bool maybe", ["not valid YAML"]),
        ("version: !!timestamp x", ["not valid YAML"]),
        ("version: !!float []", ["not valid YAML"]),
        ("mode: !!python/object/apply:os.system [id]", ["not valid YAML"]),
    ],
)
def test_problem_is_named(text: str, parts: list[str]) -> None:
    """Each mistake is one sentence with its path."""
    said = message(text)
    for part in parts:
        assert part in said


def test_all_problems_at_once() -> None:
    """Every problem of a file is told in one go, one a line."""
    said = message("agents: {a: {grant: [], mode: off, windows: 5}}")
    assert len(said.splitlines()) == 3


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "found nothing"),
        (b"- a\n- b\n", "found list"),
        (b"just text", "found str"),
        (b"\xff\xfe", "not UTF-8"),
        (b"version: 2\n", "version"),
        (b"agents: {}\n", "version: this field is required"),
        (b"a: " + b"[" * 5000, "not valid YAML"),
        (b"x" * 5_000_000, "larger than"),
    ],
    ids=["empty", "list", "text", "binary", "version", "no version", "deep", "huge"],
)
def test_file_is_named(tmp_path: Path, content: bytes, part: str) -> None:
    """A file that is no policy is named together with what is wrong."""
    path = tmp_path / "policy.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert part in str(caught.value)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    """A path that is not there, or is a folder, is named."""
    with pytest.raises(ConfigurationError, match="no readable policy file"):
        load(tmp_path / "none.yaml")
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(ConfigurationError, match="not a file"):
            load(path)


@pytest.mark.parametrize("source", [5, b"version: 1", None, ["a"], "a\0b", "\ud800"])
def test_no_path_at_all(source: Any) -> None:
    """What is no path and no text is one of our errors."""
    with pytest.raises(ConfigurationError, match="policy"):
        load(source)


def test_yaml_is_version_1_2(tmp_path: Path) -> None:
    """`on`, `no` and `07:30` are text, as YAML 1.2 says."""
    path = tmp_path / "policy.yaml"
    path.write_text(
        "version: 1\n"
        "windows: {w: {tz: UTC, from: 07:30, to: 19:00}}\n"
        "agents: {on: {grants: [{tools: [no]}]}}\n"
    )
    assert "on" in load(path).agents


def test_digest_is_of_the_meaning() -> None:
    """Comments and the order of keys do not change the digest; a rule does."""
    one = load("version: 1\nagents: {a: {}, b: {}}\n")
    two = load("# note\nagents: {b: {}, a: {}}\nversion: 1\n")
    three = load("version: 1\nagents: {a: {}, b: {mode: shadow}}\n")
    assert one.digest == two.digest != three.digest


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=200) | st.from_regex(r"(version: 1\n)?[a-z]+: [\[\]{}a-z, :\n]*"))
def test_only_our_errors_come_out(text: str) -> None:
    """Whatever the text, the loader answers with a policy or with one of our errors."""
    try:
        policy = load(text + "\n")
    except TabardError:
        return
    assert policy.digest


REVERSED = """\
version: 1
prices:
  "{0}": {{input: "{1}", output: "1"}}
  "{2}": {{input: "{3}", output: "1"}}
agents: {{a: {{models: {{allow: ["**"]}}}}}}
"""


@pytest.mark.parametrize(
    ("one", "other", "counts"),
    [
        (("openai/**", 1), ("openai/gpt-4o", 100), 100),
        (("openai/**", 100), ("openai/gpt-4o", 1), 1),
        (("openai/**", 1), ("openai/gpt*", 100), 100),
        (("openai/gpt-4*", 7), ("openai/*pt-4o", 9), 9),  # equally close: the dearest
    ],
)
def test_order_of_prices_does_not_count(
    one: tuple[str, int], other: tuple[str, int], counts: int
) -> None:
    """Two files of one digest charge the same: the closest pattern's price, wherever it stands."""
    policies = [load(REVERSED.format(*a, *b)) for a, b in ((one, other), (other, one))]
    assert policies[0].digest == policies[1].digest
    usage = TokenUsage(input_tokens=1_000_000, output_tokens=0)
    for policy in policies:
        price = policy.tariff.price("openai/gpt-4o", usage, ListPricer(), 2e9)
        assert price is not None
        assert price.amount == counts * NANO


def test_order_of_tools_and_names_does_not_count() -> None:
    """What is on record of a tool, and which missing name is told, is that of the digest."""
    files = (
        "tools: {'pay*': {asset: a}, pay: {asset: b}}\nagents: {a: {scope: {x: required, "
        "y: required}, grants: [{tools: [pay], args: {m: {}, n: {}}}]}}\n",
        "tools: {pay: {asset: b}, 'pay*': {asset: a}}\nagents: {a: {scope: {y: required, "
        "x: required}, grants: [{tools: [pay], args: {n: {}, m: {}}}]}}\n",
    )
    one, two = (load(HEAD + text) for text in files)
    assert one.digest == two.digest
    assert one.tools.facts("pay") == two.tools.facts("pay")
    assert one.agents["a"].required_scope == two.agents["a"].required_scope
    rules = [p.agents["a"].grants.matching("pay")[0].required for p in (one, two)]
    assert rules[0] == rules[1]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("agents: {a: {match: {team: }}}", "agents.a.match.team"),
        ("agents: {a: {windows: }}", "agents.a.windows"),
        ("agents: {a: {mode: ~}}", "agents.a.mode"),
        ("agents: {a: {models: {allow: [m], max_output_tokens: }}}", "models.max_output_tokens"),
        *(
            (f"agents: {{a: {{grants: [{{tools: [t], args: {{x: {{{name}: null}}}}}}]}}}}", name)
            for name in Constraint.model_fields
        ),
        ("agents: {a: {grants: [{tools: [t], args: {x: {enum: [null]}}}]}}", "x.enum.0"),
        ("agents: {a: {grants: [{tools: [t], args: {x: {each: {max: }}}}]}}", "x.each.max"),
        ("agents: {a: {grants: [{tools: [t], args: {x: }}]}}", "args.x"),
        ("agents: {a: }", "agents.a"),
        ("agents:", "agents"),
        ("deny: [{tools: [t], agents: }]", "deny.0.agents"),
        ("deny: [{tools: [t], any_arg: }]", "deny.0.any_arg"),
        ("tools: {t: {purposes: }}", "tools.t.purposes"),
        ("cedar:", "cedar"),
        ("prices: {m: {input: '1', output: '1', cache_write: }}", "prices.m.cache_write"),
    ],
)
def test_nothing_is_left_empty(text: str, path: str) -> None:
    """A condition whose value was left out is told, and not taken for no condition."""
    assert f"{path}: left empty" in message(text)
    assert len(message(text).splitlines()) == 1


def test_empty_in_an_alias_of_itself() -> None:
    """Looking for what was left empty ends, whatever the aliases of the YAML do."""
    assert "x.y" in message("x: &a {y: , z: *a}")
    bomb = "a: &a0 [x]\n" + "".join(f"a{n}: &a{n + 1} [{f'*a{n},' * 9}]\n" for n in range(30))
    assert "unknown field" in message(bomb)


@pytest.mark.parametrize(
    "condition",
    [
        "{min: 5, max: 5}",
        "{type: number, enum: [1, 1.5]}",
        "{enum: [a, 1, true]}",
        "{type: string, prefix: a, glob: 'a*', regex: 'a.', max_length: 5, not_in: [ab]}",
        "{type: array, each: {type: integer, min: 1}, max_length: 3}",
        "{equals: false, type: boolean}",
        "{equals: a, enum: [a]}",
    ],
)
def test_what_can_hold_loads(condition: str) -> None:
    """Conditions that one value can meet are no contradiction."""
    assert load(f"{HEAD}agents: {{a: {{grants: [{{tools: [t], args: {{x: {condition}}}}}]}}}}\n")


def test_show_of_an_unnamed_argument() -> None:
    """Where any argument is let through, any can be shown."""
    rule = "{tools: [t], unknown_args: allow, by: r, show: [x]}"
    assert load(f"{HEAD}agents: {{a: {{approvals: [{rule}]}}}}\n")
