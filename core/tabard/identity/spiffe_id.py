"""The name of a workload: a SPIFFE ID, parsed strictly and never normalised.

Rules of the SPIFFE-ID standard, section 2. Where it says both that upper case is the same and that
it is not allowed, tabard refuses it.

>>> SpiffeId.parse("spiffe://acme.example/env/prod/team/claims/agent/claims-agent").trust_domain
'acme.example'
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Self

from tabard.errors import InvalidSpiffeId
from tabard.redaction import holds_credential

MAX_LENGTH = 2048
"""Characters of a SPIFFE ID; the standard asks for no more to be supported."""

_ID = re.compile(
    r"spiffe://(?P<domain>[a-z0-9._-]{1,255})"
    r"(?P<path>(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._-]+)*)",
    re.ASCII,
)
_SEGMENT = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,128}", re.ASCII)


@dataclass(frozen=True, slots=True)
class SpiffeId:
    """A SPIFFE ID that is one, however it was made; equal when the text is equal.

    Attributes:
        text: The whole ID.
        trust_domain: The part that names who vouches for it.
        path: The rest, with its leading slash; empty for a trust domain itself.
    """

    text: str
    trust_domain: str = field(init=False, repr=False, compare=False)
    path: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        text = self.text
        if type(text) is not str or len(text) > MAX_LENGTH:
            raise InvalidSpiffeId(f"expected a SPIFFE ID of at most {MAX_LENGTH} characters")
        match = _ID.fullmatch(text)
        if match is None:
            raise InvalidSpiffeId(
                "expected spiffe://<trust domain>/<path>: a lower-case trust domain, segments of "
                f"letters, digits, `.`, `_` and `-`; found {text[:100]!r}"
            )
        # The class is frozen: this is the one place that sets what follows from the text.
        object.__setattr__(self, "trust_domain", match["domain"])
        object.__setattr__(self, "path", match["path"])

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a SPIFFE ID.

        Raises:
            InvalidSpiffeId: It is not one.
        """
        return cls(text)

    @property
    def segments(self) -> tuple[str, ...]:
        """The parts of the path; match by these, never by a prefix of the text."""
        return tuple(self.path.split("/")[1:])

    @classmethod
    def for_trust_domain(cls, name: str) -> Self:
        """The ID of a trust domain itself, such as `spiffe://acme.example`.

        Raises:
            InvalidSpiffeId: It is not the name of a trust domain.
        """
        if type(name) is not str or "/" in name:
            raise InvalidSpiffeId(
                f"trust domain: expected a lower-case name such as acme.example, "
                f"found {name!r:.100}"
            )
        return cls.parse(f"spiffe://{name}")

    @classmethod
    def for_agent(cls, *, trust_domain: str, environment: str, team: str, name: str) -> Self:
        """The ID of an agent: `spiffe://<td>/env/<environment>/team/<team>/agent/<name>`.

        Raises:
            InvalidSpiffeId: A part may not stand in a SPIFFE ID; names the part.
        """
        for what, part in (("environment", environment), ("team", team), ("name", name)):
            if type(part) is not str or not _SEGMENT.fullmatch(part):
                raise InvalidSpiffeId(
                    f"{what}: expected 1 to 128 letters, digits, `.`, `_` or `-`, "
                    f"found {part!r:.100}"
                )
            if holds_credential(part):
                raise InvalidSpiffeId(f"{what}: this is a credential; a name is on every record")
        domain = cls.for_trust_domain(trust_domain)
        return cls.parse(f"{domain}/env/{environment}/team/{team}/agent/{name}")

    def __str__(self) -> str:
        """The whole ID."""
        return self.text
