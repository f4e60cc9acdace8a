"""What a policy says: each field changes a decision, and nothing unlisted is allowed."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tabard import Agent, Decision, Delegation, ModelCall, Retrieval, ToolCall
from tabard.policy import decide, load

NOW = 1_800_000_000.0

OFFICE = '{tz: Europe/Brussels, days: [mon], from: "07:30", to: "19:00"}'
TUESDAY = '{tz: Europe/Brussels, days: [tue], from: "07:30", to: "19:00"}'
NIGHT = '{tz: Europe/Brussels, days: [fri], from: "22:00", to: "06:00"}'
NOT_CHRISTMAS = '{tz: Europe/Brussels, from: "00:00", to: "24:00", except: [2026-12-25]}'
ALWAYS = '{tz: Europe/Brussels, from: "00:00", to: "24:00"}'


def agent(name: str = "clerk", team: str = "desk", environment: str = "dev") -> Agent:
    return Agent.named(name, team=team, environment=environment, trust_domain="acme.example")


def ask(
    text: str, action: Any, *, who: Agent | None = None, now: float = NOW, scope: Any = None
) -> Decision:
    return decide(who or agent(), action, load(text), now, scope=scope or {})


def granted(constraint: str, value: object, scope: Any = None) -> str:
    """The code for one argument under one constraint."""
    text = (
        "version: 1\nagents: {clerk: {scope: {claimant: optional}, "
        f"grants: [{{id: g, tools: [t], args: {{a: {constraint}}}}}]}}}}\n"
    )
    return ask(text, ToolCall("t", {"a": value}), scope=scope).code


class TestDefaults:
    def test_unlisted_agent(self) -> None:
        """An agent the policy does not name may do nothing."""
        assert ask("version: 1\nagents: {}\n", ToolCall("t")).code == "unknown_agent"

    @pytest.mark.parametrize(
        ("action", "code"),
        [
            (ToolCall("t"), "no_grant"),
            (ModelCall("gpt-4", provider="openai"), "model"),
            (Retrieval("docs"), "no_grant"),
            (Delegation("other"), "delegation"),
        ],
    )
    def test_empty_section(self, action: Any, code: str) -> None:
        """An agent with an empty section may do nothing: empty lists allow nothing."""
        assert ask("version: 1\nagents: {clerk: {}}\n", action).code == code
        explicit = (
            "version: 1\nagents: {clerk: {models: {allow: []}, grants: [], delegates_to: []}}\n"
        )
        assert ask(explicit, action).code == code

    def test_argument_no_grant_names(self) -> None:
        """A grant without `args` allows the call without arguments only."""
        text = "version: 1\nagents: {clerk: {grants: [{tools: [t]}]}}\n"
        assert ask(text, ToolCall("t")).effect == "allow"
        assert ask(text, ToolCall("t", {"x": 1})).code == "arg.unknown"

    def test_injected_argument_is_not_unknown(self) -> None:
        """What the host supplies is not refused as unknown, and is checked where it is named."""
        text = (
            "version: 1\nagents: {clerk: {grants: [{tools: [t], "
            "args: {user: {equals: u1, optional: true}}}]}}\n"
        )
        call = ToolCall("t", {"state": 1, "user": "u1"}, injected=frozenset({"state", "user"}))
        assert ask(text, call).effect == "allow"
        call = ToolCall("t", {"user": "u2"}, injected=frozenset({"user"}))
        assert ask(text, call).code == "arg.equals"


class TestArguments:
    @pytest.mark.parametrize(
        ("constraint", "good", "bad", "code"),
        [
            ("{type: integer}", 5, True, "type"),
            ("{type: integer}", 5, 5.0, "type"),
            ("{type: integer}", 5, "5", "type"),
            ("{type: number}", 5.5, float("nan"), "type"),
            ("{type: number}", 5, False, "type"),
            ("{type: string}", "x", None, "type"),
            ("{type: boolean}", True, 1, "type"),
            ("{type: array}", [1], {"0": 1}, "type"),
            ("{type: object}", {"a": 1}, [1], "type"),
            ("{equals: 1}", 1, True, "equals"),
            ("{equals: 1}", 1, 1.0, "equals"),
            ("{equals: true}", True, 1, "equals"),
            ("{equals: 'on'}", "on", True, "equals"),
            ("{enum: [a, b]}", "a", "A", "enum"),
            ("{enum: [a, b]}", "b", ["a"], "enum"),
            ("{enum: [1]}", 1, True, "enum"),
            ("{not_in: [iban]}", "name", "iban", "not_in"),
            ("{not_in: [1]}", 2, True, "not_in"),
            ("{not_in: [iban]}", "name", ["iban"], "not_in"),
            ("{prefix: POL-}", "POL-1", "xPOL-1", "prefix"),
            ("{glob: 'a.*'}", "a.b", "a.b.c", "glob"),
            ("{prefix: /data/}", "/data/..x/y", "/data/../etc/passwd", "prefix"),
            ("{prefix: /data/}", "/data/...", "/data/..", "prefix"),
            ("{glob: '/data/**'}", "/data/a..b", "/data/../etc/passwd", "glob"),
            ("{glob: '**'}", "a/b", "../a", "glob"),
            ("{glob: 'C:**'}", "C:\\a", "C:\\a\\..\\b", "glob"),
            ("{regex: '[a-z]+'}", "abc", "abc\n", "regex"),
            ("{regex: '[a-z]+$'}", "abc", "abc\n", "regex"),
            ("{regex: 'a|b'}", "b", "ab", "regex"),
            ("{regex: '.*'}", "abc", "a\nb", "regex"),
            ("{regex: '.*'}", "abc", "a" * 70_000, "regex"),
            ("{min: 1}", 1, 0, "min"),
            ("{min: 1}", 1.5, True, "min"),
            ("{max: 100}", 100, 101, "max"),
            ("{max: 100}", 100, float("nan"), "max"),
            ("{max: 100}", 100, "5", "max"),
            ("{max: 100}", 100, float("inf"), "max"),
            ("{max_length: 3}", "abc", "abcd", "max_length"),
            ("{max_length: 1}", [1], [1, 2], "max_length"),
            ("{max_length: 3}", "abc", 5, "max_length"),
            ("{each: {not_in: [iban]}}", ["name"], ["name", "iban"], "not_in"),
            ("{each: {type: integer}}", [1, 2], [1, True], "type"),
            ("{each: {type: integer}}", [], "12", "each"),
            ("{type: integer, min: 1, max: 3}", 2, 4, "max"),
        ],
    )
    def test_constraint(self, constraint: str, good: object, bad: object, code: str) -> None:
        """Each constraint lets the good value through and names itself for the bad one."""
        assert granted(constraint, good) == "ok"
        assert granted(constraint, bad) == f"arg.{code}"

    def test_any_value(self) -> None:
        """An empty constraint asks only that the argument is there."""
        assert granted("{}", {"x": [1, None]}) == "ok"

    @pytest.mark.parametrize(
        ("value", "scope", "code"),
        [
            ("C-1", {"claimant": "C-1"}, "ok"),
            ("C-2", {"claimant": "C-1"}, "arg.equals_scope"),
            ("C-1", {}, "arg.equals_scope"),
            (None, {}, "arg.equals_scope"),
            (1, {"claimant": True}, "arg.equals_scope"),
            ([True], {"claimant": [1]}, "arg.equals_scope"),
            ([1.0], {"claimant": [1]}, "arg.equals_scope"),
            ({"k": [0]}, {"claimant": {"k": [False]}}, "arg.equals_scope"),
            ([1], {"claimant": [1, 2]}, "arg.equals_scope"),
            ({"k": [1]}, {"claimant": {"k": [1]}}, "ok"),
            (["C-1"], {"claimant": "C-1"}, "arg.equals_scope"),
        ],
    )
    def test_scope(self, value: object, scope: Any, code: str) -> None:
        """`equals_scope` compares with what the host bound at login, in value and type."""
        assert granted("{equals_scope: claimant}", value, scope) == code

    def test_missing_and_optional(self) -> None:
        """A named argument is required unless it is optional."""
        text = (
            "version: 1\nagents: {clerk: {grants: "
            "[{tools: [t], args: {a: {}, b: {optional: true}}}]}}\n"
        )
        assert ask(text, ToolCall("t", {"a": 1})).effect == "allow"
        assert ask(text, ToolCall("t", {"b": 1})).code == "arg.missing"

    def test_first_fitting_grant_wins(self) -> None:
        """Several grants for one tool are alternatives; the first one's fault is told."""
        text = (
            "version: 1\nagents: {clerk: {grants: [{id: a, tools: [t], args: {x: {equals: 1}}}, "
            "{id: b, tools: ['**'], args: {x: {equals: 2}}}]}}\n"
        )
        assert ask(text, ToolCall("t", {"x": 2})).rule == "clerk/b"
        denied = ask(text, ToolCall("t", {"x": 3}))
        assert (denied.code, denied.rule) == ("arg.equals", "clerk/a")

    def test_reason_holds_no_value(self) -> None:
        """A reason never repeats what was passed, not even a name the policy does not know."""
        secret = "sk-1234567890"
        text = "version: 1\nagents: {clerk: {grants: [{tools: [t], args: {a: {enum: [x]}}}]}}\n"
        for arguments in ({"a": secret}, {"a": "x", secret: 1}):
            assert secret not in repr(ask(text, ToolCall("t", arguments)))

    def test_unknown_arguments_can_be_allowed(self) -> None:
        """`unknown_args: allow` opens a grant; what it names is still checked."""
        text = (
            "version: 1\nagents: {clerk: {grants: "
            "[{tools: [t], unknown_args: allow, args: {a: {equals: 1}}}]}}\n"
        )
        assert ask(text, ToolCall("t", {"a": 1, "b": 2})).effect == "allow"
        assert ask(text, ToolCall("t", {"a": 2, "b": 2})).code == "arg.equals"


