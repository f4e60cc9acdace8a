"""The most tokens that something can be read as: a bound that holds, not a guess.

No provider's tokenizer makes more tokens of a text than it has bytes in UTF-8, so that is what is
counted. Much of it is given back when the call is settled; in between, a budget errs on the safe
side.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

MESSAGE_TOKENS = 16
"""What a provider adds to each message, at most."""
TOOLS_TOKENS = 1_000
"""What a provider adds where tools are offered, at most."""
IMAGE_TOKENS = 50_000
"""What an image counts, at most: the largest that providers bill for one."""

_IMAGES = frozenset({"image", "image_url", "input_image"})
_REMOTE = ("url", "file_id", "file_uri", "id")


def most_tokens(content: object) -> int | None:
    """The most tokens of a message's content, a list of blocks, or anything with a JSON form.

    Returns:
        None when it cannot be bounded: a file that lies elsewhere, or what has no JSON form.
    """
    if content is None:
        return 0
    if isinstance(content, str):
        return len(content.encode("utf-8", "surrogatepass"))
    if isinstance(content, list | tuple):
        return add_tokens(most_tokens(item) for item in content)
    if isinstance(content, Mapping):
        return _most_of_block(content)
    return _written(content)


def add_tokens(counts: Iterable[int | None]) -> int | None:
    """The sum of bounds; None when one of them is missing."""
    total = 0
    for count in counts:
        if count is None:
            return None
        total += count
    return total


def _most_of_block(block: Mapping[object, object]) -> int | None:
    kind = block.get("type")
    if kind in _IMAGES:
        return IMAGE_TOKENS
    if isinstance(kind, str) and kind in ("file", "audio", "video", "input_file", "document"):
        inner = block.get(kind)
        held = inner if isinstance(inner, Mapping) else block
        if any(isinstance(held.get(name), str) for name in _REMOTE):
            return None
    return _written(block)


def _written(value: object) -> int | None:
    try:
        return len(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    except (TypeError, ValueError, RecursionError):
        return None
