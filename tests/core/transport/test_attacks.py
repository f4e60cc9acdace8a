"""Requests that try to take the key elsewhere, or to ask for more than anybody has admitted."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest

from tabard import Permit
from tabard.testing.provider import Answer, StandInProvider
from tabard.transport import Seal
from tabard.transport import sealed as transport

Code = Callable[[Any], str]
HI = '"messages": [{"role": "user", "content": "hi"}]'


@pytest.fixture
def elsewhere() -> Iterator[StandInProvider]:
    """A server that must never hear of the key."""
    with StandInProvider() as running:
        yield running


PATHS = (
    "/files", "/batches", "/models", "/responses/resp_1", "/threads", "/vector_stores", "/images",
    "/fine_tuning/jobs", "/chat/completions/", "//chat/completions", "/chat%2Fcompletions", "",
    "/chat/completions/../files", "/../v1/files", "/chat/completions?key=1", "/moderations",
    "/chat/completions/chatcmpl-1", "/embeddings/../files", "/organization/admin_api_keys",
)  # fmt: skip


def test_only_calls_of_models(
    sync_line: Any, provider: StandInProvider, admitted: Permit, code: Code
) -> None:
    """K6: what is stored at the provider, and everything nobody knows, stays closed."""
    for path in PATHS:
        answer = sync_line.send(path=path, json={"model": "gpt-4o", "messages": []})
        assert code(answer) == "endpoint", path
    assert provider.requests == []


def test_only_post(sync_line: Any, admitted: Permit, code: Code) -> None:
    """Reading and deleting are no calls of a model."""
    for method in ("GET", "DELETE", "PUT", "PATCH", "OPTIONS"):
        answer = sync_line.send(method, json={"model": "gpt-4o", "messages": []})
        assert code(answer) == "endpoint"


def test_another_host(
    line: Any, provider: StandInProvider, elsewhere: StandInProvider, admitted: Permit, code: Code
) -> None:
    """A base URL that was changed, an absolute URL, a name that only looks like the provider's."""
    port = provider.base_url.split(":")[2]
    urls = [
        f"{elsewhere.base_url}/chat/completions",
        f"http://localhost:{port}/chat/completions",
        f"http://127.0.0.1:{port.split('/')[0]}@{elsewhere.base_url[7:]}/chat/completions",
        f"https://127.0.0.1:{port}/chat/completions",
        f"http://127.1:{port}/chat/completions",
    ]
    for url in urls:
        assert code(line.send(url=url, json={"model": "gpt-4o", "messages": []})) == "endpoint"
    assert provider.requests == elsewhere.requests == []


def test_a_host_header_leads_nowhere(
    sync_line: Any, provider: StandInProvider, admitted: Permit
) -> None:
    """The host is made of the address, whatever a caller writes beside it."""
    headers = {"Host": "evil.example", "X-Forwarded-Host": "evil.example", "Cookie": "a=b"}
    assert (
        sync_line.send(json={"model": "gpt-4o", "messages": []}, headers=headers).status_code == 200
    )
    (arrived,) = provider.requests
    assert arrived.headers["host"] == provider.base_url[7:-3]
    assert {"cookie", "x-forwarded-host"}.isdisjoint(arrived.headers)


def test_extensions_lead_nowhere(
    line: Any, provider: StandInProvider, admitted: Permit, key: str
) -> None:
    """A target, a server name or a trace function of the caller's goes no further."""
    seen: list[Any] = []

    def spy(*event: Any) -> None:
        seen.append(event)

    extensions = {"target": b"/v1/files", "sni_hostname": "evil.example", "trace": spy}
    asked = {"model": "gpt-4o", "messages": []}
    assert line.send(json=asked, extensions=extensions).status_code == 200
    assert seen == []
    assert provider.requests[0].path == "/v1/chat/completions"


def test_a_redirect_is_not_followed(
    every_line: Any,
    provider: StandInProvider,
    elsewhere: StandInProvider,
    admitted: Permit,
    code: Code,
) -> None:
    """K4: neither the answer nor the place it points at gets to the caller."""
    for status in (301, 302, 307, 308):
        location = {"location": f"{elsewhere.base_url}/chat/completions"}
        provider.answers.append(Answer(status=status, headers=location))
        asked = {"model": "gpt-4o", "messages": []}
        answer = every_line.send(json=asked, follow_redirects=True)
        assert code(answer) == "provider_redirect"
        assert "location" not in answer.headers
    assert elsewhere.requests == []


