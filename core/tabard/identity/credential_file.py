"""A credential in a file that somebody else keeps fresh, such as a SPIFFE helper beside us."""

from __future__ import annotations

import os
from pathlib import Path

from tabard.errors import AuthenticationFailed, ConfigurationError, GuardUnavailable
from tabard.identity.private_file import MAX_FILE, read_private


class CredentialFile:
    """Reads a token, an API key, or an X.509-SVID with its key, whenever one is needed."""

    __slots__ = ("_path",)

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Remember where the file is; it is read at login and at every renewal.

        Raises:
            AuthenticationFailed: It is no path.
        """
        problem = False
        try:
            self._path = Path(path)
        except Exception:  # whatever a caller's own kind of path raises
            problem = True
        if problem:
            raise AuthenticationFailed(
                code="malformed", reason="expected the path of a credential file"
            )

    def credential(self) -> str:
        """What is in the file now.

        Raises:
            AuthenticationFailed: It is too long, or no text.
            GuardUnavailable: It is missing, or others can get at it.
        """
        problem = ""
        try:
            data = read_private(self._path.expanduser(), what="credential")
        except ConfigurationError as error:
            problem = str(error)
        except RuntimeError:
            problem = f"{self._path}: there is no such user, or no home folder"
        if problem:
            raise GuardUnavailable(code="credential_file", reason=problem)
        if len(data) > MAX_FILE:
            raise AuthenticationFailed(
                code="too_long", reason=f"{self._path}: longer than {MAX_FILE} bytes"
            )
        if not data.isascii():
            raise AuthenticationFailed(
                code="malformed", reason=f"{self._path}: the credential is not a token or key"
            )
        return data.decode("ascii").strip()

    def __repr__(self) -> str:
        """Names the file, never shows what is in it."""
        return f"<CredentialFile {self._path}>"
