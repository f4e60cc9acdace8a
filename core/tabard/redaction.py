"""Takes credentials out of a text, whoever put them there: a typo must not print a secret.

>>> redact("no agent 'tbk_0123456789_abcdefgh' is registered")
"no agent '(a credential)' is registered"
"""

from __future__ import annotations

import re
from functools import lru_cache

_OURS = (
    r"tb[jk]_[0-9A-Za-z]{10}_[0-9A-Za-z_]*"  # an API key or join token; its id alone is public
    r"|tb[jk]_[0-9A-Za-z_]{11,}"
    r"|eyJ[0-9A-Za-z_-]{8,}(?:\.[0-9A-Za-z_-]*)*"  # a token, whole or a part
    r"|-----BEGIN [^-]*-----.*"
)
# A run of letters and digits no word has: a tool may well be called `sk-learn-model-training`.
_OF_SERVICES = (
    r"[spr]k[-_](?:[0-9A-Za-z]{1,12}[-_]){0,4}[0-9A-Za-z]{16,}[0-9A-Za-z_-]*"
    r"|gh[opusr]_[0-9A-Za-z]{16,}"
    r"|github_pat_[0-9A-Za-z_]{16,}"
    r"|glpat-[0-9A-Za-z_-]{12,}"
    r"|xox[abeprs]-[0-9A-Za-z-]{10,}"
    r"|A(?:KI|SI)A[0-9A-Z]{16}"
    r"|AIza[0-9A-Za-z_-]{30,}"
    r"|hf_[0-9A-Za-z]{20,}"
)
_IN_A_NAME = re.compile(rf"(?<![0-9A-Za-z])(?=[A-Zeghprstx-])(?:{_OURS}|{_OF_SERVICES})", re.DOTALL)
_SECRETS = re.compile(rf"{_OURS}|(?<![0-9A-Za-z])(?:{_OF_SERVICES})", re.DOTALL)


def redact(text: str) -> str:
    """The text with everything that looks like a credential replaced."""
    return _SECRETS.sub("(a credential)", text)


def holds_credential(name: str) -> bool:
    """Whether a name holds a credential; in the middle of a word, letters are only letters."""
    return _IN_A_NAME.search(name) is not None


names_credential = lru_cache(maxsize=4096)(holds_credential)
"""The same for names that come again and again; never for what is new with each call."""
