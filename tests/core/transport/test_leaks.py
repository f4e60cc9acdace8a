"""K2: the key is in no client, exception, text, log, dump or copy; searched for, not assumed."""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import logging
import pickle
import types
from collections.abc import Callable, Iterator
from traceback import walk_tb
from typing import Any

import httpx
import httpx2
import openai
import pytest

from tabard import ConfigurationError, Guard, ModelCall, Permit, Session
from tabard.testing.provider import Answer, StandInProvider
from tabard.transport import PLACEHOLDER, ProviderKey, Seal

_ELSEWHERE = (types.ModuleType, type, types.FrameType, logging.Logger)
"""From these everything in the process can be reached: its modules, classes, running frames."""


def find_key(start: object, key: str, *, within: bool = False) -> list[str]:
    """The types on the way to each object that holds the key, from one object on.

    Args:
        start: Where to begin.
        key: What to look for.
        within: Whether to look into the holder of the key as well.
    """
    found, seen = [], set[int]()
    waiting: list[tuple[Any, str]] = [(start, type(start).__name__)]
    while waiting:
        one, way = waiting.pop()
        if id(one) in seen or isinstance(one, _ELSEWHERE):
            continue
        seen.add(id(one))
        if isinstance(one, ProviderKey) and not within:
            continue
        text = one if isinstance(one, str | bytes | bytearray) else ""
        if key.encode() in (text.encode() if isinstance(text, str) else bytes(text)):
            found.append(way)
        inner = gc.get_referents(one)
        if isinstance(one, types.FunctionType):
            inner = [i for i in inner if i is not one.__globals__]
        waiting += [(i, f"{way} > {type(i).__name__}") for i in inner]
    return found


def whole_chain(error: BaseException) -> list[BaseException]:
    """An exception, and all it stems from."""
    found: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and all(one is not other for other in found):
            found.append(one)
            waiting += [one.__cause__, one.__context__]
    return found


def frames_of(error: BaseException) -> list[object]:
    """The local variables of every frame of an exception, but for those of these tests."""
    frames = [f.f_locals for one in whole_chain(error) for f, _ in walk_tb(one.__traceback__)
              if f.f_code.co_filename != __file__]  # fmt: skip
    return [value for variables in frames for value in variables.values()]


def texts_of(error: BaseException) -> str:
    """Everything an exception tells: texts, members, and the variables of its frames as shown."""
    told = [repr(frames_of(error))]
    for one in whole_chain(error):
        told += [str(one), repr(one), repr(one.args), repr(vars(one))]
    return "\n".join(told)


def ask(client: Any, **more: Any) -> Any:
    """One chat request through the SDK."""
    messages = [{"role": "user", "content": "hi"}]
    return client.chat.completions.create(model="gpt-4o", messages=messages, **more)


@pytest.fixture(params=[httpx, httpx2], ids=["httpx", "httpx2"])
def client(request: pytest.FixtureRequest, seal: Seal, provider: StandInProvider) -> Iterator[Any]:
    """OpenAI's SDK over a sealed client."""
    with seal.client(request.param) as sealed:
        yield openai.OpenAI(api_key=PLACEHOLDER, base_url=provider.base_url, http_client=sealed)


def test_the_walk_finds_what_is_there(key: str) -> None:
    """An SDK that was given the key holds it, and the search says where."""
    assert find_key(openai.OpenAI(api_key=key), key)
    assert find_key(httpx.Client(headers={"authorization": f"Bearer {key}"}), key)


def test_no_object_holds_the_key(
    client: Any, provider: StandInProvider, guard: Guard, session: Session, key: str
) -> None:
    """Neither client nor answer, before, in the middle of a stream, and after."""
    assert find_key(client, key) == []
    with session:
        with guard.admit(ModelCall("gpt-4o", provider="openai")):
            answer = ask(client)
        assert find_key([client, answer], key) == []
        with guard.admit(ModelCall("gpt-4o", provider="openai")):
            stream = ask(client, stream=True)
            next(iter(stream))
            assert find_key([client, stream, stream.response, stream.response.request], key) == []
            assert "hel" not in "".join(c.choices[0].delta.content or "" for c in stream)
    assert "authorization" not in {k for k in stream.response.request.headers} - {"authorization"}
    assert stream.response.request.headers["authorization"] == "Bearer sealed"
    assert [r.headers["authorization"] for r in provider.requests] == [f"Bearer {key}"] * 2


