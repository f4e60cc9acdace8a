r"""Reads a policy file: YAML 1.2, no duplicate keys, every problem reported at once.

>>> policy = load("version: 1\nagents: {clerk: {grants: [{tools: [search], args: {q: {}}}]}}")
>>> sorted(policy.agents)
['clerk']
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tabard.errors import ConfigurationError

if TYPE_CHECKING:
    from tabard.policy.document import Document
    from tabard.policy.rules import Policy

MAX_BYTES = 4_194_304
"""The largest policy text that is read (4 MiB)."""


def load(source: str | os.PathLike[str]) -> Policy:
    """Read and compile a policy.

    Args:
        source: A path, or the YAML text itself (any string with a line break in it).

    Raises:
        ConfigurationError: Naming the file, each field, what was found and what was expected.
    """
    document, text = load_document(source)
    # Imported here: who only verifies tokens or reads a log does not pay for the file format.
    from tabard.policy.compiler import compile_document

    return compile_document(document, text)


def load_document(source: str | os.PathLike[str]) -> tuple[Document, str]:
    """Read and check a policy without compiling it: the document, and its text.

    Raises:
        ConfigurationError: As `load`.
    """
    text, origin = read_source(source, "policy")
    data = read_yaml(text, origin)
    if not isinstance(data, dict):
        found = "nothing" if data is None else type(data).__name__
        raise ConfigurationError(
            f"{origin}: expected a mapping with `version: 1` and `agents:`, found {found}"
        )
    from tabard.policy.problems import find_problems

    try:
        document, problems = find_problems(data)
    except RecursionError:
        document, problems = None, ["nested too deeply for a policy"]
    if document is None or problems:
        raise ConfigurationError("\n".join(f"{origin}: {problem}" for problem in problems))
    return document, text


def read_source(source: str | os.PathLike[str], what: str) -> tuple[str, str]:
    """The text of a file, and what to call it in a message.

    Args:
        source: A path, or the text itself (any string with a line break in it).
        what: What kind of text it should be, for messages.

    Raises:
        ConfigurationError: There is no readable file, or it is too large or no text.
    """
    if not isinstance(source, str | os.PathLike):
        kind = type(source).__name__
        raise ConfigurationError(f"{what}: expected a path or YAML text, found {kind}")
    if isinstance(source, str) and "\n" in source:
        return source, f"{what} text"
    path = Path(source)
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise ConfigurationError(f"{path}: not a file, so not a {what} file")
        if found.st_size > MAX_BYTES:
            raise ConfigurationError(f"{path}: larger than {MAX_BYTES} bytes, not a {what} file")
        return path.read_text(encoding="utf-8"), str(path)
    except OSError as error:
        raise ConfigurationError(f"{path}: no readable {what} file: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: not UTF-8 text, so not a {what} file") from None
    except ValueError:
        raise ConfigurationError(f"{what}: a path cannot hold a NUL or half a character") from None


def read_yaml(text: str, origin: str) -> Any:
    """The parsed YAML 1.2 of a text.

    Raises:
        ConfigurationError: It is not YAML; `origin` is named.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError

    try:
        return YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{mark.line + 1}:{mark.column + 1}: " if mark else ""
        raise ConfigurationError(f"{origin}:{place} not valid YAML: {error.problem}") from None
    except Exception as error:  # `!!bool x` is a KeyError of the library's, and not the only one
        raise ConfigurationError(f"{origin}: not valid YAML: {type(error).__name__}") from None
