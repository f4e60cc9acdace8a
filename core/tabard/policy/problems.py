"""Says what is wrong with a policy document: where, what was found, what was expected."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from tabard.policy.document import Document
from tabard.policy.references import find_broken_references


def find_problems(data: Any) -> tuple[Document | None, list[str]]:
    """Validate parsed YAML: the document if it can be read, and every problem as one sentence."""
    empty = list(_left_empty(data))
    problems = [f"{path}: left empty (null); give it a value, or leave it out" for path in empty]
    try:
        document = Document.model_validate(data)
    except ValidationError as error:
        found = describe_problems(error, Document)
        known = tuple(f"{path}{end}" for path in empty for end in (": ", "."))
        return None, [*problems, *(one for one in found if not one.startswith(known))]
    return document, [*problems, *find_broken_references(document)]


def _left_empty(data: Any) -> Iterator[str]:
    """The path of every null: a condition without its value would be no condition at all."""
    seen: set[int] = set()  # an alias can stand in a million places, or in itself
    waiting: list[tuple[str, Any]] = [("", data)]
    while waiting:
        path, value = waiting.pop()
        if value is None:
            yield path or "the file"
        if not isinstance(value, dict | list) or id(value) in seen:
            continue
        seen.add(id(value))
        members = value.items() if isinstance(value, dict) else enumerate(value)
        inner = [(f"{path}.{name}" if path else str(name), item) for name, item in members]
        waiting.extend(reversed(inner))


def describe_problems(error: ValidationError, root: type[BaseModel]) -> list[str]:
    """Every problem of a document whose outermost section is `root`, each as one sentence."""
    return [_describe(item, root) for item in error.errors(include_url=False)]


def _describe(error: ErrorDetails, root: type[BaseModel]) -> str:
    """One sentence for one problem: where, what was found, what was expected."""
    where = ".".join(str(part) for part in error["loc"] if part != "[key]") or "the file"
    if error["type"] == "extra_forbidden":
        return f"{where}: {_explain_unknown(error['loc'], root)}"
    if error["type"] == "missing":
        return f"{where}: this field is required and was not found"
    message = error["msg"].removeprefix("Value error, ")
    found = error["input"]
    shown = f", found {found!r}" if isinstance(found, str | int | float | bool) else ""
    return f"{where}: {message}{shown}"


def _explain_unknown(loc: tuple[int | str, ...], root: type[BaseModel]) -> str:
    name, known = str(loc[-1]), _fields_at(loc[:-1], root)
    close = get_close_matches(name, known, n=1)
    hint = f"; did you mean `{close[0]}`?" if close else ""
    return f"unknown field, expected one of {', '.join(known)}{hint}"


def _fields_at(loc: tuple[int | str, ...], section: type[BaseModel]) -> list[str]:
    """The field names of the section at `loc`, found by walking the models' annotations."""
    for part in loc:
        field = next((f for n, f in section.model_fields.items() if part in (n, f.alias)), None)
        if field is not None and (inner := _model_in(field.annotation)) is not None:
            section = inner
    return sorted(field.alias or name for name, field in section.model_fields.items())


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model inside an annotation such as `dict[str, Model]` or `list[Model] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((m for part in get_args(annotation) if (m := _model_in(part)) is not None), None)
