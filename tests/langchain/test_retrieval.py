"""Retrievers and vector stores: decided on with what narrows the search, and bound to a scope."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.retrievers import BaseRetriever
from langchain_core.vectorstores import InMemoryVectorStore, VectorStore

from tabard import AccessDenied, Authority, ConfigurationError, Guard, Retrieval, Session
from tabard.testing.langchain import ScriptedRetriever
from tabard_langchain import TabardCallbackHandler, protect_retriever, protect_store

POLICY = """\
version: 1
agents:
  claims-agent:
    scope: {claimant_id: optional}
    grants:
      - id: own-claims
        tools: [retrieval.claims]
        args:
          query: {max_length: 40}
          filter.claimant_id: {equals_scope: claimant_id}
          k: {max: 5, optional: true}
      - {id: by-function, tools: [retrieval.noted], args: {query: {}}}
      - {id: add, tools: [vectorstore.claims.add], args: {count: {max: 2}}}
  analytics-agent: {}
"""
ONES = {"filter": {"claimant_id": "C-1"}}


@pytest.fixture
def policy_text() -> str:
    return POLICY


class FilteredStore(InMemoryVectorStore):
    """A store whose filter is a mapping, as most have it; it counts what it did."""

    def __init__(self) -> None:
        super().__init__(DeterministicFakeEmbedding(size=8))
        self.did: list[str] = []
        self.add_documents(
            [
                Document(f"claim of {who}", id=who, metadata={"claimant_id": who})
                for who in ("C-1", "C-2")
            ]
        )
        self.did.clear()

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        self.did.append("search")
        return super().similarity_search(query, k, filter=_as_function(kwargs.get("filter")))

    async def asimilarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        return self.similarity_search(query, k, **kwargs)

    def similarity_search_with_score(self, query: str, k: int = 4, **kwargs: Any) -> Any:
        self.did.append("search")
        kwargs["filter"] = _as_function(kwargs.get("filter"))
        return super().similarity_search_with_score(query, k, **kwargs)

    async def asimilarity_search_with_score(self, *args: Any, **kwargs: Any) -> Any:
        return self.similarity_search_with_score(*args, **kwargs)

    def similarity_search_by_vector(self, embedding: Any, k: int = 4, **kwargs: Any) -> Any:
        self.did.append("search")
        kwargs["filter"] = _as_function(kwargs.get("filter"))
        return super().similarity_search_by_vector(embedding, k, **kwargs)

    def max_marginal_relevance_search(self, query: str, k: int = 4, *_: Any, **kwargs: Any) -> Any:
        return self.similarity_search(query, k, filter=kwargs.get("filter"))

    def delete(self, ids: Any = None, **kwargs: Any) -> None:
        self.did.append("delete")
        super().delete(ids, **kwargs)

    def add_documents(self, documents: list[Document], ids: Any = None, **kwargs: Any) -> Any:
        getattr(self, "did", []).append("add")
        return super().add_documents(documents, ids, **kwargs)

    async def aadd_documents(self, documents: list[Document], ids: Any = None, **more: Any) -> Any:
        return self.add_documents(documents, ids, **more)

    def get_by_ids(self, ids: Any, /) -> Any:
        self.did.append("get")
        return super().get_by_ids(ids)


def _as_function(wanted: Any) -> Any:
    if wanted is None or callable(wanted):
        return wanted
    return lambda document: all(document.metadata.get(k) == v for k, v in wanted.items())


@pytest.fixture
def store() -> FilteredStore:
    return FilteredStore()


@pytest.fixture
def mine(guard: Guard, authority: Authority) -> Session:
    """The claims agent at work for claimant C-1."""
    return guard.login(authority.issue("claims-agent"), scope={"claimant_id": "C-1"})


def narrow(scope: Any) -> dict[str, Any]:
    return {"filter": {"claimant_id": scope["claimant_id"]}}


def retriever_of(store: VectorStore, **search: Any) -> BaseRetriever:
    return store.as_retriever(name="claims", search_kwargs=search)


def decisions(guard: Guard) -> list[tuple[str, str]]:
    return [
        (r["action"]["name"], r["decision"]["code"])
        for r in guard.records()
        if r["type"].endswith(".decision")
    ]


RETRIEVING: dict[str, Callable[[Any, Any], Any]] = {
    "invoke": lambda r, c: r.invoke("claim", c),
    "ainvoke": lambda r, c: asyncio.run(r.ainvoke("claim", c)),
    "batch": lambda r, c: r.batch(["claim"], c)[0],
    "chain": lambda r, c: (r | list).invoke("claim", c),
    "callbacks=[]": lambda r, c: r.invoke("claim", {"callbacks": []}),
}
HANDLED = pytest.mark.parametrize("handled", [False, True], ids=["alone", "with the handler"])


def config(handled: bool) -> Any:
    return {"callbacks": [TabardCallbackHandler()]} if handled else {}


@HANDLED
@pytest.mark.parametrize("path", RETRIEVING)
class TestRetriever:
    def test_narrowed_to_the_scope(
        self, path: str, handled: bool, store: FilteredStore, mine: Session, guard: Guard
    ) -> None:
        """Whatever it is asked for, it finds what the session's scope covers; admitted once."""
        found = protect_retriever(retriever_of(store, filter={"claimant_id": "C-2"}), narrow=narrow)
        with mine:
            documents = RETRIEVING[path](found, config(handled))
        assert [one.metadata["claimant_id"] for one in documents] == ["C-1"]
        types = [r["type"] for r in guard.records() if "action" in r]
        assert types == ["retrieval.decision", "retrieval.outcome"]

    @pytest.mark.parametrize(
        ("search", "code"),
        [
            ({}, "arg.missing"),
            ({"filter": {}}, "arg.missing"),
            ({"filter": {"claimant_id": "C-2"}}, "arg.equals_scope"),
            ({"filter": {"claimant_id": {"$in": ["C-1", "C-2"]}}}, "arg.equals_scope"),
            ({"filter": {**ONES["filter"], "$or": [{}]}}, "arg.unknown"),
            ({**ONES, "k": 500}, "arg.max"),
            ({**ONES, "fetch_k": 5}, "arg.unknown"),
            ({"filter": lambda document: True}, "arg.missing"),
            ({**ONES, "filter.claimant_id": "C-1"}, "arg.missing"),
            ({"filter": {"claimant_id": "C-1", 1: "x"}}, "arg.missing"),
        ],
    )
    def test_refused(
        self, path: str, handled: bool, search: Any, code: str, store: Any, mine: Session
    ) -> None:
        """A search that the policy's own words do not cover never reaches the store."""
        with mine, pytest.raises(AccessDenied) as caught:
            RETRIEVING[path](protect_retriever(retriever_of(store, **search)), config(handled))
        assert caught.value.code == code
        assert store.did == []

    def test_nobody(self, path: str, handled: bool, store: FilteredStore, guard: Guard) -> None:
        """Without a session there is no scope, and no search."""
        found = protect_retriever(retriever_of(store, **ONES), narrow=narrow)
        with nullcontext(), pytest.raises(AccessDenied) as caught:
            RETRIEVING[path](found, config(handled))
        assert caught.value.code == "no_identity"
        assert store.did == []


