"""What the seal adds to a request, beside the admission; the provider is on this machine."""

from __future__ import annotations

import tempfile
from pathlib import Path

import httpx

from tabard import Authority, Guard, ModelCall
from tabard.testing.provider import StandInProvider
from tabard.transport import ProviderKey, Seal
from timing import Row, measure

POLICY = 'version: 1\nagents: {a: {models: {allow: ["openai/gpt-4o"]}}}'
BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "x" * 800}]}


def measure_sealed() -> list[Row]:
    """CPU of the caller's thread alone: what the server does is on others."""
    with tempfile.TemporaryDirectory() as folder, StandInProvider(keep_alive=True) as provider:
        home = Path(folder) / "home"
        authority = Authority.open(home, trust_domain="acme.example")
        authority.register("a", team="t", environment="prod")
        guard = Guard.open(home, policy=POLICY)
        session = guard.login(authority.issue("a", lifetime=3600))
        seal = Seal("openai", ProviderKey(lambda: "sk-0123456789"), base_url=provider.base_url)
        url, call = f"{provider.base_url}/chat/completions", ModelCall("gpt-4o", provider="openai")
        plain, sealed = httpx.Client(), seal.client()

        def ask_sealed() -> None:
            with session, guard.admit(call):
                sealed.post(url, json=BODY).raise_for_status()

        found = measure(
            {
                "plain": lambda: plain.post(url, json=BODY),
                "admission": lambda: guard.admit(call, session=session).settle(),
                "sealed": ask_sealed,
            },
            calls=40,
        )
    base, own = found["plain"], found["sealed"] - found["admission"]
    return [
        ("httpx request, plain", f"{base:.0f} us", ""),
        ("httpx request under seal, admission apart", f"{own:.0f} us = {own / base:.2f} x", "2 x"),
    ]
