"""The published JSON Schema says what the loader accepts."""

from __future__ import annotations

import json

from tabard.policy.schema import published_schema, schema


def test_published() -> None:
    """The file in the package is that of the document; `tabard policy schema` prints it."""
    assert json.loads(published_schema()) == schema()


def test_describes_every_section() -> None:
    """An editor is told of unknown fields in every section."""
    document = json.loads(published_schema())
    for section in (document, *document["$defs"].values()):
        if section.get("type") == "object":
            assert section["additionalProperties"] is False
