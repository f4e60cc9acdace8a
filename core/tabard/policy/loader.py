r"""Reads a policy file: YAML 1.2, no duplicate keys, every problem reported at once.

>>> policy = load("version: 1\nagents: {clerk: {grants: [{tools: [search], args: {q: {}}}]}}")
>>> sorted(policy.agents)
['clerk']
"""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, ValidationError

from tabard.errors import ConfigurationError
from tabard.policy.compiler import Policy, compile_document
from tabard.policy.document import NOT_YET_ENFORCED, Document
from tabard.policy.references import find_broken_references

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

MAX_BYTES = 4_194_304
"""The largest policy text that is read (4 MiB)."""


def load(source: str | os.PathLike[str]) -> Policy:
    """Read and compile a policy.

    Args:
        source: A path, or the YAML text itself (any string with a line break in it).

    Raises:
        ConfigurationError: Naming the file, each field, what was found and what was expected.
    """
    if isinstance(source, str) and "\n" in source:
        return _compile(source, "policy text")
    path = Path(source)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigurationError(f"{path}: larger than {MAX_BYTES} bytes, not a policy file")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path}: no readable policy file: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: not UTF-8 text, so not a policy file") from None
    return _compile(text, str(path))


def _compile(text: str, origin: str) -> Policy:
    data = _read_yaml(text, origin)
    if not isinstance(data, dict):
        found = "nothing" if data is None else type(data).__name__
        raise ConfigurationError(
            f"{origin}: expected a mapping with `version: 1` and `agents:`, found {found}"
        )
    try:
        document = Document.model_validate(data)
        problems = find_broken_references(document)
    except ValidationError as error:
        problems = [_describe(item) for item in error.errors(include_url=False)]
    except RecursionError:
        problems = ["nested too deeply for a policy"]
    if problems:
        raise ConfigurationError("\n".join(f"{origin}: {problem}" for problem in problems))
    return compile_document(document)


def _read_yaml(text: str, origin: str) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        return YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{mark.line + 1}:{mark.column + 1}: " if mark else ""
        raise ConfigurationError(f"{origin}:{place} not valid YAML: {error.problem}") from None
    except (YAMLError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{origin}: not valid YAML: {type(error).__name__}") from None


def _describe(error: ErrorDetails) -> str:
    """One sentence for one problem: where, what was found, what was expected."""
    where = ".".join(str(part) for part in error["loc"] if part != "[key]") or "the file"
    if error["type"] == "extra_forbidden":
        return f"{where}: {_explain_unknown(error['loc'])}"
    if error["type"] == "missing":
        return f"{where}: this field is required and was not found"
    message = error["msg"].removeprefix("Value error, ")
    found = error["input"]
    shown = f", found {found!r}" if isinstance(found, str | int | float | bool) else ""
    return f"{where}: {message}{shown}"


def _explain_unknown(loc: tuple[int | str, ...]) -> str:
    name, known = str(loc[-1]), _fields_at(loc[:-1])
    if name in NOT_YET_ENFORCED or loc == ("tools",):
        return "this version does not enforce this field yet, so it does not accept it"
    close = get_close_matches(name, known, n=1)
    hint = f"; did you mean `{close[0]}`?" if close else ""
    return f"unknown field, expected one of {', '.join(known)}{hint}"


def _fields_at(loc: tuple[int | str, ...]) -> list[str]:
    """The field names of the section at `loc`, found by walking the models' annotations."""
    section: type[BaseModel] = Document
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
