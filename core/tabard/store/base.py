"""What the guard and the authority need of a store, and nothing more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from tabard.approval import ApprovalRequest, State
from tabard.budget.ledger import Balance, Hold, Window
from tabard.identity.agent import Agent, Liveness, Status
from tabard.identity.api_key import ApiKey
from tabard.identity.issuer_key import IssuerKey
from tabard.identity.trusted_domain import TrustedDomain
from tabard.policy.change import PolicyChange

if TYPE_CHECKING:
    from tabard.audit.chain import SessionCount
    from tabard.audit.sealed import Sealed
    from tabard.audit.stored import StoredRecord


class Transaction(Protocol):
    """All or nothing: what is read here is still true when what is written here is kept.

    Leaving the `with` block commits; an exception rolls back.
    """

    @property
    def trust_domain(self) -> str:
        """The trust domain of the home."""

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Commit, or roll back after an exception."""

    def liveness(self, spiffe_id: str, *, names: tuple[str, str, str], issued_at: int) -> Liveness:
        """Whether a credential of an identity still counts, by everything that was revoked."""

    def status(self, spiffe_id: str) -> str | None:
        """Whether an identity is `active` or `revoked`; None when it is not registered."""

    def append(self, kind: str, fields: str, count: SessionCount | None = None) -> str:
        """Add a record to the log, numbered within a session; returns its id."""

    def agents(self) -> list[Agent]:
        """Every registered identity, by name."""

    def add_agent(self, agent: Agent) -> None:
        """Register an identity."""

    def set_status(self, spiffe_id: str, status: Status, reason: str) -> None:
        """Ban an identity, or take the ban back."""

    def refuse_issued_until(self, spiffe_id: str, moment: int) -> None:
        """Refuse whatever an identity was given until a POSIX second, and until this call."""

    def refuse(self, name: str, *, expires: int) -> bool:
        """Refuse what bears a name until a POSIX second; False if it was refused already."""

    def is_refused(self, name: str) -> bool:
        """Whether what bears a name is refused."""

    def refuse_no_more(self, name: str) -> None:
        """Let what bears a name count again."""

    def add_api_key(self, key: ApiKey) -> None:
        """Keep a new key."""

    def api_keys(self, spiffe_id: str) -> list[ApiKey]:
        """An agent's keys, oldest first."""

    def find_api_key(self, key_id: str) -> ApiKey | None:
        """One key by its public id."""

    def revoke_api_key(self, key_id: str) -> bool:
        """Mark a key as taken back, or a join token as used; False if it was already."""

    def revoke_api_keys_of(self, spiffe_id: str) -> None:
        """Mark every key and join token of an identity as taken back."""

    def shorten_api_key(self, key_id: str, expires_at: int) -> None:
        """Let a key expire at a POSIX second, unless it does so earlier."""

    def issuer_keys(self) -> list[IssuerKey]:
        """Every key of the authority that is in its trust bundle, oldest change first."""

    def put_issuer_key(self, key: IssuerKey) -> None:
        """Keep a new key, or the new state of one."""

    def trusted_domain(self, name: str) -> TrustedDomain | None:
        """A trust domain that counts here, or None."""

    def put_trusted_domain(self, domain: TrustedDomain) -> None:
        """Trust a domain by one bundle, in the place of any it had before."""

    def remove_trusted_domain(self, name: str) -> bool:
        """Trust a domain no more; False if it was not."""

    def first_overdrawn(self, windows: Sequence[Window], amount: int) -> Window | None:
        """The first window, by its key, that has no room for so many nano-units."""

    def hold(self, hold: Hold) -> None:
        """Set an amount aside in every window of a call."""

    def settle(self, call: str, actual: int) -> bool:
        """Charge what a call has really cost, once; False if that was done, or nothing is held."""

    def sweep(self) -> list[Hold]:
        """Charge calls in full that nothing was heard of in time; returns them."""

    def reset_budget(self, key: str) -> Balance | None:
        """Forget what a window has spent; what is held stays. Returns what it was."""

    def is_over_rate(self, key: str, *, limit: int, per: int) -> bool:
        """Whether one more call would be too many in the `per` seconds until now."""

    def count_call(self, key: str, *, limit: int) -> None:
        """Count a call against a limit."""

    def find_approval(self, request_id: str) -> ApprovalRequest | None:
        """One request by its id."""

    def latest_approval(self, binding: str) -> ApprovalRequest | None:
        """The latest request about exactly one call."""

    def add_approval(self, request: ApprovalRequest) -> None:
        """Keep a new request."""

    def answer_approval(
        self, request_id: str, state: State, *, by: str, reason: str | None, expires_at: int
    ) -> None:
        """Keep a person's answer."""

    def use_approval(self, request_id: str) -> None:
        """Use a yes up."""

    def forget_shown(self) -> None:
        """Let go what questions showed that are over."""

    def policy_number(self) -> int:
        """The number of the policy change that is in force; 0 before the first."""

    def policy_in_force(self) -> str | None:
        """The digest of the policy that is in force; None before the first."""

    def keep_policy(self, digest: str, text: str) -> None:
        """Keep a policy's text, so that what it decided can be explained later."""

    def apply_policy(self, digest: str, *, by: str | None) -> int:
        """Let a kept policy come into force; returns the number of the change."""

    def latest_checkpoint(self) -> Sealed | None:
        """The checkpoint that covers most."""

    def add_checkpoint(self, sealed: Sealed) -> None:
        """Keep a new checkpoint."""

    def prune(self, size: int) -> int:
        """Drop the records a checkpoint of that size covers; returns how many there were."""

    def find_pseudonym(self, lookup: str) -> str | None:
        """The pseudonym of a user, by the keyed digest of who they are."""

    def add_subject(self, lookup: str, *, pseudonym: str, key: bytes) -> None:
        """Keep a user's pseudonym, and the key for what is kept about them."""

    def subject_key(self, pseudonym: str) -> bytes | None:
        """The key for what is kept about a user; None once that was erased."""

    def erase_subject(self, pseudonym: str) -> int:
        """Forget who a pseudonym stands for, and what was kept; returns how many payloads."""

    def erase_payloads(self, call: str) -> int:
        """Forget what was kept of one call; returns how many payloads that was."""

    def add_payload(self, call: str, part: str, *, pseudonym: str | None, data: bytes) -> None:
        """Keep what a call was given, or gave back; encrypted by the caller."""

    def find_payload(self, call: str, part: str) -> tuple[str | None, bytes] | None:
        """The pseudonym and the bytes of a payload."""

    def claim_issue_time(self, spiffe_id: str, now: int) -> int | None:
        """The `iat` for a new token: not before what is refused; None if the clock is behind."""