def test_no_proxy_of_the_environment(
    line: Any,
    provider: StandInProvider,
    elsewhere: StandInProvider,
    admitted: Permit,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """K4: a proxy variable does not send the key through somebody's machine."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, elsewhere.base_url[:-3])
    assert line.ask().status_code == 200
    assert elsewhere.requests == []


BODIES = (
    "", "not JSON", "[]", "null", '"gpt-4o"', "{", f'{{"model": "gpt-4o", {HI}', "\ufeff{}",
    f'{{"model": "gpt-4o", "model": "gpt-5", {HI}}}',
    f'{{"model": "gpt-5", "model": "gpt-4o", {HI}}}',
    f'{{"model": "gpt-4o", "temperature": NaN, {HI}}}',
    f'{{"model": "gpt-4o", "temperature": 1e999, {HI}}}',
    '{"model": "gpt-4o", "messages": ' + "[" * 100_000,
)  # fmt: skip


def test_a_body_that_can_be_read_in_two_ways(
    sync_line: Any, provider: StandInProvider, admitted: Permit, code: Code
) -> None:
    """What tabard reads and what the provider reads would not be the same."""
    for text in BODIES:
        assert code(sync_line.send_text(text)) == "request", text[:60]
    assert provider.requests == []


def test_a_body_in_another_encoding(
    sync_line: Any, provider: StandInProvider, admitted: Permit, code: Code
) -> None:
    """Compressed, in UTF-16, as a form or with files: not JSON, so not judged."""
    import gzip

    body = json.dumps({"model": "gpt-4o", "messages": []})
    zipped = gzip.compress(body.encode())
    sends: list[dict[str, Any]] = [
        {"content": zipped, "headers": {"content-encoding": "gzip"}},
        {"content": body, "headers": {"content-encoding": "gzip"}},
        {"content": zipped},
        {"content": body.encode("utf-16")},
        {"data": {"model": "gpt-4o"}},
        {"files": {"file": b"x"}, "data": {"model": "gpt-4o"}},
    ]
    for send in sends:
        assert code(sync_line.send(**send)) == "request"
    typed = {"content-type": "application/json; charset=utf-16"}
    assert sync_line.send(content=body, headers=typed).status_code == 200
    (arrived,) = provider.requests
    assert arrived.headers["content-type"] == "application/json"


def test_a_body_in_parts_is_sent_as_it_was_read(
    line: Any, provider: StandInProvider, admitted: Permit, code: Code
) -> None:
    """A generator is read once, and what was judged is what leaves."""
    parts = [b'{"model": "gpt-4o", ', b'"messages": []}']

    def some() -> Iterator[bytes]:
        yield from parts

    async def some_later() -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    def broken() -> Iterator[bytes]:
        yield parts[0]
        raise OSError

    async def broken_later() -> AsyncIterator[bytes]:
        yield parts[0]
        raise OSError

    fitting = (some_later, broken_later) if line.is_async else (some, broken)
    assert code(line.send(content=fitting[1]())) == "request"
    assert line.send(content=fitting[0]()).status_code == 200
    (arrived,) = provider.requests
    assert arrived.content == b"".join(parts)
    assert "transfer-encoding" not in arrived.headers


def test_a_body_without_end(
    line: Any, admitted: Permit, monkeypatch: pytest.MonkeyPatch, code: Code
) -> None:
    """Reading stops where no request is as long."""
    monkeypatch.setattr(transport, "MOST_SENT", 1_000)

    def endless() -> Iterator[bytes]:
        while True:
            yield b" " * 100

    async def endless_later() -> AsyncIterator[bytes]:
        for part in endless():
            yield part

    assert code(line.send(content=endless_later() if line.is_async else endless())) == "request"
    assert code(line.send(content=b" " * 1_001)) == "request"


AT_THE_PROVIDER: list[tuple[str, dict[str, Any], str]] = [
        ("/chat/completions", {"tools": [{"type": "web_search"}]}, "hosted_tool"),
        ("/responses", {"tools": [{"type": "mcp", "server_url": "https://x"}]}, "hosted_tool"),
        ("/responses", {"tools": [{"type": "code_interpreter"}]}, "hosted_tool"),
        ("/responses", {"tools": [{"type": "function"}, {"type": "file_search"}]}, "hosted_tool"),
        ("/responses", {"tools": "all"}, "hosted_tool"),
        ("/responses", {"tools": {"type": "mcp"}}, "hosted_tool"),
        ("/chat/completions", {"web_search_options": {"a": 1}}, "hosted_tool"),
        ("/responses", {"previous_response_id": "resp_1"}, "stored_state"),
        ("/responses", {"conversation": "conv_1"}, "stored_state"),
        ("/responses", {"prompt": {"id": "pmpt_1"}}, "stored_state"),
        ("/responses", {"background": True}, "stored_state"),
        ("/responses", {"store": True}, "stored_state"),
        ("/responses", {"input": [{"type": "item_reference", "id": "x"}]}, "stored_state"),
        ("/responses", {"input": [{"content": [{"type": "input_file", "file_id": "f"}]}]},
         "stored_state"),
        ("/chat/completions", {"messages": [{"content": [{"type": "file", "file":
         {"file_id": "f"}}]}]}, "stored_state"),

]  # fmt: skip


def test_hosted_tools_and_stored_state(
    sync_line: Any, provider: StandInProvider, admitted: Permit, code: Code
) -> None:
    """K6: what runs or lies at the provider, under one key for all, no hook ever sees."""
    for path, more, expected in AT_THE_PROVIDER:
        answer = sync_line.send(path=path, json={"model": "gpt-4o", **more})
        assert code(answer) == expected, more
    assert provider.requests == []


def test_tools_of_the_framework_go_through(sync_line: Any, admitted: Permit) -> None:
    """Functions come back to be run; their parameters may be called anything."""
    parameters = {"properties": {"file_id": {"type": "string"}, "store": {"type": "boolean"}}}
    tools = [{"type": "function", "function": {"name": "find", "parameters": parameters}}]
    called = {"role": "assistant", "tool_calls": [{"function": {"arguments": '{"file_id": "7"}'}}]}
    inline = {"content": [{"type": "file", "file": {"file_data": "data:..."}}]}
    answer = sync_line.ask(tools=tools, messages=[called, inline], store=False)
    assert answer.status_code == 200


def test_the_address_the_key_may_go_to(seal: Seal) -> None:
    """https, or this machine; no user, no query, nothing relative."""
    from tabard import ConfigurationError

    for base_url in (
        "http://api.example/v1", "ftp://api.example", "api.example/v1", "https://", "//x/v1",
        "https://user:pass@api.example/v1", "https://api.example/v1?x=1", "https://api.example/#x",
        "https://api.example:port/v1", "https://api.example/v1/../x%20y", "https://[::2]/v1",
    ):  # fmt: skip
        with pytest.raises(ConfigurationError, match="base_url"):
            Seal("openai", seal.key, base_url=base_url)
    with pytest.raises(ConfigurationError, match="base_url"):
        Seal("azure", seal.key)
    with pytest.raises(ConfigurationError, match="expected one of"):
        Seal("other", seal.key)
    with pytest.raises(ConfigurationError, match="ProviderKey"):
        Seal("openai", "sk-plain")  # type: ignore[arg-type]
    assert Seal("openai", seal.key).provider == "openai"


def test_a_plain_connection_is_refused_where_https_is_sealed(
    seal: Seal, admitted: Permit, code: Code, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scheme is part of the address; nothing is even looked up."""
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("connected"))
    sealed = Seal("openai", seal.key, base_url="https://api.example/v1")
    asked = {"model": "gpt-4o", "messages": []}
    with sealed.client() as client:
        for url in (
            "http://api.example/v1",
            "https://api.example:80/v1",
            "https://api.example.evil/v1",
        ):
            assert code(client.post(f"{url}/chat/completions", json=asked)) == "endpoint"


