"""Serves a witness over HTTP: `POST /add-checkpoint`, and nothing else."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tabard.audit.witness import MAX_REQUEST, Answer, Witness
from tabard.notice import complain

_PATIENCE = 10.0
"""Seconds a client may take."""


def serve_witness(witness: Witness, host: str, port: int) -> ThreadingHTTPServer:
    """A server for a witness, bound and ready; call `serve_forever` on it.

    Raises:
        OSError: The address is not free.
    """

    class Handler(BaseHTTPRequestHandler):
        timeout = _PATIENCE

        def do_POST(self) -> None:
            """Answer one request."""
            try:
                answer = self._answer()
            except Exception as error:
                complain("a request to the witness failed: %s", type(error).__name__)
                answer = Answer(500, "the witness could not answer\n")
            data = answer.body.encode()
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _answer(self) -> Answer:
            if self.path != "/add-checkpoint":
                return Answer(404, "only /add-checkpoint is here\n")
            length = self.headers.get("Content-Length", "")
            if not length.isdecimal() or int(length) > MAX_REQUEST:
                return Answer(413, "the request is too large, or does not say how large\n")
            try:
                body = self.rfile.read(int(length)).decode()
            except UnicodeDecodeError:
                return Answer(400, "expected text\n")
            return witness.add_checkpoint(body)

        def log_message(self, *facts: Any) -> None:
            """Requests are not logged."""

    return ThreadingHTTPServer((host, port), Handler)
