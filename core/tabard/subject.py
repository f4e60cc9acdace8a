"""The users agents work for: known by a pseudonym, and forgotten when they ask for it.

A pseudonym is made with a key of its own. Once that key is erased nobody can tell whose pseudonym
it was, and nothing that was encrypted with the key can be read: the log stays as it is.
"""

from __future__ import annotations

import hmac
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Self

from tabard.audit.fields import encode
from tabard.clock import Clock, read_clock, system_clock
from tabard.errors import ConfigurationError
from tabard.home import Home
from tabard.revocation import explain
from tabard.store import SqliteStore
from tabard.store.holder import StoreHolder

if TYPE_CHECKING:
    from tabard.store import Store, Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One user, as far as the log knows them.

    Attributes:
        pseudonym: What the records call them.
        key: What their pseudonym, and the commitments to arguments of their calls, are made with.
    """

    pseudonym: str
    key: bytes = field(repr=False)


def look_up(secret: bytes, user: str) -> str:
    """The keyed digest a user is found by.

    Raises:
        ConfigurationError: `user` is no text that could be an id.
    """
    if not isinstance(user, str) or not user:
        raise ConfigurationError("on_behalf_of: expected the user's id as text")
    try:
        return hmac.digest(secret, b"user\x00" + user.encode(), "sha256").hex()
    except UnicodeEncodeError:
        raise ConfigurationError("on_behalf_of: the id holds half a character") from None


def find_subject(transaction: Transaction, lookup: str) -> Subject:
    """The user behind a digest; one who was never seen, or was erased, gets a new pseudonym."""
    pseudonym = transaction.find_pseudonym(lookup)
    key = None if pseudonym is None else transaction.subject_key(pseudonym)
    if pseudonym is None or key is None:
        key = os.urandom(32)
        pseudonym = hmac.digest(key, b"pseudonym", "sha256").hex()
        transaction.add_subject(lookup, pseudonym=pseudonym, key=key)
    return Subject(pseudonym=pseudonym, key=key)


class Erasure(NamedTuple):
    """What was erased.

    Attributes:
        pseudonym: Whose.
        payloads: How many arguments and results of their calls were kept, and are gone.
    """

    pseudonym: str
    payloads: int


class Subjects(StoreHolder):
    """Erases what is known of users, and what was kept of calls."""

    def __init__(self, *, store: Store, clock: Clock = system_clock) -> None:
        """Work on a store; `Subjects.open` does it from a home."""
        self._store = store
        self._clock = clock

    @classmethod
    def open(cls, home: str | os.PathLike[str] | None = None) -> Self:
        """Open a home.

        Raises:
            ConfigurationError: There is none.
        """
        return cls(store=SqliteStore(Home.locate(home).database))

    def erase(
        self,
        *,
        user: str | None = None,
        pseudonym: str | None = None,
        reason: str,
        author: str | None = None,
    ) -> Erasure:
        """Forget a user: who a pseudonym stands for, and what was kept of their calls.

        Every proof of the log still holds, and that this was done is on record itself. Sessions
        that are open go on under the old pseudonym, which stands for nobody any more.

        Args:
            user: The user's id, as it was given to `login`; or
            pseudonym: their pseudonym, as it is in the log.
            reason: Why; goes into the log.
            author: Who decided; goes into the log.

        Raises:
            ConfigurationError: No such user is known, or there is no reason.
            StoreError: It could not be done; nothing was erased.
        """
        if (user is None) == (pseudonym is None):
            raise ConfigurationError("erase: give either the user's id or a pseudonym")
        why = explain(reason, author)
        lookup = None if user is None else look_up(self._store.secret, user)
        with self._store.transaction(read_clock(self._clock)) as transaction:
            found = pseudonym if lookup is None else transaction.find_pseudonym(lookup)
            if found is None or transaction.subject_key(found) is None:
                raise ConfigurationError("erase: nothing is known of such a user")
            done = Erasure(pseudonym=found, payloads=transaction.erase_subject(found))
            facts = {"pseudonym": done.pseudonym, "payloads": done.payloads}
            transaction.append("subject.erased", f'"erased":{encode(facts)},{why}')
        self._store.forget()
        return done

    def erase_call(self, call: str, *, reason: str, author: str | None = None) -> int:
        """Forget what was kept of one call, whether it was done for a user or for nobody.

        Args:
            call: The call's id, as it is in the log.
            reason: Why; goes into the log.
            author: Who decided; goes into the log.

        Returns:
            How many payloads are gone.

        Raises:
            ConfigurationError: Nothing is kept of such a call, or there is no reason.
            StoreError: It could not be done; nothing was erased.
        """
        why = explain(reason, author)
        with self._store.transaction(read_clock(self._clock)) as transaction:
            payloads = transaction.erase_payloads(call)
            if not payloads:
                raise ConfigurationError("erase: nothing is kept of such a call")
            facts = {"call": call, "payloads": payloads}
            transaction.append("payload.erased", f'"erased":{encode(facts)},{why}')
        self._store.forget()
        return payloads
