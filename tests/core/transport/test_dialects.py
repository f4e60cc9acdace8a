"""The providers' ways: where the key goes, where the model stands, what counts as a limit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tabard import Authority, Guard, ModelCall, Session
from tabard.testing.provider import StandInProvider
from tabard.transport import Seal

Code = Callable[[Any], str]
HEADERS = {"authorization": "Bearer sealed", "x-api-key": "sealed", "api-key": "sealed",
           "x-goog-api-key": "sealed", "anthropic-version": "2023-06-01"}  # fmt: skip


class Way(NamedTuple):
    """A provider's way, with a call that is let through and ones that are not."""

    api: str
    header: str
    path: str
    body: dict[str, Any]
    provider: str
    refused: list[tuple[str, dict[str, Any], str]]


GEMINI = "/v1beta/models/m-1:generateContent"
AZURE = "/openai/deployments/m-1/chat/completions?api-version=2024-10-21"
WAYS = [
    Way("openai", "authorization", "/responses", {"model": "m-1", "max_output_tokens": 9}, "openai",
        [("/v1/responses", {"model": "m-1"}, "endpoint"),
         ("/responses", {"model": "m-1", "max_output_tokens": 11}, "model.max_output_tokens")]),
    Way("anthropic", "x-api-key", "/v1/messages?beta=true", {"model": "m-1", "max_tokens": 9},
        "anthropic",
        [("/v1/messages", {"model": "m-2", "max_tokens": 9}, "model"),
         ("/v1/messages", {"model": "m-1", "max_tokens": 11}, "model.max_output_tokens"),
         ("/v1/messages/batches", {"model": "m-1", "max_tokens": 9}, "endpoint"),
         ("/v1/messages", {"model": "m-1", "max_tokens": 9, "mcp_servers": [{"url": "x"}]},
          "hosted_tool"),
         ("/v1/messages", {"model": "m-1", "tools": [{"type": "web_search_20250305"}]},
          "hosted_tool"),
         ("/v1/messages", {"model": "m-1", "container": "c-1"}, "hosted_tool"),
         ("/v1/messages", {"model": "m-1", "messages": [{"content": [{"type": "document", "source":
           {"type": "file", "file_id": "f"}}]}]}, "stored_state")]),
    Way("azure", "api-key", AZURE, {"model": "m-1", "max_tokens": 9}, "azure",
        [(AZURE, {"model": "m-2", "max_tokens": 9}, "model"),
         (AZURE.replace("m-1", "m-2"), {"max_tokens": 9}, "model"),
         (AZURE.replace("m-1", "m-1%2F..%2Fm-2"), {"max_tokens": 9}, "endpoint"),
         (AZURE + "&code=x", {"max_tokens": 9}, "endpoint")]),
    Way("gemini", "x-goog-api-key", GEMINI + "?alt=sse", {"generationConfig":
        {"maxOutputTokens": 9}}, "google_genai",
        [(GEMINI, {"model": "m-2"}, "model"),
         (GEMINI.replace("m-1", "m-2"), {}, "model"),
         (GEMINI + "?key=mine", {}, "endpoint"),
         (GEMINI, {"generation_config": {"max_output_tokens": 11}}, "model.max_output_tokens"),
         (GEMINI, {"generationConfig": {"maxOutputTokens": 6, "candidateCount": 2}},
          "model.max_output_tokens"),
         (GEMINI, {"tools": [{"googleSearch": {}}]}, "hosted_tool"),
         (GEMINI, {"tools": [{"functionDeclarations": [], "codeExecution": {}}]}, "hosted_tool"),
         (GEMINI, {"cachedContent": "cachedContents/1"}, "stored_state"),
         (GEMINI, {"contents": [{"parts": [{"fileData": {"fileUri": "x"}}]}]}, "stored_state"),
         ("/v1beta/cachedContents", {"model": "m-1"}, "endpoint")]),
]  # fmt: skip


