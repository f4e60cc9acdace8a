"""The published JSON Schema says what the loader accepts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from tabard import ConfigurationError
from tabard.policy import load
from tabard.policy.schema import published_schema, schema

ROOT = Path(__file__).parents[3]
POLICIES = [
    *(path for path in ROOT.glob("examples/*.yaml") if ".test" not in path.name),
    *ROOT.glob("core/tabard/cli/starter/policy.yaml"),
    ROOT / "README.md",
    Path(__file__).with_name("test_every_field.py"),
]


def test_published() -> None:
    """The file in the package is that of the document; `tabard policy schema` prints it."""
    assert json.loads(published_schema()) == schema()


def test_describes_every_section() -> None:
    """An editor is told of unknown fields in every section."""
    document = json.loads(published_schema())
    for section in (document, *document["$defs"].values()):
        if section.get("type") == "object":
            assert section["additionalProperties"] is False


def patterns(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("pattern"), str):
            yield part["pattern"]
        yield from part.get("patternProperties", ())
        for item in part.values():
            yield from patterns(item)
    elif isinstance(part, list):
        for item in part:
            yield from patterns(item)


def test_patterns_are_those_of_editors() -> None:
    r"""Anchored, and nothing that ECMA-262 reads in another way or not at all (`\z`, `(?i)`)."""
    found = set(patterns(schema()))
    assert len(found) > 4
    for pattern in found:
        assert pattern.startswith("^")
        assert pattern.endswith("$")
        assert not re.search(r"\\[zZA]|\(\?", pattern)


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.name)
def test_policies_fit(path: Path) -> None:
    """Every policy that is shown to anybody, and one with all fields, is right to an editor."""
    text = path.read_text()
    if path.suffix != ".yaml":
        text = "version: 1\n" + re.split(r'```|"""', text.split("version: 1\n", 1)[1])[0]
    load(text)
    # As an editor sees it: dates are text.
    data = json.loads(json.dumps(YAML(typ="safe").load(text), default=str))
    validator = jsonschema.Draft202012Validator(schema())
    assert [error.message for error in validator.iter_errors(data)] == []


@pytest.mark.parametrize(
    ("team", "fits"), [("claims", True), (["claims", "desk"], True), ([], False), (None, False)]
)
def test_one_name_or_several(team: Any, fits: bool) -> None:
    """A team is plain text or a list; nothing left empty fits."""
    data = {"version": 1, "agents": {"a": {"match": {"team": team}}}}
    assert jsonschema.Draft202012Validator(schema()).is_valid(data) is fits


@pytest.mark.parametrize(
    "text",
    [
        r'agents: {"a\n": {}}',
        r'agents: {a: {grants: [{id: "g\n", tools: [t]}]}}',
        r'currency: "EUR\n"',
        r'agents: {a: {rates: [{tools: [t], limit: 1, per: "1m\n"}]}}',
    ],
)
def test_loader_stays_strict(text: str) -> None:
    """`$` is the very end in the loader: a line break behind a name is no part of it."""
    with pytest.raises(ConfigurationError):
        load(f"version: 1\n{text}\n")