class TestNames:
    @pytest.mark.parametrize(
        ("pattern", "name", "matches"),
        [
            ("claims_db.query", "claims_db.query", True),
            ("claims_db.query", "claims_db.Query", False),
            ("claims_db.query", "claims_db.query\n", False),
            ("claims_db.*", "claims_db.query", True),
            ("claims_db.*", "claims_db.", False),
            ("claims_db.*", "claims_db.a.b", False),
            ("claims_db.*", "claims_db", False),
            ("claims_db.*", "xclaims_db.query", False),
            ("claims_db.**", "claims_db.a.b", True),
            ("*.query", "claims_db.query", True),
            ("*.query", ".query", False),
            ("a.*.c", "a.b.c", True),
            ("a.*.c", "a..c", False),
            ("*.*", "a.b", True),
            ("*.*", "a.", False),
            ("*", "search", True),
            ("*", "a.b", False),
            ("**", "anything.at/all", True),
            ("**", "line\nbreak", True),
            ("get_*", "get_", True),
            ("get_*", "get_x.y", False),
            ("a+b", "a+b", True),
            ("a+b", "aab", False),
            ("a?c", "abc", False),
        ],
    )
    def test_glob(self, pattern: str, name: str, matches: bool) -> None:
        """Globs are anchored, case-sensitive, and know dotted segments."""
        text = f"version: 1\nagents: {{clerk: {{grants: [{{tools: ['{pattern}']}}]}}}}\n"
        assert (ask(text, ToolCall(name)).effect == "allow") is matches

    @pytest.mark.parametrize(
        ("name", "effect"),
        [
            ("openai/gpt-4", "allow"),
            ("openai/gpt-4o-mini", "allow"),
            ("openai/gpt-4-turbo-2024-04-09", "allow"),
            ("openai/gpt-4.5", "deny"),
            ("azure/gpt-4", "deny"),
            ("gpt-4", "deny"),
            ("openai/gpt-3.5-turbo", "deny"),
            ("", "deny"),
        ],
    )
    def test_model_set(self, name: str, effect: str) -> None:
        """A set stands for its patterns, over `provider/model`."""
        text = (
            "version: 1\nsets: {gpt4: ['openai/gpt-4', 'openai/gpt-4-turbo*', 'openai/gpt-4o*']}\n"
            "agents: {clerk: {models: {allow: ['@gpt4']}}}\n"
        )
        assert ask(text, ModelCall(name)).effect == effect

    def test_retrieval_is_granted_under_its_own_name(self) -> None:
        """A search is granted as `retrieval.<source>`; a tool of the same name gains nothing."""
        text = (
            "version: 1\nagents: {clerk: {grants: "
            "[{tools: [retrieval.docs], args: {query: {max_length: 5}}}]}}\n"
        )
        assert ask(text, Retrieval("docs", "short")).effect == "allow"
        assert ask(text, Retrieval("docs", "too long")).code == "arg.max_length"
        assert ask(text, ToolCall("docs", {"query": "short"})).code == "no_grant"


