"""The ways in which a LangChain hook is known to fail open, and attacks on this one."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, InjectedToolArg, Tool, tool
from pydantic import BaseModel, Field

from tabard import (
    AccessDenied,
    AuthenticationFailed,
    ConfigurationError,
    Guard,
    GuardUnavailable,
    NotPermitted,
)
from tabard.testing.langchain import (
    ScriptedChatModel,
    ScriptedCompletionModel,
    ScriptedRetriever,
)
from tabard_langchain import TabardCallbackHandler, protect


class TestHandlerCannotBeWeakened:
    @pytest.mark.parametrize("name", ["raise_error", "run_inline"])
    def test_switch_cannot_be_turned_off(self, name: str) -> None:
        """The switches that make a refusal count are not attributes one can set."""
        handler = TabardCallbackHandler()
        assert getattr(handler, name) is True
        with pytest.raises(AttributeError):
            setattr(handler, name, False)

    @pytest.mark.parametrize("name", ["ignore_llm", "ignore_agent", "ignore_chat_model"])
    def test_nothing_is_ignored(self, name: str) -> None:
        """The switches that skip a handler stay off."""
        with pytest.raises(AttributeError):
            setattr(TabardCallbackHandler(), name, True)

    @pytest.mark.parametrize(
        "members",
        [
            {"raise_error": False},
            {"run_inline": False},
            {"ignore_agent": True},
            {"ignore_llm": property(lambda self: True)},
            {"ignore_chat_model": True},
            {"ignore_retriever": True},
            {"on_tool_start": lambda self, *a, **k: None},
            {"on_llm_start": lambda self, *a, **k: None},
            {"on_chat_model_start": lambda self, *a, **k: None},
            {"_admit": lambda self, *a, **k: None},
            {"__getattribute__": lambda self, name: False},
        ],
        ids=lambda members: next(iter(members)),
    )
    def test_subclass_that_could_fail_open(self, members: dict[str, Any]) -> None:
        """A subclass that redefines what enforcement rests on cannot be made."""
        with pytest.raises(TypeError, match="fail open"):
            type("Open", (TabardCallbackHandler,), members)

    def test_async_subclass(self) -> None:
        """An async hook would only be logged by LangChain; it cannot be put in."""
        with pytest.raises(TypeError, match="fail open"):

            class Open(TabardCallbackHandler):
                async def on_tool_start(self, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
                    """Too late."""

    def test_harmless_subclass_still_enforces(self, counted: Any, guard: Any) -> None:
        """A subclass with members of its own refuses as before."""

        class Named(TabardCallbackHandler):
            label = "mine"

        with pytest.raises(AuthenticationFailed):
            counted.tool().invoke({"number": 1}, {"callbacks": [Named()]})
        assert counted.ran == 0

    @pytest.mark.parametrize("member", ["on_tool_start", "raise_error", "_session", "_permits"])
    def test_mixin_that_swallows_the_check(self, member: str) -> None:
        """A mixin that keeps the class from being looked at keeps no object from it."""

        class Mixin:
            def __init_subclass__(cls, **kwargs: Any) -> None:
                """Nobody further up is told."""

        made = type("Sub", (Mixin, TabardCallbackHandler), {member: property(lambda self: None)})
        with pytest.raises(TypeError, match=f"redefines __init_subclass__, {member}"):
            made()

    def test_logging_that_fails(
        self, counted: Any, guard: Guard, make_caller: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A log handler that raises what LangChain takes for leave to go on changes nothing."""

        class Unfinished(logging.Handler):
            """Its `emit` raises NotImplementedError."""

        logger, unfinished = logging.getLogger("tabard"), Unfinished()
        logger.addHandler(unfinished)
        caplog.set_level("DEBUG", logger="tabard")
        caller = make_caller("allowed").enter()
        guard.close()
        try:
            with caller, pytest.raises(GuardUnavailable):
                counted.tool().invoke({"number": 1}, {"callbacks": [TabardCallbackHandler()]})
        finally:
            logger.removeHandler(unfinished)
        assert counted.ran == 0

    @pytest.mark.parametrize("thing", ["abc", 5, object()])
    def test_no_session(self, thing: Any) -> None:
        """What is no session is refused when the handler is made."""
        with pytest.raises(ConfigurationError, match="expected a session"):
            TabardCallbackHandler(thing)

    def test_error_inside_the_hook(self, counted: Any, make_caller: Any) -> None:
        """Whatever goes wrong in the hook's own code is a refusal."""
        handler = TabardCallbackHandler()
        with make_caller("allowed").enter(), pytest.raises(GuardUnavailable, match="hook"):
            handler.on_tool_start(None, "x", run_id=None)  # type: ignore[arg-type]

    @pytest.mark.parametrize("error", [NotImplementedError, KeyError, RecursionError, MemoryError])
    @pytest.mark.parametrize(
        "where", ["tabard.delegation.decide", "tabard_langchain.handler.admit"]
    )
    def test_error_that_langchain_special_cases(
        self,
        error: type[Exception],
        where: str,
        counted: Any,
        make_caller: Any,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """`NotImplementedError` makes LangChain run the tool: none ever leaves the hook."""

        def explode(*_: Any, **__: Any) -> None:
            raise error

        with make_caller("allowed").enter():
            monkeypatch.setattr(where, explode)
            with pytest.raises(GuardUnavailable):
                counted.tool().invoke({"number": 1}, {"callbacks": [TabardCallbackHandler()]})
        assert counted.ran == 0

    def test_not_implemented_in_a_model_hook(
        self, make_caller: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The fallback to `on_llm_start` is never taken."""

        def explode(*_: Any, **__: Any) -> None:
            raise NotImplementedError

        model = ScriptedChatModel(script=[AIMessage("x")])
        monkeypatch.setattr("tabard_langchain.model.admit", explode)
        with make_caller("allowed").enter(), pytest.raises(GuardUnavailable):
            model.invoke("hi", {"callbacks": [TabardCallbackHandler()]})
        assert model.calls == 0

    def test_end_of_an_unknown_run(self) -> None:
        """An event of a run that was never admitted changes nothing and raises nothing."""
        handler = TabardCallbackHandler()
        handler.on_tool_end("x", run_id="r")  # type: ignore[arg-type]
        handler.on_llm_error(ValueError(), run_id="r")  # type: ignore[arg-type]
        handler.on_llm_end(object(), run_id="r")  # type: ignore[arg-type]

    def test_open_permits_are_bounded(
        self, guard: Any, make_caller: Any, counted: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Runs another handler stopped leave no trail in memory; they end as abandoned."""
        monkeypatch.setattr("tabard_langchain.progress.LIMIT", 3)

        class Stops(BaseCallbackHandler):
            raise_error = True

            def on_tool_start(self, *args: Any, **kwargs: Any) -> None:
                raise ValueError("stop")

        handler = TabardCallbackHandler()
        with make_caller("allowed").enter():
            for _ in range(5):
                with pytest.raises(ValueError, match="stop"):
                    counted.tool().invoke({"number": 1}, {"callbacks": [handler, Stops()]})
        outcomes = [r["outcome"] for r in guard.records() if r["type"] == "tool.outcome"]
        assert [o["error_type"] for o in outcomes] == ["abandoned", "abandoned"]


class TestIdentity:
    def test_explicit_session(self, guard: Any, authority: Any, counted: Any) -> None:
        """A handler made for a session speaks for it wherever it is called from."""
        session = guard.login(authority.issue("claims-agent"))
        other = guard.login(authority.issue("analytics-agent"))
        config = {"callbacks": [TabardCallbackHandler(session)]}
        with other:
            counted.tool().invoke({"number": 1}, config)
        assert counted.ran == 1

    def test_metadata_is_no_identity(self, counted: Any, guard: Any) -> None:
        """Names in the config's metadata give nobody an identity."""
        config = {
            "callbacks": [TabardCallbackHandler()],
            "metadata": {"lc_agent_name": "claims-agent", "agent": "claims-agent"},
            "configurable": {"agent_token": "x"},
        }
        with pytest.raises(AuthenticationFailed, match="no_identity"):
            counted.tool().invoke({"number": 1}, config)
        assert counted.ran == 0

    def test_bare_thread_has_no_identity(self, counted: Any, make_caller: Any) -> None:
        """A thread that copies no context has no session: refused, not inherited by luck."""
        codes: list[str] = []

        def work() -> None:
            try:
                counted.tool().invoke({"number": 1}, {"callbacks": [TabardCallbackHandler()]})
            except AccessDenied as refusal:
                codes.append(refusal.code)

        with make_caller("allowed").enter():
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
        assert (counted.ran, codes) == (0, ["no_identity"])

    def test_revoked_between_two_calls(self, guard: Any, authority: Any, counted: Any) -> None:
        """Revocation in the middle of a run stops the very next call."""
        config = {"callbacks": [TabardCallbackHandler()]}
        with guard.login(authority.issue("claims-agent")):
            counted.tool().invoke({"number": 1}, config)
            authority.revoke("claims-agent", reason="compromised")
            with pytest.raises(AuthenticationFailed, match="token_revoked"):
                counted.tool().invoke({"number": 1}, config)
        assert counted.ran == 1


class TestWhichModel:
    """The decision is about the model that is called, whatever a caller says."""

    HANDLER: Callable[[], Any] = staticmethod(lambda: {"callbacks": [TabardCallbackHandler()]})

    def refuse(self, model: Any, make_caller: Any, work: Callable[[Any], object]) -> str:
        with make_caller("allowed").enter(), pytest.raises(NotPermitted) as caught:
            work(model)
        assert model.calls == 0
        return str(caught.value.action)

    def test_metadata_of_the_config(self, make_caller: Any) -> None:
        """A caller's metadata does not turn a forbidden model into an allowed one."""
        model = ScriptedChatModel(script=[AIMessage("x")], model_name="gpt-3")
        lie = {"metadata": {"ls_model_name": "gpt-4o", "ls_provider": "openai"}}
        name = self.refuse(model, make_caller, lambda m: m.invoke("hi", {**self.HANDLER(), **lie}))
        assert name == "openai/gpt-3"

    def test_metadata_of_a_model_without_a_name(self, make_caller: Any) -> None:
        """Where only metadata names the model, it counts as unknown."""

        class Nameless(ScriptedChatModel):
            @property
            def _identifying_params(self) -> dict[str, Any]:
                return {}

            def _get_ls_params(self, stop: Any = None, **kwargs: Any) -> Any:
                return {"ls_model_type": "chat", "ls_provider": "openai"}

        model = Nameless(script=[AIMessage("x")])
        lie = {"metadata": {"ls_model_name": "gpt-4o"}}
        name = self.refuse(model, make_caller, lambda m: m.invoke("hi", {**self.HANDLER(), **lie}))
        assert name == "openai/unknown"

    @pytest.mark.parametrize("own", ["gpt-3", "gpt-4o"])
    def test_model_switched_at_run_time(self, own: str, make_caller: Any) -> None:
        """A model named at run time counts as well as the one it was built with."""
        model = ScriptedChatModel(script=[AIMessage("x")], model_name=own)
        other = "gpt-4o" if own == "gpt-3" else "gpt-3"
        bound = self.refuse(
            model, make_caller, lambda m: m.bind(model=other).invoke("hi", self.HANDLER())
        )
        passed = self.refuse(
            model, make_caller, lambda m: m.invoke("hi", self.HANDLER(), model=other)
        )
        assert bound == passed == "openai/gpt-3"

    PAST_THE_NAME: tuple[dict[str, Any], ...] = (
        {"extra_body": {"model": "gpt-3"}},
        {"extra_body": {"models": ["gpt-4o", "gpt-3"]}},
        {"extra_body": {"extra_body": {"model": "gpt-3"}}},
        {"extra_body": [("model", "gpt-3")]},
        {"model_kwargs": {"model": "gpt-3"}},
        {"models": ["gpt-3"]},
        {"models": "gpt-3"},
        {"fallbacks": [{"model": "gpt-3"}]},
        {"engine": "gpt-3"},
        {"deployment": "gpt-3"},
        {"deployment_name": "gpt-3"},
        {"modelId": "gpt-3"},
        {"model": ["gpt-3"]},
        {"model": b"gpt-3"},
        {"model": {"x": 1}},
        {"model": False},
    )

    @pytest.mark.parametrize("more", PAST_THE_NAME, ids=str)
    def test_model_named_past_its_name(self, more: dict[str, Any], make_caller: Any) -> None:
        """A parameter that makes a provider run another model counts, wherever it stands."""
        model = ScriptedChatModel(script=[AIMessage("x")], model_name="gpt-4o")
        self.refuse(model, make_caller, lambda m: m.invoke("hi", self.HANDLER(), **more))
        self.refuse(model, make_caller, lambda m: m.bind(**more).invoke("hi", self.HANDLER()))

    @pytest.mark.parametrize(
        "more",
        [
            {"extra_body": {"model": "gpt-4o", "top_k": 1}},
            {"model_kwargs": {}, "extra_body": None, "models": ["gpt-4o"], "model": None},
        ],
        ids=str,
    )
    def test_the_same_model_named_again(self, more: dict[str, Any], make_caller: Any) -> None:
        """The control: what names no other model is in nobody's way."""
        model = ScriptedChatModel(script=[AIMessage("x")], model_name="gpt-4o")
        with make_caller("allowed").enter():
            model.invoke("hi", self.HANDLER(), **more)
        assert model.calls == 1

    @pytest.mark.parametrize("serializable", [True, False])
    @pytest.mark.parametrize("field", ["extra_body", "model_kwargs"])
    def test_model_built_past_its_name(
        self, field: str, serializable: bool, make_caller: Any
    ) -> None:
        """And so does one the object was built with, which its own name does not show."""

        class Passing(ScriptedChatModel):
            extra_body: dict[str, Any] | None = None
            model_kwargs: dict[str, Any] = Field(default_factory=dict)

            @classmethod
            def is_lc_serializable(cls) -> bool:
                return serializable

        other: Any = {field: {"top_k": 1, "model": "gpt-3"}}
        model = Passing(script=[AIMessage("x")], **other)
        name = self.refuse(model, make_caller, lambda m: m.invoke("hi", self.HANDLER()))
        assert name == "openai/unknown"
        same: Any = {field: {"top_k": 1, "model": "gpt-4o"}}
        with make_caller("allowed").enter():
            Passing(script=[AIMessage("x")], **same).invoke("hi", self.HANDLER())

    def test_run_name_of_a_retriever(self, make_caller: Any) -> None:
        """A run's name does not turn one source into another."""
        source = ScriptedRetriever(name="secrets")
        config = {**self.HANDLER(), "run_name": "docs", "metadata": {"ls_retriever_name": "docs"}}
        name = self.refuse(source, make_caller, lambda r: r.invoke("hi", config))
        assert name == "retrieval.secrets"

    def test_run_name_of_a_tool(self, counted: Any, make_caller: Any) -> None:
        """A run's name does not turn one tool into another."""
        config = {**self.HANDLER(), "run_name": "lookup"}
        with make_caller("allowed").enter(), pytest.raises(NotPermitted, match="other"):
            counted.tool("other").invoke({"number": 1}, config)
        assert counted.ran == 0


class TestArgumentsThatRun:
    """`protect` decides on what runs: validated, defaulted, injected."""

    POLICY = """\
version: 1
agents:
  claims-agent:
    grants:
      - {tools: [rows], args: {limit: {type: integer, max: 100}}}
      - {tools: [mine], args: {number: {}, user: {equals: u1}}}
      - {tools: [plain], args: {text: {enum: [a]}}}
      - {tools: [bare]}
      - {tools: [cls], args: {number: {max: 5}}}
      - {tools: [conf], args: {number: {max: 5}}}
  analytics-agent: {}
"""

    @pytest.fixture
    def policy_text(self) -> str:
        return self.POLICY

    def test_default_counts(self, make_caller: Any, decisions: Any) -> None:
        """A default that the model left out is decided on, too."""
        ran: list[int] = []

        @protect
        @tool
        def rows(limit: int = 1_000_000) -> str:
            """Read rows."""
            ran.append(limit)
            return "ok"

        with make_caller("allowed").enter():
            with pytest.raises(NotPermitted, match=r"arg\.max"):
                rows.invoke({})
            rows.invoke({"limit": "50"})
        assert ran == [50]

    def test_injected_argument(self, make_caller: Any) -> None:
        """What the host injects can be constrained, and is not refused where it is not named."""
        ran: list[str] = []

        @protect
        @tool
        def mine(number: int, user: Annotated[str, InjectedToolArg]) -> str:
            """Read one's own."""
            ran.append(user)
            return "ok"

        with make_caller("allowed").enter():
            mine.invoke({"number": 1, "user": "u1"})
            with pytest.raises(NotPermitted, match=r"arg\.equals"):
                mine.invoke({"number": 1, "user": "u2"})
        assert ran == ["u1"]

    def test_framework_objects_are_left_out(self, make_caller: Any, decisions: Any) -> None:
        """A config parameter is neither an unknown argument nor in the way."""

        @protect
        @tool
        def conf(number: int, config: RunnableConfig) -> str:
            """Read with config."""
            return str(sorted(config))

        with make_caller("allowed").enter():
            assert "callbacks" in conf.invoke({"number": 1})
            with pytest.raises(NotPermitted):
                conf.invoke({"number": 9})
        assert decisions()[0]["action"]["args"]["names"] == ["number"]

    def test_single_input_tool(self, make_caller: Any) -> None:
        """A classic one-text tool is decided on under its parameter's name."""
        ran: list[str] = []

        def plain(text: str) -> str:
            ran.append(text)
            return text

        target = protect(Tool("plain", plain, "Echo."))
        with make_caller("allowed").enter():
            target.invoke("a")
            with pytest.raises(NotPermitted, match=r"arg\.enum"):
                target.invoke("b")
        assert ran == ["a"]

    def test_single_input_tool_is_no_injection(self, make_caller: Any) -> None:
        """The text of a classic tool comes from the model: unknown to the grant, it is refused."""
        target = protect(Tool("bare", lambda text: text, "Echo."))
        with make_caller("allowed").enter(), pytest.raises(NotPermitted, match=r"arg\.unknown"):
            target.invoke("a")

    def test_handler_and_protect_admit_once(
        self, make_caller: Any, decisions: Any, guard: Any
    ) -> None:
        """A call that handler and tool both see is one admission with one outcome."""

        @protect
        @tool
        def rows(limit: int = 5) -> str:
            """Read rows."""
            return "ok"

        config: RunnableConfig = {"callbacks": [TabardCallbackHandler()]}
        with make_caller("allowed").enter():
            rows.invoke({"limit": 7}, config)
            rows.invoke({"limit": 7}, config)
        assert len(decisions()) == 2
        assert [r["type"] for r in guard.records()].count("tool.outcome") == 2

    def test_handler_decides_and_protect_decides_again_on_what_differs(
        self, make_caller: Any, decisions: Any
    ) -> None:
        """Arguments that validation has changed are decided on once more, as they will run."""
        ran: list[int] = []

        @protect
        @tool
        def rows(limit: int = 1_000_000) -> str:
            """Read rows."""
            ran.append(limit)
            return "ok"

        config: RunnableConfig = {"callbacks": [TabardCallbackHandler()]}
        with make_caller("allowed").enter(), pytest.raises(NotPermitted):
            rows.invoke({}, config)
        assert ran == []

    def test_ticket_is_good_once(self, make_caller: Any, decisions: Any) -> None:
        """A tool that calls itself again inside its body needs another permit."""
        inner: list[Any] = []
        ran: list[int] = []

        @tool
        def rows(limit: int) -> str:
            """Read rows."""
            ran.append(limit)
            if len(ran) == 1:
                inner[0].func(limit=limit)
                inner[0].func(limit=1_000_000)
            return "ok"

        inner.append(protect(rows))
        config: RunnableConfig = {"callbacks": [TabardCallbackHandler()]}
        with make_caller("allowed").enter(), pytest.raises(NotPermitted):
            inner[0].invoke({"limit": 7}, config)
        assert ran == [7, 7]
        assert [d["decision"]["code"] for d in decisions()] == ["ok", "ok", "arg.max"]

    def test_subclass_of_base_tool(self, make_caller: Any) -> None:
        """A tool written as a class is guarded at `_run` and `_arun`; its class and schema stay."""

        class Arguments(BaseModel):
            number: int

        class Cls(BaseTool):
            name: str = "cls"
            description: str = "A class."
            args_schema: type[BaseModel] = Arguments
            ran: int = 0

            def _run(self, number: int) -> str:
                self.ran += 1
                return "ok"

        original = Cls()
        target = protect(original)
        assert type(target) is Cls
        assert target.args == original.args
        with make_caller("allowed").enter():
            target.invoke({"number": 1})
            for refused in (
                lambda: target.invoke({"number": 9}),
                lambda: target._run(number=9),
                lambda: target._run(9),
            ):
                with pytest.raises(NotPermitted, match=r"arg\.max"):
                    refused()
        assert target.ran == 1

    def test_protecting_twice_is_once(self, make_caller: Any, decisions: Any) -> None:
        """A tool protected twice is admitted once a call."""

        @protect
        @protect
        @tool
        def plain(text: str) -> str:
            """Echo."""
            return text

        with make_caller("allowed").enter():
            plain.invoke({"text": "a"})
        assert len(decisions()) == 1

    def test_arguments_that_do_not_fit(self, make_caller: Any) -> None:
        """A direct call whose arguments do not fit is refused, not passed on."""

        @protect
        @tool
        def plain(text: str) -> str:
            """Echo."""
            return text

        with make_caller("allowed").enter(), pytest.raises(GuardUnavailable, match="hook"):
            plain.func()  # type: ignore[attr-defined]

    @pytest.mark.parametrize("thing", [None, "tool", len, object()])
    def test_not_a_tool(self, thing: Any) -> None:
        """Protecting something else says what to do instead."""
        with pytest.raises(ConfigurationError, match="expected a LangChain tool"):
            protect(thing)


@pytest.mark.parametrize("work", ["generate", "agenerate"])
def test_completion_without_a_provider(work: str, make_caller: Any, decisions: Any) -> None:
    """LangChain names no provider when a completion model is called directly: refused."""
    model = ScriptedCompletionModel(model_name="gpt-4o")
    callbacks: Any = [TabardCallbackHandler()]
    calls: dict[str, Callable[[], object]] = {
        "generate": lambda: model.generate(["hi"], callbacks=callbacks),
        "agenerate": lambda: asyncio.run(model.agenerate(["hi"], callbacks=callbacks)),
    }
    with make_caller("allowed").enter(), pytest.raises(NotPermitted):
        calls[work]()
    assert model.calls == 0
    assert decisions()[-1]["action"]["name"] == "unknown/gpt-4o"