def test_what_the_walk_does_find(client: Any, seal: Seal, key: str) -> None:
    """Told as it is: through the seal's own holder a debugger finds the key in memory."""
    assert find_key(client, key, within=True) != []
    assert find_key(seal, key) == []
    assert key not in repr([seal, seal.key, client, client._client, client._client._transport])


def test_no_copy_and_no_pickle(seal: Seal, client: Any, key: str) -> None:
    """A key stays in its process."""
    for one in (seal, seal.key):
        with pytest.raises(TypeError, match="pickled"):
            pickle.dumps(one)
        assert copy.deepcopy(one) is one
        with pytest.raises(TypeError):
            vars(one)
    with pytest.raises(TypeError):
        json.dumps(seal)
    with pytest.raises(TypeError):
        pickle.dumps(client)


FAILURES = ("refused", "401", "403", "302", "400", "500", "broken", "unreachable")


def test_no_exception_tells_the_key(
    client: Any,
    provider: StandInProvider,
    guard: Guard,
    session: Session,
    key: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """K1, K2: not its text, not its members, not the variables of its frames."""
    quoted = f'{{"error": {{"message": "Incorrect API key provided: {key[:20]}****"}}}}'.encode()
    echo = {"x-echo": key, "set-cookie": key, "location": f"/?key={key}"}
    monkeypatch.setattr("openai._base_client.BaseClient._calculate_retry_timeout", lambda *_: 0)
    for kind in FAILURES:
        if kind.isdigit():
            provider.answers.extend([Answer(status=int(kind), content=quoted, headers=echo)] * 3)
        if kind == "broken":
            provider.answers.extend([Answer(breaks=True)] * 3)
        if kind == "unreachable":
            provider.__exit__()
        admitted = "gpt-5" if kind == "refused" else "gpt-4o"
        with session, pytest.raises(openai.OpenAIError) as caught:
            with guard.admit(ModelCall(admitted, provider="openai")):
                ask(client)
        provider.answers.clear()
        assert key[:20] not in texts_of(caught.value), kind
        assert find_key([frames_of(caught.value), vars(caught.value)], key[:20]) == [], kind
        if kind in ("401", "403", "302"):
            assert isinstance(caught.value, openai.PermissionDeniedError)
            assert caught.value.code in ("provider_auth", "provider_redirect")


@pytest.fixture
def policy_text() -> str:
    """Both models are allowed; the request asks for one of them."""
    return 'version: 1\nagents: {claims-agent: {models: {allow: ["openai/gpt-*"]}}}'


def test_a_failure_in_the_middle_of_the_headers(
    seal: Seal,
    provider: StandInProvider,
    admitted: Permit,
    key: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The moment the key is on the request: an exception of then takes none of it along."""
    import httpcore

    def broken(self: object, buffer: bytes, timeout: float | None = None) -> None:
        assert key.encode() in buffer
        raise httpcore.WriteTimeout("too slow")

    monkeypatch.setattr("httpcore._backends.sync.SyncStream.write", broken)
    with seal.client() as client, pytest.raises(httpx.WriteTimeout) as caught:
        client.post(f"{provider.base_url}/chat/completions", json={"model": "gpt-4o"})
    assert key not in texts_of(caught.value)
    assert find_key(frames_of(caught.value), key) == []
    assert find_key(client, key) == []
    monkeypatch.undo()
    with seal.client() as client:
        answer = client.post(f"{provider.base_url}/chat/completions", json={"model": "gpt-4o"})
    assert answer.status_code == 200


def test_a_cancelled_call_leaves_nothing_behind(
    seal: Seal,
    provider: StandInProvider,
    admitted: Permit,
    key: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A task that is cancelled while the headers are written."""

    async def hang(self: object, buffer: bytes, timeout: float | None = None) -> None:
        assert key.encode() in buffer
        await asyncio.sleep(60)

    monkeypatch.setattr("httpcore._backends.anyio.AnyIOStream.write", hang)

    async def ask_and_cancel() -> BaseException:
        async with seal.async_client() as client:
            url = f"{provider.base_url}/chat/completions"
            task = asyncio.create_task(client.post(url, json={"model": "gpt-4o"}))
            await asyncio.sleep(0.1)
            task.cancel()
            (error,) = await asyncio.gather(task, return_exceptions=True)
            assert isinstance(error, asyncio.CancelledError)
            assert find_key([client, task], key) == []
            return error

    error = asyncio.run(ask_and_cancel())
    assert key not in texts_of(error)
    assert find_key(frames_of(error), key) == []


def test_no_log_tells_the_key(
    client: Any, admitted: Permit, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Every library below at its most talkative."""
    with caplog.at_level(logging.DEBUG):
        for name in ("httpx", "httpx2", "httpcore", "httpcore2", "openai", "asyncio"):
            caplog.set_level(logging.DEBUG, logger=name)
        ask(client)
        with pytest.raises(openai.PermissionDeniedError):
            ask(client)
    assert any("send_request_headers" in r.getMessage() for r in caplog.records)
    assert key not in caplog.text
    assert all(key not in repr(r.__dict__) for r in caplog.records)


def test_no_record_tells_the_key(client: Any, guard: Guard, admitted: Permit, key: str) -> None:
    """Nor does the audit log, of what was sent and of what was refused."""
    ask(client)
    with pytest.raises(openai.PermissionDeniedError):
        client.chat.completions.create(model="gpt-5", messages=[])
    assert key not in repr(list(guard.records()))


class TestTheHolder:
    def test_it_leaves_the_environment(self, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
        """No child process inherits it, and no dump of the environment has it."""
        import os

        monkeypatch.setenv("SOME_KEY", key)
        held = ProviderKey.from_environment("SOME_KEY")
        assert held.reveal() == key
        assert "SOME_KEY" not in os.environ
        with pytest.raises(ConfigurationError, match="SOME_KEY"):
            ProviderKey.from_environment("SOME_KEY")

    def test_a_file_is_read_for_each_request(self, tmp_path: Any, key: str) -> None:
        """So a key is replaced without a restart; one that others can read is refused."""
        place = tmp_path / "key"
        place.write_text(key + "\n")
        place.chmod(0o644)
        with pytest.raises(ConfigurationError, match="others can get at it"):
            ProviderKey.from_file(place)
        place.chmod(0o600)
        held = ProviderKey.from_file(place)
        assert find_key(held, key, within=True) == []  # it is not in memory at all
        place.write_text("sk-the-next-one")
        assert held.reveal() == "sk-the-next-one"
        for nonsense in ("", "sk-it", "sk-with space-in-it", "sk-line\r\nx-evil: 1", "sk-ü-umlaut"):
            place.write_text(nonsense)
            with pytest.raises(ConfigurationError) as caught:
                ProviderKey.from_file(place)
            assert not nonsense or nonsense not in texts_of(caught.value)
            assert find_key(frames_of(caught.value), nonsense or "nothing") == []

    def test_a_function_is_asked_for_each_request(self, key: str) -> None:
        """A vault's answer; what it raises is a refusal, without its text."""
        assert ProviderKey(lambda: key).reveal() == key
        with pytest.raises(ConfigurationError, match="function"):
            ProviderKey(key)  # type: ignore[arg-type]

    def test_no_key_no_request(
        self,
        sync_line: Any,
        provider: StandInProvider,
        admitted: Permit,
        code: Callable[[Any], str],
    ) -> None:
        """The vault is down at the last moment: nothing leaves, and the next attempt may."""
        keys = iter([OSError("vault says sk-secret"), None, "bad key", "sk-it-is-back"])

        def vault() -> Any:
            found = next(keys)
            if isinstance(found, Exception):
                raise found
            return found

        sync_line.seal = Seal("openai", ProviderKey(vault), base_url=provider.base_url)
        for _ in range(3):
            answer = sync_line.ask()
            assert code(answer) == "provider_key"
            assert "secret" not in answer.text
        assert provider.requests == []
        assert sync_line.ask().status_code == 200
