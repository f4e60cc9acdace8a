"""The net under the process: what handlers in a config do not reach. In a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tabard import Authority
from tabard_langchain import assert_installed

SCRIPT = r'''
import asyncio, contextvars, json, sys, threading
from concurrent.futures import ThreadPoolExecutor
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from tabard import AccessDenied, Guard
from tabard.testing.langchain import ScriptedChatModel
from tabard_langchain import TabardCallbackHandler, assert_installed, install, protect

home, policy, token = sys.argv[1:]
guard = Guard.open(home, policy=policy)
ran = []

@tool
def lookup(number: int) -> str:
    """Look a number up."""
    ran.append(number)
    return "found"

model = ScriptedChatModel(script=[AIMessage("x")])
try:
    assert_installed()
    raise SystemExit("not noticed")
except Exception as error:
    assert type(error).__name__ == "ConfigurationError"
install()
install()
assert_installed()

def in_thread(work):
    def run():
        caught = []
        def body():
            try:
                work()
                caught.append("ran")
            except AccessDenied as refusal:
                caught.append(refusal.code)
        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
        return caught[0]
    return run

def here(work):
    def run():
        try:
            work()
            return "ran"
        except AccessDenied as refusal:
            return refusal.code
    return run

def in_pool(work):
    def run():
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(here(work)).result()
    return run

def in_executor(work):
    async def later():
        return await asyncio.get_running_loop().run_in_executor(None, here(work))
    return lambda: asyncio.run(later())

chain = RunnableLambda(lambda n: lookup.run({"number": n}))
args = {"number": 1}
paths = {
    "invoke": here(lambda: lookup.invoke(args)),
    "callbacks=[]": here(lambda: lookup.invoke(args, config={"callbacks": []})),
    "with_config": here(lambda: lookup.with_config(callbacks=[]).invoke(args)),
    "run in a chain": here(lambda: chain.invoke(1)),
    "thread": in_thread(lambda: lookup.invoke(args)),
    "pool": in_pool(lambda: lookup.invoke(args)),
    "executor": in_executor(lambda: lookup.invoke(args)),
    "ainvoke": here(lambda: asyncio.run(lookup.ainvoke(args))),
    "batch": here(lambda: lookup.batch([args])),
    "stream": here(lambda: list(lookup.stream(args))),
    "model": here(lambda: model.invoke("hi", config={"callbacks": []})),
    "model in a thread": in_thread(lambda: model.invoke("hi")),
    "model stream": here(lambda: list(model.stream("hi"))),
    "model ainvoke": here(lambda: asyncio.run(model.ainvoke("hi"))),
}
answers = {"nobody": {}, "somebody": {}}
for name, path in paths.items():
    answers["nobody"][name] = path()
before = (len(ran), model.calls)
session = guard.login(token)
with session:
    for name, path in paths.items():
        answers["somebody"][name] = path()
    count = sum(1 for _ in guard.records())
    lookup.invoke(args, config={"callbacks": [TabardCallbackHandler()]})
    protect(lookup).invoke(args)
    twice = sum(r["type"] == "tool.decision" for r in list(guard.records())[count:])
from langchain_core.tracers import context
context._configure_hooks.clear()
try:
    assert_installed()
    noticed = False
except Exception:
    noticed = True
print(json.dumps({"answers": answers, "before": before, "twice": twice, "noticed": noticed}))
'''


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the script says: it installs the net, which cannot be taken back."""
    home = tmp_path_factory.mktemp("net") / "home"
    policy = home.with_name("policy.yaml")
    policy.write_text(
        "version: 1\nagents: {clerk: {models: {allow: [openai/gpt-4o]}, "
        "grants: [{tools: [lookup], args: {number: {}}}]}}\n"
    )
    script = Path(home.with_name("script.py"))
    script.write_text(SCRIPT)
    with Authority.open(home, trust_domain="acme.example") as authority:
        authority.register("clerk", team="desk", environment="prod")
        token = authority.issue("clerk")
    run = subprocess.run(
        [sys.executable, str(script), str(home), str(policy), token],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def test_nobody_runs_anything(told: Any) -> None:
    """On every path a call without an identity is refused, and no body runs."""
    assert set(told["answers"]["nobody"].values()) == {"no_identity"}
    assert told["before"] == [0, 0]


IN_A_THREAD = {"thread", "pool", "executor", "model in a thread"}


def test_somebody(told: Any) -> None:
    """With a session calls run; a bare thread has none of it, and is refused."""
    for name, answer in told["answers"]["somebody"].items():
        assert answer == ("no_identity" if name in IN_A_THREAD else "ran"), name


def test_asked_once(told: Any) -> None:
    """A handler or a protected tool besides the net makes no second call of it."""
    assert told["twice"] == 2


def test_taken_away(told: Any) -> None:
    assert told["noticed"]


def test_not_installed_here() -> None:
    """Nothing of the net is there before it is asked for."""
    with pytest.raises(Exception, match="was not called"):
        assert_installed()
