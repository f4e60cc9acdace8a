"""Which policy decides: one that was given, or the one in force in the store."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Protocol

from tabard.errors import ConfigurationError, StoreError
from tabard.policy import load
from tabard.store import Store, Transaction

if TYPE_CHECKING:
    from tabard.policy import Policy


class PolicySource(Protocol):
    """Where the policy comes from."""

    def current(self) -> Policy:
        """The policy that decides now."""

    def is_in_force(self, policy: Policy, transaction: Transaction) -> bool:
        """Whether a policy still is the one that decides, asked under the store's lock."""


class PinnedPolicy:
    """The one policy a guard was opened with; its text is kept in the store, for explanations."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._kept = False

    def current(self) -> Policy:
        """The policy."""
        return self._policy

    def is_in_force(self, policy: Policy, transaction: Transaction) -> bool:
        """Always; the first call also keeps the text."""
        if not self._kept:
            transaction.keep_policy(policy.digest, policy.text)
            self._kept = True
        return True


def read_policy(source: str | os.PathLike[str] | Policy | None) -> Policy | None:
    """A policy as an operator gives it: compiled, a path, or YAML text; default `$TABARD_POLICY`.

    Returns:
        None when there is none: then the central one decides.

    Raises:
        ConfigurationError: It is not usable.
    """
    from tabard.policy.rules import Policy

    if isinstance(source, Policy):
        return source
    text = source if source is not None else os.environ.get("TABARD_POLICY")
    return load(text) if text else None


class CentralPolicy:
    """The policy last applied to the store: every process changes over at its next call."""

    def __init__(self, store: Store) -> None:
        """Look it up.

        Raises:
            ConfigurationError: None was ever applied, or it cannot be read any more.
        """
        self._store = store
        self._lock = threading.Lock()
        # One object, changed in one step: a policy is never seen with the number of another. The
        # lock would not do, `is_in_force` asks inside a transaction that `current` may wait for.
        self._known: tuple[int, Policy] | None = None
        try:
            self.current()
        except StoreError as error:
            raise ConfigurationError(str(error)) from None

    def current(self) -> Policy:
        """The policy in force.

        Raises:
            StoreError: It cannot be read; then nothing is allowed.
        """
        number = self._store.policy_number()
        with self._lock:
            if self._known is None or number != self._known[0]:
                self._known = (number, self._read(number))
            return self._known[1]

    def _read(self, number: int) -> Policy:
        changes = [one for one in self._store.policy_changes() if one.number == number]
        text = self._store.policy_text(changes[0].digest) if changes else None
        if text is None:
            raise StoreError(NO_POLICY, code="policy")
        try:
            policy = load(text if "\n" in text else text + "\n")
        except ConfigurationError:
            policy = None
        if policy is None or policy.digest != changes[0].digest:
            raise StoreError("the policy in force was changed in the database", code="policy")
        return policy

    def is_in_force(self, policy: Policy, transaction: Transaction) -> bool:
        """Whether no other policy was applied since."""
        known = self._known
        if known is None or policy is not known[1]:
            return False
        return transaction.policy_number() == known[0]


NO_POLICY = (
    "no policy: pass `policy=`, set $TABARD_POLICY, or run `tabard policy apply policy.yaml`; "
    "without one nothing is allowed"
)
