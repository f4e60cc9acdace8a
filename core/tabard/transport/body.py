"""What a request asks for, read from the very bytes that will be sent.

Beside the model and the limit of the answer it looks for what no hook of a framework ever sees:
tools that run at the provider, and what is stored there under the one key all agents share.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tabard.errors import NotPermitted
from tabard.identity.strict_json import parse_object
from tabard.transport.dialect import Kind

_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "maxOutputTokens")
_ANSWERS = ("n", "best_of", "candidateCount", "candidate_count")
_SETTINGS = ("generationConfig", "generation_config")

_OWN_TOOLS = (None, "function", "custom")
_DECLARATIONS = ("functionDeclarations", "function_declarations")
_HOSTED = ("web_search_options", "mcp_servers", "container")
"""Members that let the provider run something by itself."""

_STORED = ("previous_response_id", "conversation", "background", "cachedContent", "cached_content")
"""Members that read or leave state at the provider."""

_STORED_PARTS = ("file_id", "file_ids", "fileUri", "file_uri", "container_id")
_WRITTEN_BY_MODELS = ("input", "args", "arguments", "response")
"""Members of a message in which a tool's arguments stand, with whatever names these have."""

_OTHER_MODELS = ("models", "fallbacks")


def read_body(content: bytes) -> dict[str, Any]:
    """The JSON object of a request.

    Raises:
        NotPermitted: It is none, or one that two parsers may read differently (`request`).
    """
    try:
        return parse_object(content)
    except ValueError as error:
        problem = str(error)
    raise refusal("request", f"the request cannot be judged: {problem}")


def refusal(code: str, reason: str) -> NotPermitted:
    """A refusal of a request that does not fit what was admitted."""
    return NotPermitted(code=code, reason=reason)


def read_model(body: Mapping[str, Any], in_path: str | None) -> str:
    """The one model a request goes to.

    Raises:
        NotPermitted: It names none, or several (`model`).
    """
    told = body.get("model")
    told = told.removeprefix("models/") if in_path and isinstance(told, str) else told
    named = [name for name in (in_path, told) if name is not None]
    if not named or any(name != named[0] or not isinstance(name, str) for name in named):
        raise refusal("model", "the request names no model, or more than one")
    if any(body.get(other) for other in _OTHER_MODELS):
        raise refusal("model", "the request names other models to choose from")
    return str(named[0])


def most_written(body: Mapping[str, Any]) -> int | None:
    """The most tokens a request lets the model write, for all answers; None where it sets no limit.

    Raises:
        NotPermitted: A limit is no positive whole number (`request`).
    """
    places = [body, *(body[name] for name in _SETTINGS if isinstance(body.get(name), Mapping))]
    limits = [one for place in places for one in _counts(place, _LIMITS)]
    answers = [1, *(one for place in places for one in _counts(place, _ANSWERS))]
    return max(limits) * max(answers) if limits else None


def _counts(place: Mapping[str, Any], names: tuple[str, ...]) -> Iterator[int]:
    for name in names:
        value = place.get(name)
        if value is None:
            continue
        if type(value) is not int or value < 1:
            raise refusal("request", f"`{name}` has to be a whole number, from 1 on")
        yield value


def check_parts(body: Mapping[str, Any], kind: Kind) -> None:
    """Make sure that all a request does is what hooks see: a model reads, and answers.

    Raises:
        NotPermitted: The provider would run a tool (`hosted_tool`), or read or keep what other
            agents of the same key can reach (`stored_state`).
    """
    for name in _HOSTED:
        if body.get(name):
            raise refusal("hosted_tool", f"`{name}` runs at the provider, where no hook sees it")
    tools = body.get("tools")
    if tools is not None and not (isinstance(tools, list) and all(_is_own(t, kind) for t in tools)):
        raise refusal("hosted_tool", "a tool runs at the provider, where no hook sees it")
    stored = [name for name in _STORED if body.get(name)]
    if body.get("store") is True:
        stored.append("store")
    if kind == "responses" and body.get("prompt"):
        stored.append("prompt")
    if stored or _reads_stored(body):
        shown = f"`{stored[0]}`" if stored else "a part of a message"
        raise refusal("stored_state", f"{shown} is kept at the provider for all who use its key")


def _is_own(tool: object, kind: Kind) -> bool:
    """Whether a tool comes back to the framework to be run."""
    if not isinstance(tool, dict):
        return False
    if kind == "gemini":
        return all(name in _DECLARATIONS for name in tool)
    return tool.get("type") in _OWN_TOOLS


def _reads_stored(body: Mapping[str, Any]) -> bool:
    shown = [body.get(name) for name in ("messages", "input", "system", "contents")]
    waiting = [part for part in shown if isinstance(part, dict | list)]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            if part.get("type") == "item_reference" or any(part.get(n) for n in _STORED_PARTS):
                return True
            inner = [value for name, value in part.items() if name not in _WRITTEN_BY_MODELS]
        else:
            inner = part
        waiting.extend(one for one in inner if isinstance(one, dict | list))
    return False
