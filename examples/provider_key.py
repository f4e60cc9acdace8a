"""One provider key for all agents, and no agent has it: it is added on the wire, after admission.

Run it: `python examples/provider_key.py`. The provider is a stand-in on this machine: no network.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from openai import OpenAI, PermissionDeniedError

from tabard import Authority, Guard, ModelCall
from tabard.testing.provider import StandInProvider
from tabard.transport import PLACEHOLDER, ProviderKey, Seal

POLICY = """\
version: 1
agents:
  claims-agent:
    models: {allow: ["openai/gpt-4o"]}
"""
MESSAGES: Any = [{"role": "user", "content": "Is water damage covered?"}]


def attempt(client: OpenAI, model: str) -> None:
    try:
        client.chat.completions.create(model=model, messages=MESSAGES)
        print(f"{model}: answered")
    except PermissionDeniedError as refusal:
        print(f"{model}: {refusal.code}")


def main(home: Path) -> None:
    os.environ.setdefault("EXAMPLE_PROVIDER_KEY", "sk-example-0123456789abcdef")
    authority = Authority.open(home, trust_domain="acme.example")
    authority.register("claims-agent", team="claims", environment="dev")
    guard = Guard.open(home, policy=POLICY)

    with StandInProvider() as provider:
        key = ProviderKey.from_environment("EXAMPLE_PROVIDER_KEY")
        seal = Seal("openai", key, base_url=provider.base_url)
        client = OpenAI(api_key=PLACEHOLDER, base_url=provider.base_url, http_client=seal.client())
        attempt(client, "gpt-4o")
        with guard.login(authority.issue("claims-agent")):
            attempt(client, "gpt-4o")
            with guard.admit(ModelCall("gpt-4o", provider="openai")):
                attempt(client, "gpt-5")
                attempt(client, "gpt-4o")
                attempt(client, "gpt-4o")
        print(f"the client's key: {client.api_key}, in the environment: ", end="")
        print("EXAMPLE_PROVIDER_KEY" in os.environ)
        arrived = [request.headers["authorization"] for request in provider.requests]
        print(f"what reached the provider: {arrived}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder) / ".tabard")
