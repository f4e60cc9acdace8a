"""What every test may use: a home with two agents, a clock one can turn, and a policy."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tabard import Authority, Guard, Session, underway
from tabard.background_seal import BackgroundSeal
from tabard.store.connection import create

pytest_plugins = ["tabard.testing.summary"]

NOW = 1_800_000_000.0  # Friday 2027-01-15 08:00:00 UTC

POLICY = """\
version: 1
sets: {gpt4-class: ["openai/gpt-4", "openai/gpt-4o*"]}
agents:
  claims-agent:
    match: {team: claims, environment: [prod, staging]}
    models: {allow: ["@gpt4-class"]}
    scope: {claimant_id: optional}
    grants:
      - id: claims-read
        tools: ["claims_db.query"]
        args:
          table: {enum: [claims, claim_events]}
          claimant_id: {equals_scope: claimant_id}
          max_rows: {type: integer, min: 1, max: 100, optional: true}
      - {id: lookup, tools: ["policy_lookup"], args: {policy_no: {regex: "POL-[0-9]{6,10}"}}}
  analytics-agent:
    match: {team: analytics}
    grants:
      - {id: stats, tools: ["stats.*"], unknown_args: allow}
deny:
  - id: no-secrets
    tools: ["**"]
    any_arg: {regex: "(?i).*sk-[a-z0-9]{20,}.*"}
    reason: "credential in arguments"
"""


@dataclass
class TurnableClock:
    """A clock that stands still until it is turned."""

    now: float = field(default=NOW)

    def __call__(self) -> float:
        return self.now


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep what imports CrewAI in one process: the import takes several seconds."""
    for item in items:
        if item.get_closest_marker("crewai") or "crewai" in item.path.parts:
            item.add_marker(pytest.mark.xdist_group("crewai"))


@pytest.fixture(autouse=True)
def _no_tabard_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.startswith("TABARD_")]:
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _nothing_underway() -> None:
    """All tests share one context: a call that one leaves open is not the next one's."""
    underway._entries.set(())


@pytest.fixture
def clock() -> TurnableClock:
    """A clock that stands still at `NOW` until a test turns it."""
    return TurnableClock()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Where this test's installation lives."""
    return tmp_path / "home"


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with every table and nothing in it: making the tables takes 20 ms each time."""
    path = tmp_path_factory.mktemp("database") / "state.db"
    create(path, trust_domain="acme.example")
    return path


@pytest.fixture(autouse=True)
def _seal_where_it_matters(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seal from within only where tests look at the log: it costs each of thousands a thread."""
    if not {"audit", "cli", "examples"} & set(request.path.parts):
        monkeypatch.setattr(BackgroundSeal, "count", lambda self: None)


@pytest.fixture
def authority(home: Path, clock: TurnableClock, empty_database: Path) -> Iterator[Authority]:
    """An authority with a claims agent and an analytics agent."""
    if not home.exists():
        home.mkdir(mode=0o700)
        shutil.copyfile(empty_database, home / "state.db")
        (home / "state.db").chmod(0o600)
    with Authority.open(home, trust_domain="acme.example", clock=clock) as opened:
        opened.register("claims-agent", team="claims", environment="prod")
        opened.register("analytics-agent", team="analytics", environment="prod")
        yield opened


@pytest.fixture
def policy_text() -> str:
    """The policy both agents live under."""
    return POLICY


@pytest.fixture
def guard(
    home: Path, authority: Authority, clock: TurnableClock, policy_text: str
) -> Iterator[Guard]:
    """A guard over the authority's home."""
    with Guard.open(home, policy=policy_text, clock=clock) as opened:
        yield opened


@pytest.fixture
def session(guard: Guard, authority: Authority) -> Session:
    """The claims agent's session for claimant C-1, not yet current."""
    return guard.login(authority.issue("claims-agent"), scope={"claimant_id": "C-1"})


@pytest.fixture
def log_types(guard: Guard) -> Callable[[], list[str]]:
    """The types of every record so far."""
    return lambda: [record["type"] for record in guard.records()]
