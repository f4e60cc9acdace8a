"""What a model call took, or can take at most, in tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class TokenUsage(NamedTuple):
    """Tokens of one call.

    Attributes:
        input_tokens: All tokens that were read, those from the provider's cache included.
        output_tokens: All tokens that were written.
        cache_read_tokens: Those of `input_tokens` that came from the provider's cache.
        cache_write_tokens: Those of `input_tokens` that were put into it.
    """

    input_tokens: int
    output_tokens: int
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0

    @classmethod
    def read(cls, counts: Mapping[str, int] | None) -> TokenUsage | None:
        """The usage a provider reports; None when it does not tell, or cannot be meant."""
        if counts is None or not _is_count(counts, "input_tokens", "output_tokens"):
            return None
        cached = {name: 0 if counts.get(name) is None else counts[name] for name in _CACHED}
        # Some providers count cached tokens beside the input: then the input is not all there is.
        if not _is_count(cached, *_CACHED) or sum(cached.values()) > counts["input_tokens"]:
            return None
        return cls(
            input_tokens=counts["input_tokens"], output_tokens=counts["output_tokens"], **cached
        )

    def shapes(self) -> tuple[TokenUsage, ...]:
        """The same tokens with all input plain, read from the cache, or put into it.

        What a call costs is at most the dearest of these: nobody knows before it which it will be.
        """
        return (
            self._replace(cache_read_tokens=0, cache_write_tokens=0),
            self._replace(cache_read_tokens=self.input_tokens, cache_write_tokens=0),
            self._replace(cache_read_tokens=0, cache_write_tokens=self.input_tokens),
        )


_CACHED = ("cache_read_tokens", "cache_write_tokens")


_MOST = 10**12
"""Tokens of one call; a report of more is none."""


def _is_count(counts: Mapping[str, object], *names: str) -> bool:
    return all(type(count := counts.get(name)) is int and 0 <= count <= _MOST for name in names)
