"""The test class a plugin inherits: every path of a framework, under everything that goes wrong.

A plugin's author supplies only how their framework runs a call:

```python
class TestMyPlugin(Conformance):
    title = "my framework"

    def run_tool(self, attempt):
        guarded = my_plugin.guard(attempt.body, name=attempt.tool)
        my_framework.Agent(tools=[guarded]).run(attempt.tool, attempt.arguments)
```

or several paths of a kind, as `tool_paths = {"sync": run_sync, "async": run_async}`. With
`pytest_plugins = ["tabard.testing.summary"]` in `conftest.py`, pytest prints the matrix at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import pytest

from tabard import AccessDenied
from tabard.testing.attempt import KINDS, Attempt, Kind, attempt_of
from tabard.testing.board import HELD, RAN
from tabard.testing.faults import FAULTS
from tabard.testing.scene import Scene, open_scene

Work = Callable[[Attempt], object]
"""Runs one call through a framework."""


class Conformance:
    """The matrix. A subclass names its paths; each is tried allowed, and under every fault.

    Attributes:
        title: What the printed table is about.
        tool_paths: The ways a framework runs a tool, by name.
        model_paths: The ways it calls a model.
        retrieval_paths: The ways it searches.
        refusals: What a refusal may come out as, besides `AccessDenied` and nothing at all (where
            the framework tells the model instead).
        struck_within: The paths that call `attempt.strike_once()` themselves, in mid-run; before
            any other the kit does.
    """

    title: ClassVar[str] = ""
    tool_paths: ClassVar[Mapping[str, Work]] = {}
    model_paths: ClassVar[Mapping[str, Work]] = {}
    retrieval_paths: ClassVar[Mapping[str, Work]] = {}
    refusals: ClassVar[tuple[type[BaseException], ...]] = ()
    struck_within: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def paths(cls, kind: Kind) -> Mapping[str, Work]:
        """The paths of a kind: those in the table, and `run_tool`, `run_model`, `run_retrieval`."""
        single = f"run_{kind}"
        table: Mapping[str, Work] = getattr(cls, f"{kind}_paths")
        return {**table, single: getattr(cls(), single)} if hasattr(cls, single) else table

    @classmethod
    def pytest_generate_tests(cls, metafunc: pytest.Metafunc) -> None:
        """Make a test of each path, and of each fault on it."""
        rows = [(kind, path) for kind in KINDS for path in cls.paths(kind)]
        if "fault" in metafunc.fixturenames:
            cells = [(*row, fault) for row in rows for fault in FAULTS]
            metafunc.parametrize(("kind", "path", "fault"), cells)
        elif "path" in metafunc.fixturenames:
            metafunc.parametrize(("kind", "path"), rows)

    @pytest.fixture(scope="class")
    @classmethod
    def scene(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
        """One installation for the whole class."""
        with open_scene(tmp_path_factory.mktemp("scene")) as opened:
            yield opened

    def test_allowed(self, scene: Scene, kind: Kind, path: str) -> None:
        """An allowed call runs once, and has its decision and its outcome on record."""
        attempt = attempt_of(kind, "")
        scene.new_records()
        with scene.log_in():
            self.paths(kind)[path](attempt)
        assert attempt.ran == 1
        name = _action_of(attempt)
        types = [r["type"] for r in scene.new_records() if r.get("action", {}).get("name") == name]
        assert types == [f"{kind}.decision", f"{kind}.outcome"]

    def test_refused(
        self,
        scene: Scene,
        kind: Kind,
        path: str,
        fault: str,
        record_property: Callable[[str, Any], None],
    ) -> None:
        """Under a fault the body never runs, and the record says why."""
        attempt, wrong = attempt_of(kind, fault), FAULTS[fault]
        work = self.paths(kind)[path]
        with wrong.arrange(scene) as attempt.strike:
            if path not in self.struck_within:
                attempt.strike_once()
            code = self._try(work, attempt)
        mark = RAN if attempt.ran else HELD
        record_property("tabard.matrix", [f"{self.title}: {kind}", path, fault, mark])
        assert attempt.ran == 0, "the body ran"
        assert code in (None, wrong.code(kind), wrong.code("model"))  # a model may come first
        self._check_records(scene, wrong, kind)

    def _try(self, work: Work, attempt: Attempt) -> str | None:
        """The code of the refusal that came out; None where the framework has swallowed it."""
        try:
            work(attempt)
        except AccessDenied as refusal:
            return refusal.code
        except self.refusals:
            return None
        return None

    def _check_records(self, scene: Scene, wrong: Any, kind: Kind) -> None:
        records = scene.new_records()
        if wrong.on_record:
            denied = {r["decision"]["code"] for r in records if _is_denial(r)}
            assert denied & set(wrong.codes), denied


def _action_of(attempt: Attempt) -> str:
    names = {
        "tool": attempt.tool,
        "model": f"{attempt.provider}/{attempt.model}",
        "retrieval": f"retrieval.{attempt.source}",
    }
    return names[attempt.kind]


def _is_denial(record: Mapping[str, Any]) -> bool:
    return str(record["type"]).endswith(".decision") and record["decision"]["effect"] == "deny"
