"""Protects a vector store, whose searches LangChain tells nobody about."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever
from langchain_core.vectorstores import VectorStore

from tabard import AccessDenied, ConfigurationError, Permit, Session, ToolCall, admit
from tabard_langchain.identity import check_session
from tabard_langchain.refusal import refuse_unreadable
from tabard_langchain.retrievers import protect_retriever
from tabard_langchain.search import Narrow, make_search


def protect_store(
    store: VectorStore,
    *,
    name: str,
    narrow: Narrow | None = None,
    session: Session | None = None,
) -> VectorStore:
    """A vector store that asks the guard before it searches, adds or deletes.

    Searches are decided as `retrieval.<name>`, with what narrows them; what adds or deletes as the
    tools `vectorstore.<name>.add` and `.delete`. It has the methods of LangChain's `VectorStore`
    and no others: what a class of its own adds to them is not reached through it.

    Args:
        store: The vector store. The original stays unguarded.
        name: What the policy calls it.
        narrow: Makes search parameters of the session's scope; they win over the caller's. They
            are for searches; `get_by_ids` takes none, and is decided on its `ids`.
        session: Whose calls these are; default the session current at the time of each.

    Raises:
        ConfigurationError: It is no vector store, or has no name.
    """
    if not isinstance(store, VectorStore) or isinstance(store, GuardedVectorStore):
        found = type(store).__name__
        raise ConfigurationError(f"protect_store: expected a vector store, found {found}")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigurationError(
            "protect_store: expected a name for the policy, in lower case and without `retriever`: "
            "that is how LangChain writes that of its retriever"
        )
    if narrow is not None and not callable(narrow):
        raise ConfigurationError("protect_store: narrow: expected a function of the scope")
    check_session("protect_store", session)
    return GuardedVectorStore(store, name=name, narrow=narrow, session=session)


_NAME = re.compile(r"(?!retriever)[a-z0-9_.-]+(?<!retriever)")


def _read_call(*args: Any, **parameters: Any) -> tuple[Any, dict[str, Any]]:
    """What is searched for, and the parameters by name.

    Behind `k` classes differ in the order of theirs, so these have to be named.

    Raises:
        TypeError: It cannot be told what is what.
    """
    by_name = [parameters.pop(name) for name in ("query", "embedding") if name in parameters]
    wanted = [*args[:1], *by_name]
    if len(wanted) != 1 or len(args) > 2 or (len(args) == 2 and "k" in parameters):
        raise TypeError("only what is searched for and `k` may be given by position")
    return wanted[0], {**parameters, **({"k": args[1]} if len(args) == 2 else {})}


def _described(documents: list[Document], kwargs: dict[str, Any]) -> dict[str, Any]:
    """What a policy is told of documents to add: with ids they may take others' places."""
    own = [document.id for document in documents if document.id is not None]
    return {"count": len(documents), **({"ids": own} if own else {}), **kwargs}


def _guarded(method: str) -> Callable[..., Any]:
    """A search that is admitted first."""

    def search(self: Any, *args: Any, **kwargs: Any) -> Any:
        run, permit = self._admit_search(method, args, kwargs)
        with permit:
            return run()

    return _named(search, method)


def _guarded_later(method: str) -> Callable[..., Any]:
    """The same in an event loop."""

    async def search(self: Any, *args: Any, **kwargs: Any) -> Any:
        run, permit = self._admit_search(method, args, kwargs)
        with permit:
            return await run()

    return _named(search, method)


def _named(function: Callable[..., Any], method: str) -> Callable[..., Any]:
    function.__name__ = method
    function.__doc__ = getattr(VectorStore, method).__doc__
    return function


