"""One call that is tried on one path of a framework, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

Kind = str
"""`tool`, `model` or `retrieval`."""

KINDS: tuple[Kind, ...] = ("tool", "model", "retrieval")


def nothing() -> None:
    """What happens in mid-run where nothing is to go wrong."""


@dataclass(kw_only=True)
class Attempt:
    """What a path is given: a call to make, a body that counts, and the moment it goes wrong.

    Attributes:
        kind: What is called.
        tool: The tool's name.
        arguments: The tool's arguments.
        source: The retriever's name.
        query: What it is asked for.
        provider: The model's provider.
        model: The model's name.
        max_output_tokens: The limit the model call sets to its answer.
        strike: To be called in mid-run, as late before the call as the path allows: then an agent
            is revoked, a disk runs full. A path that does not call it is not in mid-run; the kit
            calls it before such a path.
        ran: How often the body ran.
        struck: Whether `strike` was called.
    """

    kind: Kind = "tool"
    tool: str = "lookup"
    arguments: dict[str, int] = field(default_factory=lambda: {"number": 1})
    source: str = "docs"
    query: str = "claims"
    provider: str = "openai"
    model: str = "gpt-4o"
    max_output_tokens: int = 100
    strike: Callable[[], None] = nothing
    ran: int = 0
    struck: bool = False

    def body(self, number: int = 0) -> str:
        """The work of the tool, model or retriever: it counts, and returns one word."""
        self.ran += 1
        return "found"

    async def abody(self, number: int = 0) -> str:
        """The same, as a coroutine."""
        return self.body(number)

    def strike_once(self) -> None:
        """Let it go wrong now, unless it has."""
        if not self.struck:
            self.struck = True
            self.strike()


def attempt_of(kind: Kind, fault: str) -> Attempt:
    """The call to try: an allowed one, unless the fault lies in the call itself."""
    changed = {
        "denied tool": {"tool": "other", "source": "secrets", "model": "gpt-3.5-turbo"},
        "denied argument": {
            "arguments": {"number": 7},
            "query": "everything there is to know",
            "max_output_tokens": 9_999,
        },
    }.get(fault, {})
    return replace(Attempt(kind=kind), **changed)  # type: ignore[arg-type]