def test_an_error_of_our_own_is_a_refusal(
    sync_line: Any,
    provider: StandInProvider,
    admitted: Permit,
    monkeypatch: pytest.MonkeyPatch,
    code: Code,
) -> None:
    """Whatever breaks while a request is judged: it does not leave."""
    from tabard.transport import seal as module

    def broken(*_: Any) -> None:
        raise NotImplementedError("sk-inside")

    monkeypatch.setattr(module, "check_parts", broken)
    answer = sync_line.ask()
    assert code(answer) == "internal"
    assert "sk-inside" not in answer.text
    assert provider.requests == []


def test_a_client_around_the_transport_gains_nothing(
    seal: Seal, elsewhere: StandInProvider, provider: StandInProvider, admitted: Permit, code: Code
) -> None:
    """Hooks, default headers, auth and redirects of a client of one's own stay above the seal."""
    seen: list[dict[str, str]] = []
    client = httpx.Client(
        transport=transport.SealedTransport(seal),  # type: ignore[arg-type]  # one class for both
        follow_redirects=True,
        auth=("user", "password"),
        event_hooks={
            "request": [lambda r: seen.append(dict(r.headers))],
            "response": [lambda r: seen.append(dict(r.request.headers) | dict(r.headers))],
        },
    )
    with client:
        asked = {"model": "gpt-4o", "messages": []}
        answer = client.post(f"{provider.base_url}/chat/completions", json=asked)
    assert answer.status_code == 200
    assert provider.requests[0].headers["authorization"].startswith("Bearer ")
    assert all("Bearer" not in str(headers) for headers in seen)