class TestCircumstances:
    @pytest.mark.parametrize(
        ("match", "effect"),
        [
            ("{team: desk}", "allow"),
            ("{team: [desk, claims]}", "allow"),
            ("{team: claims}", "deny"),
            ("{environment: dev}", "allow"),
            ("{environment: prod}", "deny"),
            ("{team: desk, environment: prod}", "deny"),
            ("{}", "allow"),
        ],
    )
    def test_match(self, match: str, effect: str) -> None:
        """Rules apply to the verified team and environment they name, and to no other."""
        text = f"version: 1\nagents: {{clerk: {{match: {match}, grants: [{{tools: [t]}}]}}}}\n"
        decision = ask(text, ToolCall("t"))
        assert decision.effect == effect
        assert decision.code == ("ok" if effect == "allow" else "match")

    def test_required_scope(self) -> None:
        """A required scope that was not bound at login denies every call, models too."""
        text = (
            "version: 1\nagents: {clerk: {scope: {claimant: required}, "
            "models: {allow: ['**']}, grants: [{tools: [t]}]}}\n"
        )
        for action in (ToolCall("t"), ModelCall("m")):
            assert ask(text, action).code == "scope"
            assert ask(text, action, scope={"claimant": None}).code == "scope"
            assert ask(text, action, scope={"claimant": "C-1"}).effect == "allow"

    @pytest.mark.parametrize(
        ("window", "local", "is_open"),
        [
            (OFFICE, "2026-11-23T07:30", True),
            (OFFICE, "2026-11-23T07:29", False),
            (OFFICE, "2026-11-23T19:00", False),
            (TUESDAY, "2026-11-23T12:00", False),
            (NIGHT, "2026-11-27T23:00", True),
            (NIGHT, "2026-11-28T05:59", True),
            (NIGHT, "2026-11-28T06:00", False),
            (NIGHT, "2026-11-27T05:00", False),
            (NOT_CHRISTMAS, "2026-12-25T12:00", False),
            (NOT_CHRISTMAS, "2026-12-26T00:00", True),
            (ALWAYS, "2026-11-28T23:59", True),
        ],
    )
    def test_window(self, window: str, local: str, is_open: bool) -> None:
        """Windows are half-open, wrap past midnight, and belong to the day on which they open."""
        text = (
            f"version: 1\nwindows: {{w: {window}}}\n"
            "agents: {clerk: {windows: [w], grants: [{tools: [t]}]}}\n"
        )
        now = datetime.fromisoformat(local).replace(tzinfo=ZoneInfo("Europe/Brussels")).timestamp()
        decision = ask(text, ToolCall("t"), now=now)
        assert decision.code == ("ok" if is_open else "window")

    def test_empty_window_list_is_never_open(self) -> None:
        """`windows: []` allows no time at all; leaving it out allows every time."""
        text = "version: 1\nagents: {clerk: {windows: [], grants: [{tools: [t]}]}}\n"
        assert ask(text, ToolCall("t")).code == "window"
        assert ask(text.replace("windows: [], ", ""), ToolCall("t")).effect == "allow"


