"""What an admission costs, against the bars of the design."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from rich.console import Console
from rich.table import Table

from audit import measure_audit
from identity import measure_credentials, measure_liveness, measure_login, measure_revocation
from sealed import measure_sealed
from spending import measure_spending
from tabard import Authority, Guard, Session, ToolCall
from tabard.policy import decide, load
from tabard.store import SqliteStore
from tabard_langchain import TabardCallbackHandler, protect
from timing import Row, measure

DENY = """\
deny:
  - {id: no-secrets, tools: ["**"], any_arg: {regex: "(?i).*sk-[a-z0-9]{20,}.*"}}
"""
CALL = ToolCall("claims_db.query", {"table": "claims", "claimant_id": "C-1", "max_rows": 10})


def policy_text(rules: int, *, reads_arguments: bool = True) -> str:
    """A policy with so many grants, the one that fits last; with a rule that reads arguments."""
    filler = "\n".join(
        f"      - {{id: f{i}, tools: ['filler.t{i}'], args: {{a: {{enum: [x]}}}}}}"
        for i in range(rules - 1)
    )
    return f"""\
version: 1
agents:
  claims-agent:
    match: {{team: claims}}
    scope: {{claimant_id: required}}
    grants:
{filler}
      - id: claims-read
        tools: ["claims_db.*"]
        args:
          table: {{enum: [claims, claim_events]}}
          claimant_id: {{equals_scope: claimant_id}}
          max_rows: {{type: integer, min: 1, max: 100, optional: true}}
""" + (DENY if reads_arguments else "")


@tool("claims_db.query")
def bare(table: str, claimant_id: str, max_rows: int = 10) -> str:
    """Read claims."""
    return table


def admission(home: Path, rules: int, agents: int) -> Callable[[], object]:
    """A full admission with its outcome, over a policy and a registry of a given size."""
    session = admission_session(home, rules, agents)
    return lambda: session.guard.admit(CALL, session=session).settle()


def admission_session(home: Path, rules: int, agents: int) -> Session:
    """A session over a policy and a registry of a given size."""
    authority = Authority.open(home, trust_domain="acme.example")
    authority.register("claims-agent", team="claims", environment="prod")
    store = SqliteStore(home / "state.db")
    with store.transaction(time.time()):
        store._db.executemany(  # type: ignore[union-attr]
            "INSERT INTO agent (spiffe_id, name, team, environment, attributes, status, created_at)"
            " VALUES (?, ?, 't', 'prod', '{}', 'active', 0)",
            ((f"spiffe://acme.example/env/prod/team/t/agent/a{i}", f"a{i}") for i in range(agents)),
        )
    guard = Guard.open(home, policy=policy_text(rules))
    token = authority.issue("claims-agent", lifetime=3600)
    return guard.login(token, scope={"claimant_id": "C-1"})


def measure_admission(folder: Path) -> list[Row]:
    arguments = dict(CALL.arguments)
    works: dict[str, Callable[[], object]] = {"bare": lambda: bare.invoke(arguments)}
    sizes = [(1, 10), (100, 1_000), (1_000, 10), (10, 100_000)]
    for rules, agents in sizes:
        works[f"{rules:,} rules, {agents:,} agents"] = admission(
            folder / f"h{rules}-{agents}", rules, agents
        )
    found = measure(works)
    base = found.pop("bare")
    rows = [("bare LangChain tool.invoke", f"{base:.0f} us", "about 145 us")]
    for name, cost in found.items():
        rows.append(
            (
                f"full admission, {name}",
                f"{cost:.0f} us = {cost / base:.2f} x",
                "0.69 x (100 of 145 us)",
            )
        )
    return rows


def measure_langchain(folder: Path) -> list[Row]:
    """What the plugin adds to a tool's `invoke`, admission included."""
    session = admission_session(folder / "langchain", rules=100, agents=10)
    arguments, protected = dict(CALL.arguments), protect(bare)
    handler: RunnableConfig = {"callbacks": [TabardCallbackHandler(session)]}

    def run_protected() -> None:
        with session:
            protected.invoke(arguments)

    found = measure(
        {
            "bare": lambda: bare.invoke(arguments),
            "handler": lambda: bare.invoke(arguments, handler),
            "protect": run_protected,
        }
    )
    base = found.pop("bare")
    return [
        (f"tool.invoke with {name}", f"{cost:.0f} us = {cost / base:.2f} x", "")
        for name, cost in found.items()
    ]


def measure_decision() -> list[Row]:
    agent = Authority.open(
        tempfile.mkdtemp(prefix="tabard-bench-"), trust_domain="acme.example"
    ).register("claims-agent", team="claims", environment="prod")
    works: dict[str, Callable[[], object]] = {}
    for rules in (10, 1_000, 10_000):
        for reads in (False, True):
            name = f"decide(), {rules:,} rules" + (", one reads every argument" if reads else "")
            policy = load(policy_text(rules, reads_arguments=reads))
            works[name] = partial(decide, agent, CALL, policy, 0.0, scope={"claimant_id": "C-1"})
    return [(name, f"{cost:.1f} us", "10 us") for name, cost in measure(works).items()]


def measure_import() -> list[Row]:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}

    def cost(statement: str) -> float:
        code = f"import time; t = time.process_time(); {statement}; print(time.process_time() - t)"
        runs = [
            subprocess.run(
                [sys.executable, "-c", code],
                capture_output=True,
                text=True,
                check=True,
                env=environment,
            )
            for _ in range(9)
        ]
        return min(float(run.stdout) for run in runs)

    ratio = cost("import tabard") / cost("import jwt, cryptography, pydantic")
    return [("import tabard / import jwt, cryptography, pydantic", f"{ratio:.2f} x", "1.30 x")]


def main() -> None:
    table = Table(title="tabard: what it costs", title_justify="left")
    for column in ("work", "found", "bar"):
        table.add_column(column)
    with tempfile.TemporaryDirectory() as folder:
        for part in (
            measure_admission,
            measure_langchain,
            measure_spending,
            measure_login,
            measure_liveness,
        ):
            for row in part(Path(folder)):
                table.add_row(*row)
    for work in (
        measure_decision,
        measure_credentials,
        measure_revocation,
        measure_audit,
        measure_sealed,
        measure_import,
    ):
        for row in work():
            table.add_row(*row)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
