"""The matrix: every path of LangChain, under everything that goes wrong, for each way to guard."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import pytest
from langchain_core.tracers import context as tracers

from tabard.testing.langchain.case import Fitting
from tabard.testing.langchain.conformance import LangChainConformance
from tabard.testing.langchain.model_paths import DROPPED_MODELS, MODELS
from tabard.testing.langchain.tool_paths import AGENTS, DIRECT, DROPPED, REPORTED
from tabard_langchain import (
    TabardCallbackHandler,
    TabardMiddleware,
    install,
    net,
    protect,
)

_IN_AN_AGENT = {name: path for name, path in MODELS.items() if name.startswith("in create_agent")}


class TestHandler(LangChainConformance):
    title = "LangChain, TabardCallbackHandler"

    @classmethod
    def fit(cls) -> Fitting:
        return Fitting(callbacks=[TabardCallbackHandler()])


class TestProtect(LangChainConformance):
    title = "LangChain, protect"
    tools = REPORTED | DROPPED | DIRECT
    models: ClassVar = {}
    retrievals: ClassVar = {}

    @classmethod
    def fit(cls) -> Fitting:
        return Fitting(wrap=protect)


class TestMiddleware(LangChainConformance):
    title = "LangChain, TabardMiddleware"
    tools = AGENTS
    models: ClassVar = _IN_AN_AGENT
    retrievals: ClassVar = {}

    @classmethod
    def fit(cls) -> Fitting:
        return Fitting(middleware=[TabardMiddleware()])


class TestNet(LangChainConformance):
    title = "LangChain, install()"
    tools = DROPPED | AGENTS
    models = DROPPED_MODELS
    retrievals: ClassVar = {}

    @classmethod
    def fit(cls) -> Fitting:
        return Fitting()

    @pytest.fixture(autouse=True)
    def _installed(self) -> Iterator[None]:
        """LangChain knows no way back, so its list is put back as it was."""
        hooks = list(tracers._configure_hooks)
        install()
        yield
        tracers._configure_hooks[:] = hooks
        net._everywhere.clear()


class TestAllTogether(LangChainConformance):
    title = "LangChain, all of them"
    tools = AGENTS
    models: ClassVar = _IN_AN_AGENT
    retrievals: ClassVar = {}

    @classmethod
    def fit(cls) -> Fitting:
        return Fitting(
            callbacks=[TabardCallbackHandler()], middleware=[TabardMiddleware()], wrap=protect
        )


def test_wide_enough() -> None:
    """As many paths as were promised."""
    assert len(REPORTED) >= 24
    assert len(MODELS) >= 15