class TestDenyRules:
    TEXT = (
        "version: 1\n"
        "agents: {clerk: {models: {allow: ['**']}, grants: [{tools: ['**'], unknown_args: allow}]},"
        " boss: {grants: [{tools: ['**'], unknown_args: allow}]}}\n"
        "deny:\n"
        "  - {id: no-secrets, tools: ['**'], any_arg: {regex: '(?i).*sk-[a-z0-9]{20,}.*'},"
        " reason: credential in arguments}\n"
        "  - {tools: ['payments.**'], agents: [clerk]}\n"
        "  - {id: no-mini, models: ['*/*-mini']}\n"
    )

    @pytest.mark.parametrize(
        "arguments",
        [
            {"a": "sk-" + "x" * 20},
            {"a": "SK-" + "X" * 30},
            {"a": "line\nsk-" + "x" * 20 + "\nline"},
            {"a": {"b": [{"c": "sk-" + "x" * 20}]}},
            {"sk-" + "x" * 20: 1},
            {"a": {"sk-" + "x" * 20: 1}},
            {"a": "y" * 70_000},
        ],
        ids=["plain", "case", "newline", "nested", "name", "nested name", "too long to examine"],
    )
    def test_secret_in_any_argument(self, arguments: Any) -> None:
        """A secret is found wherever it hides; what is too long to examine counts as found."""
        decision = ask(self.TEXT, ToolCall("search", arguments))
        assert (decision.code, decision.rule) == ("denied_by_rule", "deny/no-secrets")
        assert decision.reason == "credential in arguments"

    def test_beats_every_grant_for_its_agents(self) -> None:
        """A prohibition beats `**`, for the agents it names."""
        assert ask(self.TEXT, ToolCall("payments.transfer")).rule == "deny/deny[1]"
        boss = agent("boss")
        assert ask(self.TEXT, ToolCall("payments.transfer"), who=boss).effect == "allow"
        assert ask(self.TEXT, ToolCall("search", {"q": "sk-"})).effect == "allow"

    def test_models(self) -> None:
        """Models can be forbidden too."""
        assert ask(self.TEXT, ModelCall("gpt-4o-mini", provider="openai")).rule == "deny/no-mini"
        assert ask(self.TEXT, ModelCall("gpt-4o", provider="openai")).effect == "allow"

    def test_number_is_searched_as_written(self) -> None:
        """A forbidden number is found although it is no text."""
        text = self.TEXT.replace("(?i).*sk-[a-z0-9]{20,}.*", "4111[0-9]{12}")
        assert ask(text, ToolCall("pay", {"card": 4111111111111111})).code == "denied_by_rule"


class TestModes:
    def test_shadow_per_policy_and_per_agent(self) -> None:
        """Shadow mode keeps the denial and lets the call go; an agent can differ."""
        text = "version: 1\nmode: shadow\nagents: {clerk: {}, boss: {mode: enforce}}\n"
        decision = ask(text, ToolCall("t"))
        assert (decision.effect, decision.permits, decision.mode) == ("deny", True, "shadow")
        decision = ask(text, ToolCall("t"), who=agent("boss"))
        assert (decision.effect, decision.permits) == ("deny", False)

    def test_delegation(self) -> None:
        """Work may be handed to the agents that are listed."""
        text = "version: 1\nagents: {clerk: {delegates_to: [boss]}, boss: {}}\n"
        assert ask(text, Delegation("boss")).effect == "allow"
        assert ask(text, Delegation("clerk")).code == "delegation"
