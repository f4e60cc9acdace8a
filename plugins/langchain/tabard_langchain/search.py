"""One search of a protected retriever or vector store: what narrows it, and its permit."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from tabard import GuardUnavailable, Permit, Retrieval, Session, admit, current_session
from tabard.arguments import plain_arguments

Narrow = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Makes search parameters of the data scope of whoever searches:
`lambda scope: {"filter": {"claimant_id": scope["claimant_id"]}}`."""


NAME = "ls_retriever_name"
"""Under this key of the metadata LangChain tells a retriever's name."""


class Search:
    """What one search runs with, as decided and as run: the parameters are copies of its own.

    Attributes:
        parameters: What the search is run with.
        narrowing: The same as arguments a policy can name.
        injected: Those of them the host application supplied.
    """

    __slots__ = (
        "_lock",
        "_owner",
        "_permit",
        "_query",
        "_shown",
        "injected",
        "narrowing",
        "parameters",
    )

    def __init__(
        self, owner: object, parameters: Mapping[str, Any], bound: Mapping[str, Any]
    ) -> None:
        """Put a search together.

        Args:
            owner: The protected object that searches.
            parameters: What the caller wants.
            bound: What the data scope makes of it; it wins.

        Raises:
            ValueError: A parameter's name could be taken for another's part.
        """
        self.parameters = copy.deepcopy({**parameters, **bound})
        self.narrowing = _as_arguments(self.parameters)
        self.injected = frozenset(_as_arguments(dict(bound)))
        self._owner = owner
        self._lock = threading.Lock()
        self._permit: Permit | None = None
        self._query: str | None = None
        self._shown = False

    def __repr__(self) -> str:
        """Tells nothing: tracers write down the metadata it travels in."""
        return "<Search>"

    def ask(self, source: str, query: str, session: Session | None) -> Permit:
        """Admit it.

        Raises:
            AccessDenied: It is refused.
        """
        action = Retrieval(source, query, narrowing=self.narrowing, injected=self.injected)
        return admit(action, session=session)

    def is_for_another(self) -> bool:
        """Whether a run has been decided by it before: a search is one run's, and no child's."""
        with self._lock:
            shown, self._shown = self._shown, True
        return shown

    def lend(self, query: str, permit: Permit) -> None:
        """Leave the handler's permit for the body."""
        with self._lock:
            self._query, self._permit = query, permit

    def redeem(self, owner: object, query: str, session: Session | None) -> Permit | None:
        """The handler's permit, once, if it is for this very search of this very caller."""
        caller = session or current_session()
        with self._lock:
            permit, self._permit = self._permit, None
        fits = self._owner is owner and self._query == query
        return permit if fits and permit is not None and permit.session is caller else None


def make_search(
    owner: object,
    parameters: Mapping[str, Any],
    *,
    narrow: Narrow | None,
    source: str,
    session: Session | None,
) -> Search:
    """Put a search together for whoever searches.

    Raises:
        AccessDenied: The scope cannot be turned into parameters, or these cannot be examined.
    """
    try:
        caller = session or current_session()
        # Without a caller nothing is narrowed, and nothing admitted either.
        bound = narrow(caller.scope) if narrow is not None and caller is not None else {}
        return Search(owner, parameters, bound)
    except Exception as error:
        _refuse(source, error, session)


def _refuse(source: str, error: Exception, session: Session | None) -> NoReturn:
    """Refuse a search that could not be put together: as the policy does, if it has a reason.

    Raises:
        AccessDenied: Always.
    """
    permit = admit(Retrieval(source), session=session)
    permit.fail(error)
    kind = type(error).__name__
    raise GuardUnavailable(
        code="hook",
        reason=f"the search could not be narrowed to the session's scope: {kind}",
        agent=permit.session.spiffe_id,
        action=permit.action.name,
    ) from None


class SearchName(str):
    """A protected retriever's name, with the search the run under it makes.

    It is how the handler gets to see the search: as `ls_retriever_name` in the metadata of the run.
    That is handed down to all that runs inside, where each retriever writes a name of its own over
    it, so nobody else's search is decided on by it. Written down or copied it is plain text.
    """

    __slots__ = ("search",)
    search: Search

    @classmethod
    def of(cls, name: str, search: Search) -> SearchName:
        """The name of a retriever, for one search."""
        made = cls(name)
        made.search = search
        return made

    def __reduce__(self) -> Any:
        """Plain text."""
        return str, (str.__str__(self),)


def search_in(metadata: Mapping[str, Any] | None) -> Search | None:
    """The search a protected retriever shows in the metadata of its run."""
    found = (metadata or {}).get(NAME)
    return found.search if type(found) is SearchName else None


def _as_arguments(parameters: Mapping[str, Any]) -> dict[str, object]:
    """Parameters as a policy names them: `filter.claimant_id`, `k`.

    What has no plain form, such as a function that filters, is there by its type's name.
    """
    told: dict[str, object] = {}
    for name, value in parameters.items():
        if "." in name or name == "query":
            raise ValueError("a search parameter's name is taken for another's part")
        if isinstance(value, Mapping):
            if any(type(key) is not str for key in value):
                raise ValueError("a part of a search parameter has a name that is no text")
            told |= {f"{name}.{key}": _plain(one) for key, one in value.items()}
        else:
            told[name] = _plain(value)
    return told


def _plain(value: object) -> object:
    try:
        return plain_arguments({"value": value})["value"]
    except Exception:
        return type(value).__name__
