"""The central policy: applied to the store, in force in every process at its next call.

```python
policies = Policies.open(".tabard")
policies.apply(Path("policy.yaml").read_text(), author="mia")
policies.rollback(author="mia")
```
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Self

from tabard.audit.fields import encode
from tabard.clock import Clock, read_clock, system_clock
from tabard.errors import ConfigurationError
from tabard.home import Home
from tabard.policy import load
from tabard.policy.change import PolicyChange
from tabard.policy.difference import describe_difference
from tabard.remark import remark
from tabard.store import SqliteStore, Store
from tabard.store.holder import StoreHolder

if TYPE_CHECKING:
    from tabard.policy import Policy


class Policies(StoreHolder):
    """The policies of a home: which is in force, which were, and changing that."""

    def __init__(self, store: Store, clock: Clock = system_clock) -> None:
        """Use a store; `Policies.open` finds that of a home."""
        self._store = store
        self._clock = clock

    @classmethod
    def open(
        cls, home: str | os.PathLike[str] | None = None, *, clock: Clock = system_clock
    ) -> Self:
        """Open the policies of a home; needs no signing key.

        Raises:
            ConfigurationError: There is no home, or it is not usable.
        """
        return cls(SqliteStore(Home.locate(home).database, synchronous="FULL"), clock)

    def apply(
        self,
        source: str | os.PathLike[str],
        *,
        author: str | None = None,
        reason: str | None = None,
        after: int | None = None,
    ) -> Policy:
        """Let a policy come into force; what is in force already stays as it is.

        Args:
            source: A path, or the YAML text.
            author: Who decided; goes into the log.
            reason: Why; goes into the log.
            after: The number of the change it was compared with, 0 for none yet. When another
                one came since, nobody has seen what this would undo, and it is not applied.

        Raises:
            ConfigurationError: The policy has problems, or another came into force meanwhile;
                nothing is changed.
            StoreError: The store failed; nothing is changed.
        """
        policy = load(source)
        self._put_in_force(policy.digest, policy.text, "policy.apply", author, reason, after)
        return policy

    def rollback(
        self, digest: str | None = None, *, author: str | None = None, reason: str | None = None
    ) -> PolicyChange:
        """Let an earlier policy come into force again.

        Args:
            digest: The beginning of its digest; default the one before the present one.
            author: Who decided; goes into the log.
            reason: Why; goes into the log.

        Raises:
            ConfigurationError: There is no such policy, or there are several.
            StoreError: The store failed; nothing is changed.
        """
        earlier = self._find(digest)
        text = self._store.policy_text(earlier.digest) or ""
        self._put_in_force(earlier.digest, text, "policy.rollback", author, reason)
        return self.history()[-1]

    def history(self) -> list[PolicyChange]:
        """Every change, oldest first; the last one is in force.

        Raises:
            StoreError: The store failed.
        """
        return self._store.policy_changes()

    def text(self) -> str | None:
        """The policy in force as it was written, or None before the first."""
        changes = self.history()
        return self._store.policy_text(changes[-1].digest) if changes else None

    def diff(self, source: str | os.PathLike[str]) -> list[str]:
        """What applying a policy would change, one line for each place.

        Raises:
            ConfigurationError: The policy has problems.
            StoreError: The store failed.
        """
        return describe_difference(self.text() or "", load(source).text)

    def _find(self, digest: str | None) -> PolicyChange:
        history = self.history()
        if digest is None:
            earlier = [one for one in history if one.digest != history[-1].digest]
            if not earlier:
                raise ConfigurationError("there is no earlier policy to go back to")
            return earlier[-1]
        found = {one.digest: one for one in history if digest and one.digest.startswith(digest)}
        if len(found) != 1:
            listed = ", ".join(sorted({one.digest[:12] for one in history})) or "none yet"
            raise ConfigurationError(
                f"no one policy has a digest that begins like this; applied were: {listed}"
            )
        return next(iter(found.values()))

    def _put_in_force(
        self,
        digest: str,
        text: str,
        kind: str,
        author: str | None,
        reason: str | None,
        after: int | None = None,
    ) -> None:
        author, reason = remark("author", author), remark("reason", reason)
        with self._store.transaction(read_clock(self._clock)) as transaction:
            if after is not None and transaction.policy_number() != after:
                raise ConfigurationError(
                    "another policy came into force meanwhile; look at the differences again"
                )
            if transaction.policy_in_force() == digest:
                return
            transaction.keep_policy(digest, text)
            transaction.apply_policy(digest, by=author)
            facts = {"digest": digest, "author": author, "reason": reason}
            transaction.append(kind, f'"policy":{encode(facts)}')
