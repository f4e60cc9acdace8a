r"""Patterns a policy is written in: name globs and RE2 expressions, both anchored.

>>> NamePattern.parse("claims_db.*").matches("claims_db.query")
True
>>> NamePattern.parse("claims_db.*").matches("claims_db.admin.drop")
False
>>> Regex.parse("POL-[0-9]{6}").matches("POL-123456\n")
False
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Regex:
    """An RE2 expression that has to match the whole text, in time linear in its length."""

    text: str
    _compiled: Any

    @classmethod
    def parse(cls, text: str, *, dot_matches_newline: bool = False) -> Regex:
        """Compile an expression.

        Args:
            text: The RE2 expression; `^` and `$` are not needed.
            dot_matches_newline: For rules that deny: a line break must not hide what follows it.

        Raises:
            ValueError: It is not an RE2 expression (look-around and back-references are not).
        """
        import re2  # not needed to import tabard

        options = re2.Options()
        options.log_errors = False
        options.dot_nl = dot_matches_newline
        try:
            return cls(text, re2.compile(text, options))
        except (re2.error, UnicodeEncodeError) as error:
            raise ValueError(f"not an RE2 expression: {_detail(error)}") from None

    def matches(self, text: str) -> bool:
        """Whether the whole of `text` matches."""
        # Bytes take RE2's short path: no character offsets are worked out.
        return self._compiled.fullmatch(text.encode()) is not None


def _detail(error: Exception) -> str:
    detail = error.args[0] if error.args else "unknown error"
    return detail.decode(errors="replace") if isinstance(detail, bytes) else str(detail)


@dataclass(frozen=True, slots=True)
class NamePattern:
    """An anchored, case-sensitive glob over dotted names.

    `**` matches any text. A `*` that is a whole segment matches one non-empty segment; a `*`
    inside a segment (`gpt-4o*`) matches any text without a dot.
    """

    text: str
    _regex: Regex | None

    @classmethod
    def parse(cls, text: str) -> NamePattern:
        """Compile a glob.

        Raises:
            ValueError: The pattern is empty or holds `***`.
        """
        if not text:
            raise ValueError("a name pattern must not be empty")
        if "***" in text:
            raise ValueError("a name pattern uses `*` or `**`, never `***`")
        if "*" not in text:
            return cls(text, None)
        return cls(text, Regex.parse(_to_regex(text), dot_matches_newline=True))

    @property
    def exact(self) -> bool:
        """Whether the pattern is a plain name."""
        return self._regex is None

    @property
    def closeness(self) -> tuple[bool, int]:
        """How closely the pattern describes its names: a plain name most, then by characters."""
        return self.exact, len(self.text.replace("*", ""))

    def matches(self, name: str) -> bool:
        """Whether the whole of `name` is matched."""
        return name == self.text if self._regex is None else self._regex.matches(name)


_IN_SEGMENT, _WHOLE_SEGMENT, _ANYTHING = "[^.]*", "[^.]+", ".*"


def _to_regex(glob: str) -> str:
    """Turn a glob into an expression; a `*` that fills its segment needs a character there."""
    import re2  # not needed to import tabard

    out, end = [], 0
    for star in re.finditer(r"\*\*|\*", glob):
        before, after = glob[: star.start()], glob[star.end() :]
        out.append(re2.escape(glob[end : star.start()]))
        end = star.end()
        if star.group() == "**":
            out.append(_ANYTHING)
        elif (not before or before.endswith(".")) and (not after or after.startswith(".")):
            out.append(_WHOLE_SEGMENT)
        else:
            out.append(_IN_SEGMENT)
    return "".join(out) + str(re2.escape(glob[end:]))
