"""The matrix: every path of CrewAI, under everything that goes wrong, for each way to guard."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import pytest
from crewai.hooks import InterceptionPoint, unregister_hook
from crewai.tools import BaseTool

from tabard.testing.crewai.conformance import CrewAIConformance
from tabard.testing.crewai.paths import DIRECT, MODELS, TOOLS
from tabard_crewai import hooks, install, protect, uninstall

pytestmark = pytest.mark.crewai


class TestToolHooks(CrewAIConformance):
    """Tools that know nothing of tabard, and no model hooks: the tool's own must stop it."""

    title = "CrewAI, install()"
    models: ClassVar = {}

    @pytest.fixture(autouse=True)
    def _installed(self) -> Iterator[None]:
        install()
        for point in (InterceptionPoint.PRE_MODEL_CALL, InterceptionPoint.POST_MODEL_CALL):
            unregister_hook(point, hooks.HOOKS[point])
        yield
        uninstall()


class TestModelHooks(CrewAIConformance):
    title = "CrewAI, install()"
    tools: ClassVar = {}

    @pytest.fixture(autouse=True)
    def _installed(self) -> Iterator[None]:
        install()
        yield
        uninstall()


class TestProtect(CrewAIConformance):
    """Protected tools alone, without any hook."""

    title = "CrewAI, protect"
    tools: ClassVar = {
        **{
            name: TOOLS[name] for name in TOOLS if name.partition(",")[0] in ("kickoff", "akickoff")
        },
        **{name: TOOLS[name] for name in TOOLS if name.startswith(("async task", "Agent"))},
        **{name: (path, True) for name, path in DIRECT.items()},
    }
    models: ClassVar = {}

    @classmethod
    def wrap(cls, tool: BaseTool) -> BaseTool:
        return protect(tool)


def test_wide_enough() -> None:
    """As many paths as were promised."""
    assert len(TOOLS) >= 12
    assert len(MODELS) >= 6
