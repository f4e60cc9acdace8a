"""A stand-in for a provider of models: a real HTTP server on this machine that answers at once.

```python
with StandInProvider() as provider:
    client = OpenAI(api_key="any", base_url=provider.base_url)
    client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}])
    provider.requests[0].headers["authorization"]  # 'Bearer any'
```
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


@dataclass(frozen=True, slots=True)
class Arrived:
    """A request that has arrived.

    Attributes:
        path: Path and query.
        headers: By name in lower case.
        content: The body.
    """

    path: str
    headers: Mapping[str, str]
    content: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What to answer with, in place of a chat completion.

    Attributes:
        status: The HTTP status.
        content: The body.
        headers: Further headers.
        breaks: Whether the connection is closed without any answer.
    """

    status: int = 200
    content: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)
    breaks: bool = False


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Say nothing of a caller that has gone away."""


class StandInProvider:
    """Answers chat completions, plain and streamed, in the form of OpenAI.

    Attributes:
        requests: What has arrived so far.
        answers: Taken from the left, one a request, before it answers by itself.
    """

    def __init__(self, *, keep_alive: bool = False) -> None:
        """Set up.

        Args:
            keep_alive: Whether connections stay open for further requests; then close the clients.
        """
        self.requests: list[Arrived] = []
        self.answers: deque[Answer] = deque()
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                provider.requests.append(Arrived(self.path, headers, content))
                answer = provider.answers.popleft() if provider.answers else _answer(content)
                if answer.breaks:
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                if not keep_alive:
                    self.send_header("connection", "close")
                self.send_header("content-length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            do_GET = do_POST

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def base_url(self) -> str:
        """Where its API is."""
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        """Begin to answer."""
        self._thread.daemon = True
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()


def _answer(content: bytes) -> Answer:
    asked = json.loads(content)
    if asked.get("stream"):
        parts = [
            _chunk(asked, {"role": "assistant", "content": "hel"}),
            _chunk(asked, {"content": "lo"}),
        ]
        parts.append(_chunk(asked, {}, finish_reason="stop", usage=USAGE))
        lines = [*(json.dumps(part) for part in parts), "[DONE]"]
        text = "".join(f"data: {line}\n\n" for line in lines)
        return Answer(content=text.encode(), headers={"content-type": "text/event-stream"})
    message = {"role": "assistant", "content": "hello"}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    return Answer(
        content=json.dumps(_common(asked, "chat.completion", choice, usage=USAGE)).encode(),
        headers={"content-type": "application/json", "x-request-id": "req-1"},
    )


def _chunk(asked: Mapping[str, Any], delta: object, **more: object) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": more.pop("finish_reason", None)}
    return _common(asked, "chat.completion.chunk", choice, **more)


def _common(asked: Mapping[str, Any], kind: str, choice: object, **more: object) -> dict[str, Any]:
    named = {"id": "answer-1", "object": kind, "created": 1, "model": asked.get("model")}
    return {**named, "choices": [choice], **more}
