"""Takes secrets out of what is kept of a call: by the name they go under, and by their form.

It errs on the side of taking out, but for what holds nothing: a truth value, and a count.

>>> scrub({"user": "jane", "pwd": "hunter2", "note": "token=abc, then left", "max_tokens": 100})
{'user': 'jane', 'pwd': '(scrubbed)', 'note': 'token=(scrubbed), then left', 'max_tokens': 100}
"""

from __future__ import annotations

import json
import re
from functools import lru_cache

from tabard.redaction import redact

SCRUBBED = "(scrubbed)"
"""What stands in the place of a secret."""

_SECRET_NAME = re.compile(
    r"passw|passphrase|passcode|secret(?!ar)|token(?!i[sz])|api_?key|access_?key|credential"
    r"|cookie|signature|session_?id|card_?n(?:o|r|um)"
    r"|(?:^|_)(?:pass|pwd|pw|pin|puk|cvv2?|cvc2?|otp|totp|jwt|auth|authori[sz]ation|private|ssn)(?:_|$)"
    r"|(?:^|_)iban"
)
_COUNTED = re.compile(r"tokens|(?:^|_)pass(?:_|$)")
"""What may as well be a number of something: tokens used, tests passed."""

_SECRET_FORM = re.compile(
    r"(?i)\b(?:sk|pk|rk|ghp|gho|xox[abpr])[-_][a-z0-9_-]{16,}"  # keys of well-known services
    r"|\bbearer\s+[a-z0-9._~+/=-]{8,}"
    r"|\b[a-z][a-z0-9+.-]{0,20}://[^/\s:@]*:[^/\s@]+@"  # a password in an address
    r"|\b(?:\d[ -]?){12,18}\d\b"  # the number of a payment card
    r"|\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,4})?\b"  # an IBAN
)
_NAME_IN_TEXT = re.compile(
    r"(?i)((?<![\w.-])(?:api |access |private |secret |card )?[\w.-]{1,200})"
    r"[\"']?\s{0,4}[:=]\s{0,4}"
)
_VALUE_IN_TEXT = re.compile(
    r"(?i)(?:(?:bearer|basic|digest|token)\s+)?(?:\"[^\"]*\"|'[^']*'|[^\s\"'&,;)\]}]+)"
)
_NUMBER = re.compile(r"\d{1,9}")
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+")
_CARD = range(13, 20)
_CARD_BEGINS = ("22", "23", "24", "25", "26", "27", "3", "4", "5", "6")


def scrub(value: object) -> object:
    """A plain JSON value without what looks like a secret.

    A text that is JSON itself is read and scrubbed as such. A name that is a secret is replaced
    as well.
    """
    if isinstance(value, str):
        return _scrub_text(value)
    if isinstance(value, dict):
        return _scrub_members(value)
    if isinstance(value, list):
        return [scrub(item) for item in value]
    return SCRUBBED if _is_card(value) else value


def _scrub_members(members: dict[str, object]) -> dict[str, object]:
    scrubbed: dict[str, object] = {}
    for name, item in members.items():
        shown = said = _scrub_plain(name)
        while shown in scrubbed:  # two secrets as names: none of what they hold is lost
            shown = f"{said} {len(scrubbed)}"
        scrubbed[shown] = SCRUBBED if _is_secret(name, item) else scrub(item)
    return scrubbed


def _is_secret(name: str, value: object) -> bool:
    """Whether what goes under a name is one."""
    if value is None or isinstance(value, bool) or not _names_secret(name):
        return False
    return not (isinstance(value, int | float) and _names_count(name))


@lru_cache(maxsize=1024)
def _names_secret(name: str) -> bool:
    return _SECRET_NAME.search(_WORDS.sub("_", name).lower()) is not None


def _names_count(name: str) -> bool:
    return _COUNTED.search(_WORDS.sub("_", name).lower()) is not None


def _scrub_text(text: str) -> str:
    if text.lstrip()[:1] in ("{", "["):
        try:
            found = json.loads(text, object_pairs_hook=_only_once)
            scrubbed = scrub(found)
        except (ValueError, RecursionError):
            return _scrub_plain(text)
        return text if scrubbed == found else json.dumps(scrubbed)
    return _scrub_plain(text)


def _only_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object whose members have a name each.

    Raises:
        ValueError: One would hide another.
    """
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name comes twice")
    return members


def _scrub_plain(text: str) -> str:
    """The text without secrets by their form, nor those that a name announces."""
    kept, end = [], 0
    for announced in _NAME_IN_TEXT.finditer(text):
        name = announced[1]
        if announced.start() < end or not _names_secret(name):
            continue
        value = _VALUE_IN_TEXT.match(text, announced.end())
        if value is None or ("tokens" in name.lower() and _NUMBER.fullmatch(value[0])):
            continue
        kept += [text[end : announced.end()], SCRUBBED]
        end = value.end()
    return redact(_SECRET_FORM.sub(SCRUBBED, "".join([*kept, text[end:]])))


def _is_card(value: object) -> bool:
    """Whether a number is that of a payment card: its length, its beginning, its check digit."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        return False
    digits = str(int(value))
    if len(digits) not in _CARD or not digits.startswith(_CARD_BEGINS):
        return False
    doubled = (2 * int(digit) for digit in digits[-2::-2])
    return (sum(map(int, digits[-1::-2])) + sum(n - 9 if n > 9 else n for n in doubled)) % 10 == 0
