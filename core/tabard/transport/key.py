"""The provider's key: what holds it, and never shows it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, final

from tabard.errors import ConfigurationError, GuardUnavailable
from tabard.identity.private_file import read_private

_FORM = re.compile(r"[!-~]{8,4096}")
"""Printable ASCII: a line break in a header would begin another one."""


@final
class ProviderKey:
    """A provider's key, read anew for each request; no text, dump or copy of this shows it."""

    __slots__ = ("_read",)

    def __init__(self, read: Callable[[], str]) -> None:
        """Hold a key that a function knows, for example one that asks a vault.

        Args:
            read: Returns the key; called for each request that leaves.

        Raises:
            ConfigurationError: It is no function: a key itself would stand in tracebacks.
        """
        if not callable(read):
            raise ConfigurationError("ProviderKey: expected a function that returns the key")
        self._read = read

    @classmethod
    def from_environment(cls, variable: str) -> Self:
        """Take the key out of the environment: no child process and no dump of it has it any more.

        Call it once, and share the result.

        Args:
            variable: For example `OPENAI_API_KEY`.

        Raises:
            ConfigurationError: The variable is not set, or holds no key.
        """
        found = os.environ.pop(variable, None)
        if found is None or _FORM.fullmatch(found) is None:
            raise ConfigurationError(
                f"${variable}: expected a provider's key, found none; it is taken out of the "
                "environment the first time, so share one ProviderKey"
            )
        return cls(lambda: found)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Self:
        """Read the key from a file for each request, so that it can be replaced at any time.

        Args:
            path: The file, 0600.

        Raises:
            ConfigurationError: It is missing, others can read it, or it holds no key.
        """
        place = Path(path)

        def read() -> str:
            return read_private(place, what="provider key").decode("ascii").strip()

        key = cls(read)
        _, why = key._look()
        if why:
            raise ConfigurationError(f"{place}: no provider key: {why}")
        return key

    def reveal(self) -> str:
        """The key itself; for the transport, at the moment it goes on the wire.

        Raises:
            GuardUnavailable: There is none to be had (`provider_key`).
        """
        found, why = self._look()
        if why:
            reason = f"the provider's key is missing: {why}"
            raise GuardUnavailable(code="provider_key", reason=reason)
        return found

    def _look(self) -> tuple[str, str]:
        """The key, or what is wrong with it; raises nothing, so that no frame is kept of this."""
        try:
            found = self._read()
        except ConfigurationError as error:
            return "", str(error)  # a path and a mode, never what is in the file
        except Exception as error:
            return "", type(error).__name__
        if type(found) is str and _FORM.fullmatch(found) is not None:
            return found, ""
        return "", "expected printable text"

    def __repr__(self) -> str:
        """Says that there is one."""
        return "<ProviderKey>"

    def __copy__(self) -> Self:
        """Itself."""
        return self

    def __deepcopy__(self, memo: object) -> Self:
        """Itself, so that a model that holds one can be copied."""
        return self

    def __reduce__(self) -> Any:
        """A key stays in its process."""
        raise TypeError("a provider key cannot be pickled; read it again where it is needed")