@contextmanager
def admitted(home: Path, authority: Authority, clock: Any, call: ModelCall) -> Iterator[Session]:
    """A call that was admitted by a policy that allows all models."""
    policy = 'version: 1\nagents: {claims-agent: {models: {allow: ["**"]}}}'
    with Guard.open(home, policy=policy, clock=clock) as guard:
        with guard.login(authority.issue("claims-agent")) as session, guard.admit(call):
            yield session


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.api)
def test_each_way(
    way: Way,
    home: Path,
    authority: Authority,
    clock: Any,
    provider: StandInProvider,
    seal: Seal,
    key: str,
    code: Code,
) -> None:
    """The admitted call leaves with the key where it belongs, and nowhere else."""
    base_url = provider.base_url if way.api == "openai" else provider.base_url[:-3]
    sealed = Seal(way.api, seal.key, base_url=base_url + "/")
    assert sealed.provider == way.provider
    call = ModelCall("m-1", provider=way.provider, max_output_tokens=10)
    with admitted(home, authority, clock, call), sealed.client() as client:
        for path, body, expected in way.refused:
            answer = client.post(base_url + path, json=body, headers=HEADERS)
            assert code(answer) == expected, (path, body)
        assert provider.requests == []
        assert client.post(base_url + way.path, json=way.body, headers=HEADERS).status_code == 200
    (arrived,) = provider.requests
    keys = {n: v for n, v in arrived.headers.items() if "key" in n or n == "authorization"}
    assert list(keys) == [way.header]
    assert keys[way.header].endswith(key)
    assert "sealed" not in str(arrived.headers)


def test_arguments_a_model_has_written_are_no_references(
    home: Path, authority: Authority, clock: Any, provider: StandInProvider, seal: Seal
) -> None:
    """A tool of the agent's may have a parameter called `file_id`."""
    sealed = Seal("anthropic", seal.key, base_url=provider.base_url[:-3])
    used = {"type": "tool_use", "id": "1", "name": "find", "input": {"file_id": "7"}}
    body = {"model": "m-1", "max_tokens": 5, "messages": [{"role": "assistant", "content": [used]}],
            "tools": [{"name": "find", "input_schema": {}}]}  # fmt: skip
    with admitted(home, authority, clock, ModelCall("m-1", provider="anthropic")):
        with sealed.client() as client:
            assert client.post(provider.base_url + "/messages", json=body).status_code == 200


def test_a_provider_of_another_name(
    home: Path, authority: Authority, clock: Any, provider: StandInProvider, seal: Seal, code: Code
) -> None:
    """A router speaks OpenAI's dialect, and its models are not OpenAI's."""
    sealed = Seal("openai", seal.key, base_url=provider.base_url, provider="openrouter")
    body = {"model": "openai/gpt-4o", "messages": []}
    url = f"{provider.base_url}/chat/completions"
    with sealed.client() as client:
        with admitted(home, authority, clock, ModelCall("gpt-4o", provider="openai")):
            assert code(client.post(url, json=body)) == "model"
        with admitted(home, authority, clock, ModelCall("openai/gpt-4o", provider="openrouter")):
            assert client.post(url, json=body).status_code == 200


def test_errors_come_back_readable(
    line: Any, provider: StandInProvider, session: Session, guard: Guard
) -> None:
    """What the provider says against a request, also compressed; not what it says of the key."""
    import gzip

    from tabard.testing.provider import Answer

    said = b'{"error": {"message": "max_tokens is too large"}}'
    zipped = {"content-encoding": "gzip", "retry-after": "7", "set-cookie": "a=b"}
    provider.answers.append(Answer(status=429, content=gzip.compress(said), headers=zipped))
    provider.answers.append(Answer(status=400, content=b"x" * 2_000_000))
    with session, guard.admit(ModelCall("gpt-4o", provider="openai")):
        answer = line.ask()
        assert (answer.status_code, answer.content) == (429, said)
        assert answer.headers["retry-after"] == "7"
        assert "set-cookie" not in answer.headers
        long = line.ask()
    assert long.status_code == 400
    assert "provider_error" in long.text
