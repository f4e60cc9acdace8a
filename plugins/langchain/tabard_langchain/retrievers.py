"""Protects a retriever: its search is decided on with what narrows it, and bound to a scope."""

from __future__ import annotations

from typing import Any

from langchain_core.callbacks import (
    AsyncCallbackManagerForRetrieverRun,
    CallbackManagerForRetrieverRun,
)
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever

from tabard import ConfigurationError, Permit, Session
from tabard_langchain.identity import check_session
from tabard_langchain.search import NAME, Narrow, Search, SearchName, make_search, search_in


def protect_retriever(
    retriever: BaseRetriever, *, narrow: Narrow | None = None, session: Session | None = None
) -> BaseRetriever:
    """A retriever that asks the guard before it searches, on every way into it.

    The policy sees the query and what narrows the search: `filter.claimant_id`, `k`. With `narrow`
    the search is bound to the data scope of the session, whatever the caller asks for. With a
    `TabardCallbackHandler` as well, a search is admitted once.

    ```python
    docs = protect_retriever(
        store.as_retriever(),
        narrow=lambda scope: {"filter": {"claimant_id": scope["claimant_id"]}},
    )
    ```

    Args:
        retriever: The retriever. The original stays unguarded.
        narrow: Makes search parameters of the session's scope; they win over the caller's. They
            are passed to `_get_relevant_documents`, as a vector store's retriever takes them.
        session: Whose searches these are; default the session current at the time of each.

    Raises:
        ConfigurationError: It is no retriever, or `session` is none, or it takes no parameters
            though it is to be narrowed.
    """
    if not isinstance(retriever, BaseRetriever):
        found = type(retriever).__name__
        raise ConfigurationError(f"protect_retriever: expected a retriever, found {found}")
    check_session("protect_retriever", session)
    if narrow is not None and not callable(narrow):
        raise ConfigurationError("protect_retriever: narrow: expected a function of the scope")
    if narrow is not None and not retriever._expects_other_args:
        raise ConfigurationError(
            f"protect_retriever: {type(retriever).__name__} takes no search parameters, "
            "so it cannot be narrowed"
        )
    if isinstance(retriever, GuardedRetriever):
        raise ConfigurationError("protect_retriever: it is protected already")
    return GuardedRetriever(inner=retriever, narrow=narrow, session=session, name=retriever.name)


class GuardedRetriever(BaseRetriever):
    """A retriever behind the guard; made by `protect_retriever`."""

    inner: Any
    narrow: Any = None
    session: Any = None

    def _get_ls_params(self, **kwargs: Any) -> Any:
        """The inner one's labels, and the search for the handler to ask about."""
        labels: dict[str, Any] = dict(self.inner._get_ls_params(**kwargs))
        name = str(labels[NAME])
        # Decided on is what runs: a retriever that takes no parameters is given none.
        wanted = {**getattr(self.inner, "search_kwargs", {}), **kwargs}
        search = make_search(
            self,
            wanted if self.inner._expects_other_args else {},
            narrow=self.narrow,
            source=name,
            session=self.session,
        )
        return {**labels, NAME: SearchName.of(name, search)}

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[Document]:
        search, permit, is_ours = self._admit(query, run_manager, kwargs)
        if not is_ours:
            return list(
                self.inner._get_relevant_documents(query, **self._rest(search, run_manager))
            )
        with permit:
            found = self.inner._get_relevant_documents(query, **self._rest(search, run_manager))
            permit.settle(found)
            return list(found)

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[Document]:
        search, permit, is_ours = self._admit(query, run_manager, kwargs)
        rest = self._rest(search, run_manager)
        if not is_ours:
            return list(await self.inner._aget_relevant_documents(query, **rest))
        with permit:
            found = await self.inner._aget_relevant_documents(query, **rest)
            permit.settle(found)
            return list(found)

    def _admit(
        self, query: str, run_manager: Any, kwargs: dict[str, Any]
    ) -> tuple[Search, Permit, bool]:
        """The search, its permit, and whether this has to end it: else the handler does."""
        shown = search_in(getattr(run_manager, "metadata", None))
        lent = None if shown is None else shown.redeem(self, query, self.session)
        if shown is not None and lent is not None:
            return shown, lent, False
        name = self._get_ls_params(**kwargs)[NAME]
        return name.search, name.search.ask(str(name), query, self.session), True

    def _rest(self, search: Search, run_manager: Any) -> dict[str, Any]:
        """What the inner one is called with beside the query."""
        rest = dict(search.parameters) if self.inner._expects_other_args else {}
        return {**rest, "run_manager": run_manager} if self.inner._new_arg_supported else rest