class Store(Protocol):
    """Where identities and the log are kept. Every method raises `StoreError` on failure."""

    trust_domain: str
    secret: bytes
    origin: str

    def transaction(self, now: float) -> Transaction:
        """Begin a transaction at `now` (POSIX seconds, the time its records carry)."""

    def agents(self) -> list[Agent]:
        """Every registered identity, by name."""

    def find_agent(self, spiffe_id: str) -> Agent | None:
        """One identity as it is now."""

    def liveness(self, spiffe_id: str, *, names: tuple[str, str, str], issued_at: int) -> Liveness:
        """Whether a credential of an identity still counts now."""

    def find_api_key(self, key_id: str) -> ApiKey | None:
        """One key by its public id."""

    def issuer_keys(self) -> list[IssuerKey]:
        """Every key the authority ever had, oldest change first."""

    def trusted_domain(self, name: str) -> TrustedDomain | None:
        """A trust domain that counts here, or None."""

    def trusted_domains(self) -> list[TrustedDomain]:
        """Every trust domain that counts here, by name."""

    def policy_number(self) -> int:
        """The number of the policy change that is in force; 0 before the first."""

    def policy_changes(self) -> list[PolicyChange]:
        """Every policy change, oldest first."""

    def policy_text(self, digest: str) -> str | None:
        """The text of a policy that was kept, or None."""

    def balances(self) -> list[Balance]:
        """What every window has taken, by key."""

    def approvals(self) -> list[ApprovalRequest]:
        """Every request for approval, oldest first."""

    def find_approval(self, request_id: str) -> ApprovalRequest | None:
        """One request by its id."""

    def stored_records(self, *, after: int = 0, holding: str = "") -> Iterator[StoredRecord]:
        """The log from entry `after + 1` on, oldest first; only records that hold a text."""

    def first_index(self) -> int | None:
        """The lowest index there is: 1, or the first after those that were pruned."""

    def leaves(self, *, after: int = 0, until: int) -> Iterator[bytes]:
        """The stored leaf hashes of entries `after + 1` to `until`."""

    def checkpoints(self) -> list[Sealed]:
        """Every checkpoint, the one that covers least first."""

    def latest_checkpoint(self, *, until: int | None = None) -> Sealed | None:
        """The checkpoint that covers most, of those that cover no more than `until` entries."""

    def pruned(self) -> Sealed | None:
        """The checkpoint up to which records were dropped; None when all are there."""

    def extent(self) -> tuple[int, int]:
        """How many entries the log ever took, and the index of the last one that is there."""

    def forget(self) -> None:
        """Leave nothing of what was deleted in the store's files, as far as it is up to us."""

    def close(self) -> None:
        """Write the closing entry of this writer and let go of the database."""