class GuardedVectorStore(VectorStore):
    """A vector store behind the guard; made by `protect_store`."""

    similarity_search = _guarded("similarity_search")
    asimilarity_search = _guarded_later("asimilarity_search")
    similarity_search_with_score = _guarded("similarity_search_with_score")
    asimilarity_search_with_score = _guarded_later("asimilarity_search_with_score")
    similarity_search_with_relevance_scores = _guarded("similarity_search_with_relevance_scores")
    asimilarity_search_with_relevance_scores = _guarded_later(
        "asimilarity_search_with_relevance_scores"
    )
    similarity_search_by_vector = _guarded("similarity_search_by_vector")
    asimilarity_search_by_vector = _guarded_later("asimilarity_search_by_vector")
    max_marginal_relevance_search = _guarded("max_marginal_relevance_search")
    amax_marginal_relevance_search = _guarded_later("amax_marginal_relevance_search")
    max_marginal_relevance_search_by_vector = _guarded("max_marginal_relevance_search_by_vector")
    amax_marginal_relevance_search_by_vector = _guarded_later(
        "amax_marginal_relevance_search_by_vector"
    )

    def __init__(
        self, inner: VectorStore, *, name: str, narrow: Narrow | None, session: Session | None
    ) -> None:
        self._inner = inner
        self._name = name
        self._narrow = narrow
        self._session = session

    @property
    def embeddings(self) -> Embeddings | None:
        """The store's embeddings: what they embed is nobody's search yet."""
        return self._inner.embeddings

    def as_retriever(self, **kwargs: Any) -> BaseRetriever:  # type: ignore[override]
        """A protected retriever of the same name."""
        made = self._inner.as_retriever(**kwargs)
        made.name = self._name
        return protect_retriever(made, narrow=self._narrow, session=self._session)

    @classmethod
    def from_texts(cls, *args: Any, **kwargs: Any) -> NoReturn:
        """There is none: make the store with its own class, and protect that."""
        raise ConfigurationError("protect the store that its own class makes")

    def add_texts(
        self, texts: Iterable[str], metadatas: list[dict[Any, Any]] | None = None, **kwargs: Any
    ) -> list[str]:
        """Add texts, as the tool `vectorstore.<name>.add`."""
        kept = list(texts)
        with self._admit_change("add", {"count": len(kept), **kwargs}):
            return self._inner.add_texts(kept, metadatas, **kwargs)

    async def aadd_texts(
        self, texts: Iterable[str], metadatas: list[dict[Any, Any]] | None = None, **kwargs: Any
    ) -> list[str]:
        """The same in an event loop."""
        kept = list(texts)
        with self._admit_change("add", {"count": len(kept), **kwargs}):
            return await self._inner.aadd_texts(kept, metadatas, **kwargs)

    def add_documents(self, documents: list[Document], **kwargs: Any) -> list[str]:
        """Add documents, as the tool `vectorstore.<name>.add`."""
        kept = list(documents)
        with self._admit_change("add", _described(kept, kwargs)):
            return self._inner.add_documents(kept, **kwargs)

    async def aadd_documents(self, documents: list[Document], **kwargs: Any) -> list[str]:
        """The same in an event loop."""
        kept = list(documents)
        with self._admit_change("add", _described(kept, kwargs)):
            return await self._inner.aadd_documents(kept, **kwargs)

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool | None:
        """Delete, as the tool `vectorstore.<name>.delete`; without ids it may delete everything."""
        kept = None if ids is None else list(ids)
        with self._admit_change("delete", {"ids": kept, **kwargs}):
            return self._inner.delete(kept, **kwargs)

    async def adelete(self, ids: list[str] | None = None, **kwargs: Any) -> bool | None:
        """The same in an event loop."""
        kept = None if ids is None else list(ids)
        with self._admit_change("delete", {"ids": kept, **kwargs}):
            return await self._inner.adelete(kept, **kwargs)

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Read documents by their ids, decided on the argument `ids`."""
        kept = list(ids)
        with self._admit_reading(kept):
            return self._inner.get_by_ids(kept)

    async def aget_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """The same in an event loop."""
        kept = list(ids)
        with self._admit_reading(kept):
            return await self._inner.aget_by_ids(kept)

    def _admit_change(self, what: str, arguments: dict[str, Any]) -> Permit:
        name = f"vectorstore.{self._name}.{what}"
        try:
            return admit(ToolCall(name, arguments), session=self._session)
        except AccessDenied:
            raise
        except Exception as error:
            refuse_unreadable(error, tool=name, session=self._session)

    def _admit_reading(self, ids: list[str]) -> Permit:
        search = make_search(
            self, {"ids": ids}, narrow=None, source=self._name, session=self._session
        )
        return search.ask(self._name, "", self._session)

    def _admit_search(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The inner method bound to the search that was admitted, and its permit."""
        inner = getattr(self._inner, method)
        try:
            wanted, parameters = _read_call(*args, **kwargs)
        except TypeError as error:
            refuse_unreadable(error, tool=f"retrieval.{self._name}", session=self._session)
        search = make_search(
            self, parameters, narrow=self._narrow, source=self._name, session=self._session
        )
        query = wanted if isinstance(wanted, str) else ""  # a vector says nothing to a policy
        permit = search.ask(self._name, query, self._session)
        return lambda: inner(wanted, **search.parameters), permit
