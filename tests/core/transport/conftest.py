"""A provider on this machine, its key under seal, and clients of both libraries and both kinds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import httpx
import httpx2
import pytest

from tabard import Guard, ModelCall, Permit, Session
from tabard.testing.provider import StandInProvider
from tabard.transport import ProviderKey, Seal

KEY = "sk-proj-Zq7RealProviderKey0123456789"
ASKED: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def key() -> str:
    """The key that must show nowhere."""
    return KEY


@pytest.fixture
def provider() -> Iterator[StandInProvider]:
    """A real server that records what arrives."""
    with StandInProvider(keep_alive=True) as running:
        yield running


@pytest.fixture
def seal(provider: StandInProvider, monkeypatch: pytest.MonkeyPatch) -> Seal:
    """The provider's key under seal; taken out of the environment."""
    monkeypatch.setenv("PROVIDER_KEY", KEY)
    return Seal("openai", ProviderKey.from_environment("PROVIDER_KEY"), base_url=provider.base_url)


@dataclass
class Line:
    """A sealed client, used the same way whether it is synchronous or not."""

    seal: Seal
    base_url: str
    http: ModuleType
    is_async: bool

    def send(self, method: str = "POST", path: str = "/chat/completions", **request: Any) -> Any:
        """The answer to one request; `url` in place of `path` for another address."""
        url = request.pop("url", self.base_url + path)
        if not self.is_async:
            with self.seal.client(self.http) as client:
                return client.request(method, url, **request)

        async def ask() -> Any:
            async with self.seal.async_client(self.http) as client:
                return await client.request(method, url, **request)

        return asyncio.run(ask())

    def ask(self, **changes: Any) -> Any:
        """The answer to a chat request."""
        return self.send(json={**ASKED, **changes})

    def send_text(self, content: str | bytes) -> Any:
        """The answer to a chat request whose body is this."""
        return self.send(content=content)


@pytest.fixture(
    params=[(httpx, False), (httpx, True), (httpx2, False), (httpx2, True)],
    ids=["httpx", "httpx-async", "httpx2", "httpx2-async"],
)
def every_line(request: pytest.FixtureRequest, seal: Seal, provider: StandInProvider) -> Line:
    """A sealed client of each library and kind."""
    return Line(seal, provider.base_url, *request.param)


@pytest.fixture(params=[(httpx, False), (httpx2, True)], ids=["httpx", "httpx2-async"])
def line(request: pytest.FixtureRequest, seal: Seal, provider: StandInProvider) -> Line:
    """A synchronous client of one library, an asynchronous one of the other."""
    return Line(seal, provider.base_url, *request.param)


@pytest.fixture
def sync_line(seal: Seal, provider: StandInProvider) -> Line:
    """A synchronous client of httpx, where the library makes no difference."""
    return Line(seal, provider.base_url, httpx, False)


@pytest.fixture
def admitted(guard: Guard, session: Session) -> Iterator[Permit]:
    """A model call that was admitted here, and still has no outcome."""
    with session, guard.admit(ModelCall("gpt-4o", provider="openai")) as permit:
        yield permit


def code_of(response: Any) -> str:
    """The code of a refusal."""
    assert response.status_code == 403
    error = json.loads(response.content)["error"]
    assert response.headers["x-tabard-code"] == error["code"]
    return str(error["code"])


@pytest.fixture
def code() -> Any:
    """Reads the code of a refusal."""
    return code_of