class TestBoundSearch:
    def test_scope_that_cannot_be_read(
        self, guard: Guard, authority: Authority, store: FilteredStore
    ) -> None:
        """A scope without the name the narrowing needs is a refusal, on record."""
        found = protect_retriever(retriever_of(store), narrow=narrow)
        with guard.login(authority.issue("claims-agent")), pytest.raises(AccessDenied) as caught:
            found.invoke("claim")
        assert caught.value.code == "arg.missing"
        assert decisions(guard) == [("retrieval.claims", "arg.missing")]
        assert store.did == []

    def test_scope_that_the_policy_does_not_ask_for(
        self, guard: Guard, authority: Authority, store: FilteredStore
    ) -> None:
        """Where the policy would let it pass, what cannot be narrowed is refused all the same."""
        found = protect_store(store, name="noted", narrow=narrow)
        with guard.login(authority.issue("claims-agent")), pytest.raises(AccessDenied) as caught:
            found.similarity_search("claim")
        assert caught.value.code == "hook"
        assert [r["outcome"]["status"] for r in guard.records() if "outcome" in r] == ["error"]
        assert store.did == []

    def test_narrowing_by_a_function(self, mine: Session) -> None:
        """Where a store filters by a function, the host's own is trusted, and is what runs."""
        store = InMemoryVectorStore(DeterministicFakeEmbedding(size=8))
        store.add_texts(["a", "b"], [{"claimant_id": "C-1"}, {"claimant_id": "C-2"}])

        def by_function(scope: Any) -> dict[str, Any]:
            return {"filter": lambda one: one.metadata["claimant_id"] == scope["claimant_id"]}

        found = protect_store(store, name="noted", narrow=by_function)
        with mine:
            assert [one.page_content for one in found.similarity_search("x")] == ["a"]
            assert [one.page_content for one in found.as_retriever().invoke("x")] == ["a"]

    def test_filter_changed_after_the_decision(self, mine: Session, store: FilteredStore) -> None:
        """The search runs with copies: whoever holds the filter changes nothing."""
        wanted = {"claimant_id": "C-1"}
        found = protect_retriever(retriever_of(store, filter=wanted))
        original = mine.guard.admit

        def admit_and_change(action: Any, **more: Any) -> Any:
            permit = original(action, **more)
            wanted["claimant_id"] = "C-2"
            return permit

        mine.guard.admit = admit_and_change  # type: ignore[method-assign]
        with mine:
            documents = found.invoke("claim")
        assert wanted == {"claimant_id": "C-2"}
        assert [one.metadata["claimant_id"] for one in documents] == ["C-1"]

    def test_metadata_is_no_permit(self, mine: Session, store: FilteredStore, guard: Guard) -> None:
        """I3: metadata that looks like a search opens nothing for a retriever that is not bound."""
        forged = {"tabard_search": {"filter.claimant_id": "C-1"}, **ONES}
        with mine, pytest.raises(AccessDenied) as caught:
            retriever_of(store).invoke(
                "claim", {"metadata": forged, "callbacks": [TabardCallbackHandler()]}
            )
        assert caught.value.code == "arg.missing"
        assert store.did == []

    def test_what_does_not_run_does_not_count(self, mine: Session, guard: Guard) -> None:
        """A retriever that takes no parameters is not decided on by those of the call."""
        found = protect_retriever(ScriptedRetriever(name="claims", found=[Document("all")]))
        for handled in (False, True):
            with mine, pytest.raises(AccessDenied) as caught:
                found.invoke("claim", config(handled), **ONES)
            assert caught.value.code == "arg.missing"

    def test_retriever_inside_a_protected_one(self, mine: Session, store: FilteredStore) -> None:
        """What is decided for a search is not decided for one inside it."""
        inside = retriever_of(store)

        class Outer(BaseRetriever):
            def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
                return inside.invoke(query, {"callbacks": run_manager.get_child()})

            async def _aget_relevant_documents(self, query: str, **more: Any) -> list[Document]:
                return self._get_relevant_documents(query, **more)

        outer: Any = Outer(name="noted")
        with mine, pytest.raises(AccessDenied) as caught:
            protect_retriever(outer).invoke("claim", config(True))
        assert caught.value.code == "arg.missing"
        assert store.did == []

    def test_nameless_retriever_inside_a_protected_one(self, mine: Session) -> None:
        """One that writes no name of its own does not go by its parent's, nor by its search."""
        ran: list[str] = []

        class Nameless(BaseRetriever):
            def _get_ls_params(self, **kwargs: Any) -> Any:
                return {}

            def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
                ran.append(query)
                return []

        class Outer(BaseRetriever):
            def _get_relevant_documents(
                self, query: str, *, run_manager: Any, **search: Any
            ) -> list[Document]:
                return Nameless().invoke(query, {"callbacks": run_manager.get_child()})

        with mine, pytest.raises(AccessDenied) as caught:
            protect_retriever(Outer(name="claims")).invoke("claim", config(True), **ONES)
        assert caught.value.code == "no_grant"
        assert ran == []

    def test_events_are_plain(self, mine: Session, store: FilteredStore) -> None:
        """What tracers and event streams get of a protected retriever can be written and copied."""
        found = protect_retriever(retriever_of(store, **ONES))

        async def collect() -> list[Any]:
            return [event async for event in found.astream_events("claim", version="v2")]

        with mine:
            events = asyncio.run(collect())
        labels = [event["metadata"] for event in events]
        assert json.loads(json.dumps(labels)) == copy.deepcopy(labels)
        assert pickle.loads(pickle.dumps(labels)) == labels

    def test_permit_is_good_once(self, mine: Session, store: FilteredStore, guard: Guard) -> None:
        """A run manager kept from an admitted search admits no second one."""
        kept: list[Any] = []

        class Keeping(FilteredStore):
            pass

        inner = retriever_of(Keeping(), **ONES)
        ask = type(inner)._get_relevant_documents

        def keep(self: Any, query: str, *, run_manager: Any, **kwargs: Any) -> Any:
            kept.append(run_manager)
            return ask(self, query, run_manager=run_manager, **kwargs)

        object.__setattr__(inner, "_get_relevant_documents", keep.__get__(inner))
        found = protect_retriever(inner)
        with mine:
            found.invoke("claim", {"callbacks": [TabardCallbackHandler()]})
            found._get_relevant_documents("claim", run_manager=kept[0])
        assert decisions(guard) == [("retrieval.claims", "ok")] * 2

    def test_two_searches_at_once(self, mine: Session, store: FilteredStore, guard: Guard) -> None:
        """E19: parallel searches of one retriever are decided one by one."""
        found = protect_retriever(retriever_of(store, **ONES))
        settings: Any = {"callbacks": [TabardCallbackHandler()]}
        with mine:
            results = found.batch(["claim"] * 4 + ["x" * 50] * 2, settings, return_exceptions=True)
        assert sum(isinstance(one, AccessDenied) for one in results) == 2
        assert sorted(code for _, code in decisions(guard)) == ["arg.max_length"] * 2 + ["ok"] * 4

    def test_session_of_its_own(
        self, guard: Guard, authority: Authority, mine: Session, store: FilteredStore
    ) -> None:
        """A retriever made for one session searches as that one, whoever is current."""
        found = protect_retriever(retriever_of(store), narrow=narrow, session=mine)
        with guard.login(authority.issue("analytics-agent")):
            assert len(found.invoke("claim")) == 1


