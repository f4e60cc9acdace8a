"""What a person says for the record: text that can be kept, and never a credential.

Whoever takes back a key that has leaked may well paste it into the reason. That must not keep them
from taking it back, so it is replaced and not refused. A name is refused: it would be another's.

>>> remark("reason", "leaked: tbk_0123456789_abcdefgh")
'leaked: (a credential)'
"""

from __future__ import annotations

from tabard.errors import ConfigurationError
from tabard.redaction import redact


def remark(what: str, text: object) -> str | None:
    """A remark as it may be kept; None where nothing was said.

    Args:
        what: What it is, for the message.
        text: What was said.

    Raises:
        ConfigurationError: It is no text.
    """
    if text is None:
        return None
    if not isinstance(text, str) or not has_utf8_form(text):
        raise ConfigurationError(f"{what}: expected text")
    return redact(text)


def has_utf8_form(text: str) -> bool:
    """Whether it can be written down: half a character cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
