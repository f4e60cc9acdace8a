"""The matrix for LangChain, for a plugin's tests: inherit, and say what your guard puts in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from tabard.testing.attempt import Attempt, Kind
from tabard.testing.conformance import Conformance, Work
from tabard.testing.langchain.case import Case, Fitting
from tabard.testing.langchain.model_paths import MODELS, RETRIEVER
from tabard.testing.langchain.tool_paths import AGENTS, REPORTED, Path


class LangChainConformance(Conformance):
    """The matrix over LangChain's own paths.

    Attributes:
        tools: The tool paths this guard stands in; default those LangChain reports to callbacks.
        models: The model paths.
        retrievals: The retriever paths.
    """

    tools: ClassVar[Mapping[str, Path]] = REPORTED
    models: ClassVar[Mapping[str, Path]] = MODELS
    retrievals: ClassVar[Mapping[str, Path]] = RETRIEVER
    struck_within: ClassVar[frozenset[str]] = frozenset(AGENTS)

    @classmethod
    def fit(cls) -> Fitting:
        """What the guard under test puts into LangChain, for one attempt."""
        raise NotImplementedError

    @classmethod
    def paths(cls, kind: Kind) -> Mapping[str, Work]:
        """The paths of a kind, each with the guard put in."""
        tables = {"tool": cls.tools, "model": cls.models, "retrieval": cls.retrievals}
        return {name: cls._work(path) for name, path in tables[kind].items()}

    @classmethod
    def _work(cls, path: Path) -> Work:
        def work(attempt: Attempt) -> object:
            return path(Case(attempt=attempt, fitting=cls.fit()))

        return work
