"""Takes credentials out of a text, whoever put them there: a typo must not print a secret.

>>> redact("no agent 'tbk_0123456789_abcdefgh' is registered")
"no agent '(a credential)' is registered"
"""

from __future__ import annotations

import re

_SECRETS = re.compile(
    r"tb[jk]_[0-9A-Za-z]{10}_[0-9A-Za-z_]*"  # an API key or join token; its id alone is public
    r"|tb[jk]_[0-9A-Za-z_]{11,}"
    r"|eyJ[0-9A-Za-z_-]{8,}(?:\.[0-9A-Za-z_-]*)*"  # a token, whole or a part
    r"|-----BEGIN [^-]*-----.*",
    re.DOTALL,
)

_IN_A_NAME = re.compile(rf"(?<![0-9A-Za-z])(?:{_SECRETS.pattern})", re.DOTALL)


def redact(text: str) -> str:
    """The text with everything that looks like a credential replaced."""
    return _SECRETS.sub("(a credential)", text)


def holds_credential(name: str) -> bool:
    """Whether a name holds a credential; in the middle of a word, letters are only letters."""
    return _IN_A_NAME.search(name) is not None
