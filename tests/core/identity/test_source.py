"""A source under load: one thread renews, the others go on; and it survives a fork."""

from __future__ import annotations

import os
import threading
from typing import Any

from tabard import Authority
from tabard.identity import RenewingSource


def test_slow_authority_holds_up_nobody(authority: Authority, clock: Any) -> None:
    """While one thread waits for the next credential, others get the one that is alive."""
    entered, go = threading.Event(), threading.Event()
    first = authority.issue("claims-agent")
    answers = [first]

    def issue() -> str:
        if answers:
            return answers.pop()
        entered.set()
        go.wait(20)
        return authority.issue("claims-agent")

    source = RenewingSource(issue, clock=clock)
    assert source.credential() == first
    clock.now += 200
    renewing = threading.Thread(target=source.credential)
    renewing.start()
    entered.wait(20)
    assert source.credential() == first
    go.set()
    renewing.join()
    assert source.credential() != first


def test_waits_for_the_first_one(authority: Authority, clock: Any) -> None:
    """Without a credential that is alive every thread waits for the one that fetches it."""
    made: list[str] = []

    def issue() -> str:
        made.append(authority.issue("claims-agent"))
        return made[-1]

    source = RenewingSource(issue, clock=clock)
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(source.credential())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(made), set(found)) == (1, set(made))


def test_fork_while_another_thread_renews(authority: Authority, clock: Any) -> None:
    """A child does not wait for a thread that only its parent has."""
    token = authority.issue("claims-agent")
    entered, go = threading.Event(), threading.Event()

    def issue() -> str:
        if not entered.is_set():
            entered.set()
            go.wait(20)
        return token

    source = RenewingSource(issue, clock=clock)
    renewing = threading.Thread(target=source.credential)
    renewing.start()
    entered.wait(20)
    child = os.fork()
    if child == 0:
        os._exit(0 if source.credential() == token else 1)
    go.set()
    renewing.join()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_nothing_to_see(authority: Authority, clock: Any) -> None:
    """Neither the source nor what it holds shows the credential."""
    source = authority.source("claims-agent")
    token = source.credential()
    assert isinstance(token, str)
    assert token not in repr(source) + repr(source._held)
