"""The JSON Schema of the policy file, for editors."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

FILE_NAME = "policy.schema.json"


def schema() -> dict[str, Any]:
    """The schema as it follows from the document."""
    from tabard.policy.document import Document

    made = _without_null(Document.model_json_schema(by_alias=True))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **made,
        "title": "tabard policy",
    }


def _without_null(part: Any) -> Any:
    """The same without null among what a field may be: the loader refuses one left empty."""
    if isinstance(part, list):
        return [_without_null(item) for item in part]
    if not isinstance(part, dict):
        return part
    kept = {name: _without_null(item) for name, item in part.items()}
    if kept.get("default", ...) is None:
        del kept["default"]
    if {"type": "null"} in (choices := kept.get("anyOf", ())):
        choices.remove({"type": "null"})
        if len(choices) == 1:
            del kept["anyOf"]
            kept = {**choices[0], **kept}
    return kept


def published_schema() -> str:
    """The text of the schema that the package ships."""
    return files("tabard.policy").joinpath(FILE_NAME).read_text(encoding="utf-8")
