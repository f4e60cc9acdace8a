"""The log's signing key: Ed25519, in a file that only the sealer can read."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tabard.audit.note import NoteSigner
from tabard.errors import ConfigurationError
from tabard.identity.draft import draft_of
from tabard.identity.private_file import check_private, read_private, why


def load_sealing_key(path: Path, *, name: str, algorithm: int = 1) -> NoteSigner:
    """Read a signing key.

    Args:
        path: A PEM file in a folder that is private, too.
        name: Whose it is: the origin of the log, or the name of a witness.
        algorithm: `PLAIN` for a log, `COSIGNATURE` for a witness.

    Raises:
        ConfigurationError: It is missing, others can get at it, or it is no Ed25519 key.
    """
    data = read_private(path, what="key", folder_too=True)
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationError(f"{path}: expected an Ed25519 private key (PKCS#8, PEM)")
    return NoteSigner(name, key, algorithm)


def make_sealing_key(path: Path) -> None:
    """Write a new signing key to a file of mode 0600, unless there is one.

    Raises:
        ConfigurationError: It cannot be written, or others can get into the folder.
    """
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_private(path.parent, path.parent.stat(), 0o700)
        with draft_of(path, pem, mode=0o600) as draft:
            os.link(draft, path)
    except FileExistsError:
        return
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path}: cannot write the key: {why(error)}") from None