SEARCHES: dict[str, Callable[..., Any]] = {
    "similarity_search": lambda s, **k: s.similarity_search("claim", **k),
    "asimilarity_search": lambda s, **k: asyncio.run(s.asimilarity_search("claim", **k)),
    "with_score": lambda s, **k: s.similarity_search_with_score("claim", **k),
    "with_score, async": lambda s, **k: asyncio.run(s.asimilarity_search_with_score("claim", **k)),
    "by_vector": lambda s, **k: s.similarity_search_by_vector([0.1] * 8, **k),
    "mmr": lambda s, **k: s.max_marginal_relevance_search("claim", **k),
    "search": lambda s, **k: s.search("claim", "similarity", **k),
    "asearch": lambda s, **k: asyncio.run(s.asearch("claim", "similarity", **k)),
    "in a bare thread": lambda s, **k: (
        ThreadPoolExecutor(1).submit(lambda: s.similarity_search("claim", **k)).result()
    ),
}


class TestStore:
    @pytest.mark.parametrize("path", SEARCHES)
    def test_allowed(self, path: str, store: FilteredStore, mine: Session, guard: Guard) -> None:
        """Every way to search is admitted once, and runs with the filter that was decided on."""
        found = protect_store(store, name="claims", session=mine)
        assert len(SEARCHES[path](found, k=4, **ONES)) == 1
        assert decisions(guard) == [("retrieval.claims", "ok")]

    @pytest.mark.parametrize("path", SEARCHES)
    def test_refused(self, path: str, store: FilteredStore, mine: Session) -> None:
        """E9: LangChain tells nobody of these; the store itself refuses."""
        found = protect_store(store, name="claims", session=mine)
        with pytest.raises(AccessDenied):
            SEARCHES[path](found, k=4)
        with pytest.raises(AccessDenied):
            SEARCHES[path](protect_store(store, name="claims"), k=4, **ONES)
        assert store.did == []

    def test_positional_arguments_count(self, store: FilteredStore, mine: Session) -> None:
        """A limit given by position is the same limit."""
        found = protect_store(store, name="claims")
        with mine, pytest.raises(AccessDenied) as caught:
            found.similarity_search("claim", 500, **ONES)
        assert caught.value.code == "arg.max"

    def test_call_that_cannot_be_told_apart(self, store: FilteredStore, mine: Session) -> None:
        """Behind `k` classes differ in their order; what is given twice is nothing."""
        found: Any = protect_store(store, name="claims")
        calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
            (("claim", 4, ONES["filter"]), {}),
            (("claim", 4), {"k": 500, **ONES}),
            (("claim",), {"query": "other", **ONES}),
            ((), {"query": "claim", "embedding": [0.1], **ONES}),
            ((), ONES),
        ]
        for args, named in calls:
            with mine, pytest.raises(AccessDenied):
                found.similarity_search(*args, **named)
        assert store.did == []

    def test_changes(self, store: FilteredStore, mine: Session, guard: Guard) -> None:
        """Adding is a tool of its own; deleting and reading by id are denied unless granted."""
        found = protect_store(store, name="claims")
        one = Document("new", metadata={"claimant_id": "C-1"})
        with mine:
            found.add_documents([one])
            asyncio.run(found.aadd_documents([one]))
            for refused in (
                lambda: found.add_documents([one] * 3),
                lambda: found.add_texts(["a"] * 3),
                lambda: found.add_texts(["a"], ids=["C-2"]),
                lambda: found.add_documents([Document("a", id="C-2")]),
                lambda: asyncio.run(found.aadd_documents([one], ids=["C-2"])),
                lambda: found.delete(["C-1"]),
                lambda: found.delete(),
                lambda: asyncio.run(found.adelete(["C-1"])),
                lambda: found.get_by_ids(["C-2"]),
                lambda: asyncio.run(found.aget_by_ids(["C-2"])),
            ):
                with pytest.raises(AccessDenied):
                    refused()
        assert store.did == ["add", "add"]
        assert ("vectorstore.claims.delete", "no_grant") in decisions(guard)

    def test_its_retriever(self, store: FilteredStore, mine: Session, guard: Guard) -> None:
        """`as_retriever` gives a protected one of the same name, asked once."""
        found = protect_store(store, name="claims", narrow=narrow).as_retriever()
        with mine:
            found.invoke("claim", {"callbacks": [TabardCallbackHandler()]})
        assert decisions(guard) == [("retrieval.claims", "ok")]

    def test_nothing_else_is_reached(self, store: FilteredStore) -> None:
        """What a class adds to LangChain's methods is not there, so it is no way round."""
        found: Any = protect_store(store, name="claims")
        for name in ("did", "store", "dump", "_similarity_search_with_score_by_vector"):
            with pytest.raises(AttributeError):
                getattr(found, name)


