"""The matrix for CrewAI, for a plugin's tests: inherit, and say how your guard wraps a tool.

A guard that is hooks is installed by a fixture of the class.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from crewai.hooks import HookAborted
from crewai.tools import BaseTool

from tabard.testing.attempt import Attempt, Kind
from tabard.testing.conformance import Conformance, Work
from tabard.testing.crewai.paths import MODELS, TOOLS, Case, Path


class CrewAIConformance(Conformance):
    """The matrix over CrewAI's own paths.

    Attributes:
        tools: The tool paths this guard stands in, each with whether the model asks natively.
        models: The model paths.
    """

    tools: ClassVar[Mapping[str, tuple[Path, bool]]] = TOOLS
    models: ClassVar[Mapping[str, Path]] = MODELS
    refusals: ClassVar[tuple[type[BaseException], ...]] = (HookAborted,)
    struck_within: ClassVar[frozenset[str]] = frozenset(TOOLS)

    @classmethod
    def wrap(cls, tool: BaseTool) -> BaseTool:
        """The tool as the guard under test makes it; as it is where hooks do the work."""
        return tool

    @classmethod
    def paths(cls, kind: Kind) -> Mapping[str, Work]:
        """The paths of a kind, each with the guard put in."""
        if kind == "tool":
            return {name: cls._work(path, native) for name, (path, native) in cls.tools.items()}
        if kind == "model":
            return {name: cls._work(path, True) for name, path in cls.models.items()}
        return {}

    @classmethod
    def _work(cls, path: Path, native: bool) -> Work:
        def work(attempt: Attempt) -> object:
            return path(Case(attempt=attempt, wrap=cls.wrap, native=native))

        return work
