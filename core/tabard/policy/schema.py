"""The JSON Schema of the policy file, for editors."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

FILE_NAME = "policy.schema.json"


def schema() -> dict[str, Any]:
    """The schema as it follows from the document."""
    from tabard.policy.document import Document

    made = Document.model_json_schema(by_alias=True)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **made,
        "title": "tabard policy",
    }


def published_schema() -> str:
    """The text of the schema that the package ships."""
    return files("tabard.policy").joinpath(FILE_NAME).read_text(encoding="utf-8")
