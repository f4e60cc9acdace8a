"""How much a model call can read and write: told by the call itself, as LangChain announces it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tabard.budget import MESSAGE_TOKENS, TOOLS_TOKENS, add_tokens, most_tokens

_LIMITS = (
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "max_new_tokens",
    "max_tokens_to_sample",
    "num_predict",
)
"""What providers call the limit of an answer."""

_OFFERED = ("tools", "functions", "response_format")


def most_read(inputs: object, parameters: Mapping[str, Any] | None) -> int | None:
    """The most tokens a call can read: its messages or prompts, and the tools it offers.

    Returns:
        None when that cannot be bounded.
    """
    counts: list[int | None] = [_most_of(one) for one in _flat(inputs)]
    for name in _OFFERED:
        if offered := (parameters or {}).get(name):
            counts += [TOOLS_TOKENS, most_tokens(offered)]
    return add_tokens(counts)


def _flat(inputs: object) -> Iterator[object]:
    """Every message or prompt: LangChain announces chats as a list of lists."""
    if isinstance(inputs, list):
        for one in inputs:
            yield from _flat(one)
    else:
        yield inputs


def _most_of(message: object) -> int | None:
    if isinstance(message, str):
        return most_tokens(message)
    parts = (
        getattr(message, "content", None),
        getattr(message, "tool_calls", None) or None,
        getattr(message, "name", None),
        getattr(message, "additional_kwargs", None) or None,
    )
    return add_tokens([MESSAGE_TOKENS, *(most_tokens(part) for part in parts)])


def most_written(
    serialized: Mapping[str, Any] | None, parameters: Mapping[str, Any] | None
) -> int | None:
    """The most tokens a call can write: the limit it sets, for every answer it asks for.

    Returns:
        None when it sets none.
    """
    made_with = (serialized or {}).get("kwargs")
    sources = [s for s in (parameters, made_with) if isinstance(s, Mapping)]
    limits = list(_whole(sources, _LIMITS))
    answers = max([1, *_whole(sources, ("n", "best_of"))])
    return max(limits) * answers if limits else None


def _whole(sources: Sequence[Mapping[str, Any]], names: tuple[str, ...]) -> Iterator[int]:
    for source in sources:
        for name in names:
            if type(number := source.get(name)) is int and number > 0:
                yield number
