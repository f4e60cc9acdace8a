"""The examples run, and show what they promise."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name: str, monkeypatch: pytest.MonkeyPatch, *arguments: Path) -> None:
    """Run an example's main() in this process: CrewAI is imported once for all tests."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    runpy.run_path(str(EXAMPLES / name))["main"](*arguments)


def test_langchain_callback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One handler: a model call and a tool call allowed, one tool call refused."""
    run("langchain_callback.py", monkeypatch, tmp_path / "home")
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["Take an umbrella.", "rain in Ghent"]
    assert lines[2].startswith("refused: arg.enum")
    assert lines[3:] == [
        "weather-agent openai/gpt-4o-mini allow",
        "weather-agent forecast allow",
        "weather-agent forecast deny",
    ]


def test_budgets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each agent is stopped exactly at its own limit, and neither by the other's spending."""
    run("budgets.py", monkeypatch, tmp_path)
    out = capsys.readouterr().out
    assert "arg.equals_scope" in out
    assert "claims-agent after 10 calls: budget" in out
    assert "analytics-agent after 100 calls: budget" in out
    assert "claims-agent: EUR 100.00 of EUR 100.00" in out
    assert "analytics-agent: EUR 1,000.00 of EUR 1,000.00" in out


def test_provider_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One request reaches the provider, with the real key; the agent's client has none."""
    run("provider_key.py", monkeypatch, tmp_path / "home")
    assert capsys.readouterr().out.splitlines() == [
        "gpt-4o: no_identity",
        "gpt-4o: not_admitted",
        "gpt-5: model",
        "gpt-4o: answered",
        "gpt-4o: permit_spent",
        "the client's key: sealed, in the environment: False",
        "what reached the provider: ['Bearer sk-example-0123456789abcdef']",
    ]


@pytest.mark.crewai
class TestWithCrewAI:
    @pytest.fixture(autouse=True)
    def _fresh_hooks(self) -> Iterator[None]:
        # CrewAI's hooks are for the whole process; each example starts as it would on its own.
        from tabard_crewai import uninstall

        uninstall()
        yield
        uninstall()

    def test_crewai_tools(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A bound agent: one tool call allowed, one refused, and the model told why."""
        run("crewai_tools.py", monkeypatch, tmp_path / "home")
        out = capsys.readouterr().out
        assert "Twelve boxes." in out
        assert [out.count(f"stock-agent stock.count {e}") for e in ("allow", "deny")] == [1, 1]
        assert out.count("stock-agent openai/gpt-4o allow") == 3
        assert "what the model was told: Denied: argument `shelf` fails" in out

    def test_hierarchical_crew(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Who did what for whom; the payer alone may pay 640, the one it works for may not."""
        run("hierarchical_crew.py", monkeypatch, tmp_path / "home")
        out = capsys.readouterr().out
        assert "500 of 640 are paid." in out
        assert [
            line.split() for line in out.splitlines() if line[:4] in ("lead", "adju", "paye")
        ] == [
            ["lead", "delegate_work_to_coworker", "allow", "ok"],
            ["lead", "adjuster", "allow", "ok"],
            ["adjuster", "for", "lead", "claims.read", "allow", "ok"],
            ["lead", "delegate_work_to_coworker", "allow", "ok"],
            ["lead", "payer", "allow", "ok"],
            ["payer", "for", "lead", "payments.transfer", "deny", "arg.max"],
            ["payer", "for", "lead", "payments.transfer", "allow", "ok"],
        ]

    def test_quickstart(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The demo shows before, after, three refusals, a revocation, and a broken log."""
        run("quickstart.py", monkeypatch, tmp_path)
        before, after = capsys.readouterr().out.split("2. AFTER")
        assert before.count("sk-live-...7Qd2") == 5
        for part in (
            "refused: no_grant",
            "refused: arg.equals_scope",
            "refused: model: the model is not on the agent's list (openai/gpt-3.5-turbo)",
            "payments made meanwhile: 0",
            "its very next call: token_revoked",
            "records verified, none changed or missing",
            "one byte flipped in a copy: entry",
            "was changed",
            'config={"callbacks": [TabardCallbackHandler()]}',
        ):
            assert part in after
        revoked = after.split("4. The claims agent")[1]
        assert "token_revoked" in revoked
        assert "analytics-agent" in revoked


@pytest.mark.parametrize(
    "name", ["quickstart.py", "langchain_callback.py", "crewai_tools.py", "budgets.py"]
)
def test_examples_are_short(name: str) -> None:
    """An example that does not fit on two screens is not read."""
    assert len((EXAMPLES / name).read_text().splitlines()) <= 80
