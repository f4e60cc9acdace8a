"""What comes back to the agent: the answer without what could tell the key, or a refusal.

A refusal is a response, 403: the SDKs raise that to the caller at once, with its text. What a
transport raises they take for a broken connection, try again, and lose the reason.
"""

from __future__ import annotations

import json
import re
from typing import Any

from tabard.errors import AccessDenied, GuardUnavailable
from tabard.transport.key import ProviderKey

MOST_READ = 1_048_576
"""Bytes of an error's text that are looked through and passed on."""

_PASSED_ON = re.compile(
    r"content-type|content-encoding|date|retry-after(-ms)?|x-should-retry"
    r"|(x-|anthropic-)?request-id|x-ms-request-id|apim-request-id|cf-ray"
    r"|(x-|anthropic-)ratelimit-[a-z0-9-]+|openai-(processing-ms|version|model)"
)
_EXTENSIONS = ("http_version", "reason_phrase")
_PART = 12
"""Characters of the key in a row that count as a part of it."""


def refuse(http: Any, refusal: AccessDenied) -> Any:
    """The response that stands for a refusal, in a form the SDKs of OpenAI and Anthropic read.

    Args:
        http: The HTTP library, `httpx` or `httpx2`.
        refusal: Why nothing was sent.
    """
    error = {
        "type": "permission_error",
        "code": refusal.code,
        "message": f"tabard: {refusal.code}: {refusal.reason}",
        "param": None,
    }
    headers = {
        "content-type": "application/json",
        "x-should-retry": "false",
        "x-tabard-code": refusal.code,
    }
    content = json.dumps({"type": "error", "error": error}).encode()
    return http.Response(403, headers=headers, content=content)


def replace_status(http: Any, status: int) -> Any | None:
    """What takes the place of an answer that is not passed on, by its status; None for others.

    A refused key is quoted in part by the provider, and a redirect leads elsewhere with it.
    """
    if status in (401, 403):
        reason = f"the provider did not take the key, or what it was used for (status {status})"
        return refuse(http, GuardUnavailable(code="provider_auth", reason=reason))
    if not 200 <= status < 300 and status < 400:
        reason = f"the provider answered with a redirect (status {status}), which is not followed"
        return refuse(http, GuardUnavailable(code="provider_redirect", reason=reason))
    return None


def pass_on(http: Any, response: Any) -> Any:
    """An ordinary answer, whose body is still to be read, without headers nobody needs."""
    return http.Response(
        response.status_code,
        headers=_headers(response),
        stream=response.stream,
        extensions=_extensions(response),
    )


def pass_on_error(http: Any, response: Any, content: bytes | None, key: ProviderKey) -> Any:
    """An error's answer with its text, unless this holds a part of the key.

    Args:
        http: The HTTP library.
        response: The provider's answer.
        content: Its body, decoded; None when it is too long.
        key: What it must not hold.
    """
    if content is None or _holds_part(content, key):
        reason = f"the provider's error (status {response.status_code}) is not passed on"
        replaced = refuse(http, GuardUnavailable(code="provider_error", reason=reason))
        replaced.status_code = response.status_code
        return replaced
    headers = [(name, value) for name, value in _headers(response) if name != "content-encoding"]
    return http.Response(
        response.status_code, headers=headers, content=content, extensions=_extensions(response)
    )


def _headers(response: Any) -> list[tuple[str, str]]:
    found = ((name.lower(), value) for name, value in response.headers.multi_items())
    return [(name, value) for name, value in found if _PASSED_ON.fullmatch(name)]


def _extensions(response: Any) -> dict[str, Any]:
    return {name: response.extensions[name] for name in _EXTENSIONS if name in response.extensions}


def _holds_part(content: bytes, key: ProviderKey) -> bool:
    try:
        whole = key.reveal().encode()
    except GuardUnavailable:
        return True
    parts = range(max(1, len(whole) - _PART + 1))
    return any(whole[start : start + _PART] in content for start in parts)
