"""What `import tabard` gives, costs and promises; and that the documentation is true."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

import tabard
from tabard import errors
from tabard.policy import load

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(tabard.__path__, "tabard.")
    if not module.name.startswith("tabard.testing.")
)


def test_all_is_sorted_and_true() -> None:
    """`__all__` is sorted, and every name in it is there."""
    for name in ["tabard", "tabard.identity", "tabard.policy", "tabard.audit", "tabard.store",
                 "tabard.transport"]:  # fmt: skip
        module = importlib.import_module(name)
        assert list(module.__all__) == sorted(module.__all__)
        assert all(hasattr(module, public) for public in module.__all__)


def test_import_loads_no_framework_and_nothing_heavy() -> None:
    """`import tabard` loads neither framework, nor what only some commands need."""
    code = "import tabard, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    heavy = {"langchain_core", "langchain", "langgraph", "crewai", "pydantic", "ruamel", "typer",
             "rich", "sqlite_utils"}  # fmt: skip
    assert "tabard" in loaded
    assert loaded & heavy == set()


def test_every_error_is_ours_and_carries_its_code() -> None:
    """Every error has one root, and each refusal can be told apart by class and code."""
    classes = [v for v in vars(errors).values() if isinstance(v, type)]
    assert all(issubclass(kind, errors.TabardError) for kind in classes)
    for kind in classes:
        assert kind.__name__ in (errors.__doc__ or "")
        if issubclass(kind, errors.AccessDenied):
            made = kind(code="c", reason="r", agent="a", action="x", rule="y")
            assert (made.code, made.agent, made.action, made.rule) == ("c", "a", "x", "y")


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name: str) -> None:
    """Every example in a docstring gives what it says."""
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(), re.DOTALL)


def test_policy_of_the_readme() -> None:
    """The README's policy loads, and every field it shows is described in docs/policy.md."""
    [text] = blocks(ROOT / "README.md", "yaml")
    assert "claims-agent" in load(text).agents
    described = (ROOT / "docs" / "policy.md").read_text()

    def fields(value: Any) -> set[str]:
        if isinstance(value, dict):
            return set(value).union(*map(fields, value.values()))
        return set().union(*map(fields, value)) if isinstance(value, list) else set()

    made_up = {"claims-agent", "table", "claimant_id", "max_rows"}
    for field in fields(YAML(typ="safe").load(text)) - made_up:
        assert f"`{field}" in described or f"{field}" in described, field


def test_every_constraint_is_documented() -> None:
    """docs/policy.md names every field of the schema."""
    from tabard.policy.schema import schema

    described = (ROOT / "docs" / "policy.md").read_text()
    document = schema()
    for section in (document, *document["$defs"].values()):
        for field in section.get("properties", {}):
            assert field in described, f"{section['title']}.{field}"


def test_readme_snippets_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The README's LangChain and plain Python examples run as they stand."""
    from langchain.agents import create_agent
    from langchain_core.messages import AIMessage

    from tabard import AccessDenied, ToolCall
    from tabard.testing.langchain import ScriptedChatModel

    monkeypatch.chdir(tmp_path)
    [policy] = blocks(ROOT / "README.md", "yaml")
    (tmp_path / "policy.yaml").write_text(
        policy.replace("grants:", "grants:\n      - {tools: [transfer], unknown_args: allow}", 1)
        .replace("{equals_scope: claimant_id}", "{equals_scope: claimant_id, optional: true}")
    )  # fmt: skip
    langchain, _, plain = blocks(ROOT / "README.md", "python")
    space: dict[str, Any] = {
        "agent": create_agent(ScriptedChatModel(script=[AIMessage("yes")]), []),
        "question": {"messages": [("user", "covered?")]},
        "run_query": lambda: ["row"],
        "ToolCall": ToolCall,
    }
    exec(langchain, space)
    space["token"] = space["authority"].issue("claims-agent")
    real_login = space["guard"].login
    space["guard"].login = lambda c: real_login(c, scope={"claimant_id": "C-1"})
    exec(plain, space)
    assert space["rows"] == ["row"]
    with pytest.raises(AccessDenied, match="no_identity"):
        space["transfer"]("CLM-1", 5)
    with pytest.raises(AccessDenied, match="token_revoked"):
        space["guard"].login(space["token"])


def test_provider_key_snippet_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What docs/provider-key.md shows works, with the address of a stand-in for the provider's."""
    from tabard import Authority, Guard
    from tabard.testing.provider import StandInProvider

    [piece] = blocks(ROOT / "docs" / "provider-key.md", "python")
    authority = Authority.open(tmp_path, trust_domain="acme.example")
    authority.register("a", team="t", environment="prod")
    policy = 'version: 1\nagents: {a: {models: {allow: ["openai/gpt-4o"]}}}'
    with StandInProvider() as provider, Guard.open(tmp_path, policy=policy) as guard:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-real-0123456789")
        monkeypatch.setenv("OPENAI_BASE_URL", provider.base_url)
        piece = piece.replace(
            '("OPENAI_API_KEY"))', f'("OPENAI_API_KEY"), base_url="{provider.base_url}")'
        )
        exec(piece, {"guard": guard, "source": authority.issue("a"), "messages": []})
        assert provider.requests[0].headers["authorization"] == "Bearer sk-real-0123456789"


def test_refusals_of_the_seal_are_documented() -> None:
    """docs/provider-key.md names every code the transport can refuse with."""
    described = (ROOT / "docs" / "provider-key.md").read_text()
    sources = sorted((ROOT / "core" / "tabard" / "transport").glob("*.py"))
    text = "".join(source.read_text() for source in sources)
    codes = set(re.findall(r'(?:code=|refusal\()"([a-z_.]+)"', text))
    assert len(codes) > 10
    assert {code for code in codes if f"`{code}`" not in described} == set()


def test_identity_snippets_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What docs/identity.md shows works as it stands, one piece after the other."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "policy.yaml").write_text(
        "version: 1\n"
        "agents:\n"
        "  claims-agent:\n"
        "    delegates_to: [payout-agent]\n"
        "    scope: {claimant_id: optional}\n"
        "    grants: [{tools: ['**'], unknown_args: allow}]\n"
        "  payout-agent: {grants: [{tools: ['**'], unknown_args: allow}]}\n"
    )
    space: dict[str, Any] = {}
    pieces = blocks(ROOT / "docs" / "identity.md", "python")
    assert len(pieces) > 5
    for piece in pieces:
        exec(piece, space)
    assert space["guard"].verify().records > 20