@pytest.mark.parametrize(
    "misuse",
    [
        lambda: protect_retriever(lambda query: []),  # type: ignore[arg-type]
        lambda: protect_retriever(ScriptedRetriever(), session="token"),  # type: ignore[arg-type]
        lambda: protect_retriever(ScriptedRetriever(), narrow=narrow),
        lambda: protect_retriever(protect_retriever(ScriptedRetriever())),
        lambda: protect_store({}, name="x"),  # type: ignore[arg-type]
        lambda: protect_store(FilteredStore(), name=""),
        lambda: protect_store(FilteredStore(), name="Claims"),
        lambda: protect_store(FilteredStore(), name="claimsretriever"),
        lambda: protect_store(FilteredStore(), name="x", narrow={"filter": {}}),  # type: ignore[arg-type]
        lambda: protect_retriever(ScriptedRetriever(), narrow="x"),  # type: ignore[arg-type]
        lambda: protect_store(FilteredStore(), name="x", session=7),  # type: ignore[arg-type]
        lambda: protect_store(protect_store(FilteredStore(), name="x"), name="y"),
        lambda: protect_store(FilteredStore(), name="x").from_texts([], None),  # type: ignore[arg-type]
    ],
)
def test_misuse(misuse: Callable[[], object]) -> None:
    """E10: what cannot be guarded is refused at once, in one sentence."""
    with pytest.raises(ConfigurationError):
        misuse()


def test_narrowing_of_ones_own(mine: Session, guard: Guard) -> None:
    """Without a framework, too: what narrows a search is part of the action."""
    with mine:
        guard.admit(Retrieval("claims", "x", narrowing={"filter.claimant_id": "C-1"})).settle()
        with pytest.raises(AccessDenied):
            guard.admit(Retrieval("claims", "x", narrowing={"query": "y"}))
