"""The sections of a policy file that say what a tool is, and what data is used for."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tabard.policy.fields import CallCost, Label, Section

DATA_CLASSES = ["public", "internal", "personal", "special_category"]
"""Low to high, unless the file has its own."""

LegalBasis = Literal[
    "consent",
    "contract",
    "legal_obligation",
    "vital_interests",
    "public_task",
    "legitimate_interests",
]
"""GDPR, Art. 6(1)."""


class Purpose(Section):
    """Why data is used; every record of a call under it carries these facts (GDPR, Art. 30)."""

    legal_basis: LegalBasis | None = None
    data_subjects: tuple[Label, ...] = ()
    retention_days: Annotated[int, Field(ge=1)] | None = None


class Capture(Section):
    """What is kept of a tool's calls, beside the log: scrubbed, encrypted, erasable.

    Without it only commitments are: they show later that a value was the one, and tell nothing.
    """

    args: tuple[Annotated[str, Field(min_length=1, max_length=100)], ...] = ()
    result: bool = False


class ToolSection(Section):
    """What a tool is, whoever uses it.

    Where several entries match a name, the highest class and cost count, and all purposes bind.
    """

    data_class: str | None = None
    asset: Label | None = None
    purposes: Annotated[list[str], Field(min_length=1)] | None = None
    cost: CallCost = 0
    capture: Capture = Capture()
