"""The guard: what an application holds to have its calls admitted. It knows all other rooms.

```python
guard = Guard.open(".tabard", policy="policy.yaml")
with guard.login(token) as session:
    with guard.admit(ToolCall("claims_db.query", {"table": "claims"})):
        rows = run_query()
```
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from tabard.actions import Action
from tabard.admission import Admissions
from tabard.approvals import Approvals
from tabard.arguments import plain_arguments
from tabard.audit.chain import SessionCount
from tabard.audit.fields import Outcome
from tabard.background_seal import BackgroundSeal
from tabard.budget import ListPricer, Pricer
from tabard.clock import MAX_TIME, Clock, system_clock
from tabard.credentials import CredentialVerifier
from tabard.current import remember
from tabard.delegation import Mandate, lists_tool
from tabard.errors import AccessDenied, ConfigurationError
from tabard.failing import FailingClosed
from tabard.federation import Federation
from tabard.handover import Handover
from tabard.home import Home
from tabard.identity import Agent, SpiffeId
from tabard.identity.audience import default_audience
from tabard.judge import Judge
from tabard.logging_failure import Event, LoggingFailure, OnAuditFailure
from tabard.login import Credential, identify
from tabard.meter import Meter
from tabard.notice import complain
from tabard.permit import Permit
from tabard.pipeline import Pipeline
from tabard.policies import CentralPolicy, PinnedPolicy, PolicySource, read_policy
from tabard.policy import Decision
from tabard.protection import protect_function
from tabard.seal_watch import SealWatch
from tabard.session import Session, current_session
from tabard.settlement import Settlements
from tabard.store import SqliteStore, Store
from tabard.store.writer import current_instance
from tabard.subject import find_subject, look_up
from tabard.trust import Trust

if TYPE_CHECKING:
    from tabard.audit import Verification
    from tabard.policy import Policy

_Function = TypeVar("_Function", bound=Callable[..., Any])


class Guard:
    """Admits calls, or refuses them, and keeps the record of both. Safe for many threads.

    Attributes:
        approvals: The questions to people, and their answers.
        audience: What a token must be meant for to be accepted here.
        secret: The key of commitments; for `Session`.
    """

    def __init__(
        self,
        *,
        store: Store,
        policy: Policy | None = None,
        audience: str,
        pricer: Pricer | None = None,
        approval_wait: float = 0.0,
        on_audit_failure: OnAuditFailure = "deny",
        spool: Path | None = None,
        strict_sealing: bool = False,
        clock: Clock = system_clock,
    ) -> None:
        """Assemble a guard from its parts; `Guard.open` does it from a home."""
        if type(approval_wait) not in (int, float) or not 0 <= approval_wait < MAX_TIME:
            raise ConfigurationError("approval_wait: expected seconds, from 0 on")
        self.audience = audience
        self.approvals = Approvals(self, store, clock)
        self.secret = store.secret
        self._store = store
        self._clock = clock
        self._background: BackgroundSeal | None = None
        self._policies: PolicySource = (
            CentralPolicy(store) if policy is None else PinnedPolicy(policy)
        )
        meter = Meter(pricer or ListPricer())
        trust = Trust(store, Federation(store, clock), clock)
        self._verifier = CredentialVerifier(trust, store, audience=audience, clock=clock)
        self._judge = Judge(
            policies=self._policies, verifier=self._verifier, meter=meter, clock=clock
        )
        self._admissions = Admissions(
            store=store,
            policies=self._policies,
            failure=LoggingFailure(on_audit_failure, spool, current_instance()),
            watch=SealWatch(store, strict=strict_sealing),
            clock=clock,
        )
        self._settlements = Settlements(self._admissions, meter, clock)
        self._pipeline = Pipeline(
            self,
            store=store,
            judge=self._judge,
            admissions=self._admissions,
            wait=approval_wait,
            clock=clock,
        )
        self._handover = Handover(self, store, self._judge, clock)
        remember(self)

    @property
    def policy(self) -> Policy:
        """The compiled policy that decides now.

        Raises:
            StoreError: The central one cannot be read.
        """
        return self._policies.current()

    @classmethod
    def open(
        cls,
        home: str | os.PathLike[str] | None = None,
        *,
        policy: str | os.PathLike[str] | Policy | None = None,
        audience: str | None = None,
        pricer: Pricer | None = None,
        approval_wait: float = 0.0,
        on_audit_failure: OnAuditFailure = "deny",
        spool: str | os.PathLike[str] | None = None,
        strict_sealing: bool = False,
        clock: Clock = system_clock,
    ) -> Self:
        """Open an existing home for enforcement; never needs a signing key.

        Args:
            home: The folder `Authority.open` made; default `$TABARD_HOME`, else `.tabard`.
            policy: A path, YAML text or a compiled policy; default `$TABARD_POLICY`, else the
                central one (`tabard policy apply`), whose changes count at the next call.
            audience: What tokens must be meant for; default the guard of the trust domain.
            pricer: Knows what models cost; default the providers' list prices.
            approval_wait: Seconds a call waits for a person's answer; 0 raises
                `ApprovalRequired` at once, and the same call goes ahead once they have agreed.
            on_audit_failure: What happens to a call that needs nothing of the store but a record
                while the log cannot be written: `deny` it, `spool` its record to a file, or
                `allow_and_alarm`. Recorded when the log is back.
            spool: The folder for spooled records, best on another disk; default in the home.
            strict_sealing: Refuse calls while nobody seals the log (10,000 entries wait, or any
                for a minute); default an alarm, on record.
            clock: Returns POSIX seconds.

        Raises:
            ConfigurationError: The home or the policy is missing or not usable, or `approval_wait`
                is no time.
        """
        place = Home.locate(home)
        compiled = read_policy(policy)
        store = SqliteStore(place.database)
        guard = cls(
            store=store,
            policy=compiled,
            audience=audience or default_audience(store.trust_domain),
            pricer=pricer,
            approval_wait=approval_wait,
            on_audit_failure=on_audit_failure,
            spool=place.path / "spool" if spool is None else Path(spool),
            strict_sealing=strict_sealing,
            clock=clock,
        )
        if os.access(place.sealing_key, os.R_OK):
            guard._background = BackgroundSeal(place.path, store, clock)
            store.on_commit = guard._background.count
        return guard

    def login(
        self,
        credential: Credential | None = None,
        *,
        scope: Mapping[str, object] | None = None,
        on_behalf_of: str | None = None,
    ) -> Session:
        """Verify a credential once and open a session.

        Args:
            credential: A token, an API key, or a source; default `$TABARD_CREDENTIAL`.
            scope: The data scope this run is bound to, for example `{"claimant_id": "C-1001"}`;
                set by the host application, never by the model.
            on_behalf_of: The user the agent works for; kept as a keyed pseudonym only.

        Raises:
            AuthenticationFailed: The credential does not hold; the attempt is on record.
            GuardUnavailable: The store or the clock failed.
            ConfigurationError: `scope` or `on_behalf_of` is not what it has to be.
        """
        bound = _plain_scope(scope)
        lookup = None if on_behalf_of is None else look_up(self._store.secret, on_behalf_of)
        with FailingClosed("login"):
            found = identify(
                credential, verifier=self._verifier, store=self._store, clock=self._clock
            )
            with self._store.transaction(found.now) as transaction:
                subject = None if lookup is None else find_subject(transaction, lookup)
                session = Session(guard=self, found=found, scope=bound, subject=subject)
                transaction.append("session.open", session.fields(), session.count)
                transaction.forget_shown()
            self._judge.sessions.add(session)
        return session

    def admit(
        self, action: Action, *, session: Session | None = None, proof: str | None = None
    ) -> Permit:
        """Admit one call, or refuse it; either way it is on record when this returns.

        Args:
            action: What is about to happen.
            session: Whose call it is; default the current session.
            proof: Where the session's token is bound to a key: `make_proof` of this very call.

        Raises:
            AuthenticationFailed: No session, or one that is expired, closed, revoked or foreign.
            NotPermitted: The policy does not allow it.
            GuardUnavailable: Tabard could not decide or could not keep the record.
        """
        return self._pipeline.admit(action, session, proof)

    async def aadmit(
        self, action: Action, *, session: Session | None = None, proof: str | None = None
    ) -> Permit:
        """The same as `admit`, from an event loop, which goes on while this waits."""
        return await self._pipeline.aadmit(action, session, proof)

    def hand_over(
        self,
        session: Session,
        agent: str | SpiffeId | Agent,
        *,
        mandate: Mandate,
        ttl: float,
        proof: str | None = None,
    ) -> Session:
        """Open the session of an agent that works for another; for `Session.delegate`."""
        return self._handover.hand_over(session, agent, mandate=mandate, ttl=ttl, proof=proof)

    def check(
        self, action: Action, *, session: Session | None = None, proof: str | None = None
    ) -> Decision:
        """Decide and explain without side effects: nothing is admitted, nothing recorded."""
        return self._pipeline.check(action, session, proof)

    def lists(self, name: str, session: Session | None = None) -> bool:
        """Whether some call of a tool could be allowed: for a list to choose from.

        Args:
            name: The tool's name.
            session: Who asks; default the current session.

        Returns:
            False also for nobody, and where it cannot be told.
        """
        caller = session if session is not None else current_session()
        try:
            return type(caller) is Session and lists_tool(self._policies.current(), caller, name)
        except Exception as error:
            complain("a tool was left out of a list: %s", type(error).__name__)
            return False

    def end_call(self, permit: Permit, outcome: Outcome) -> None:
        """Put an outcome on record, and settle what was held for the call; for `Permit`."""
        self._settlements.end_call(permit, outcome)

    def check_session(self, session: object) -> None:
        """Make sure that a session is one of this guard's, and at work; for `Approvals`.

        Raises:
            AuthenticationFailed: It is not.
            GuardUnavailable: The clock failed.
        """
        self._judge.check_session(session)

    def check_alive(self, session: Session) -> None:
        """Make sure that a session still counts, right before what was admitted for it leaves.

        Raises:
            AuthenticationFailed: It is closed, at its end, or revoked.
            GuardUnavailable: Tabard could not tell.
        """
        self._pipeline.check_alive(session)

    def refuse(
        self, action: Action, refusal: AccessDenied, *, session: Session | None = None
    ) -> AccessDenied:
        """Put on record that a call is refused for a reason that is not the policy's.

        Args:
            action: What was about to happen.
            refusal: Its class, code and reason; no mode softens it.
            session: Whose call it is; None when nobody knows.

        Returns:
            The refusal to raise.

        Raises:
            GuardUnavailable: It could not be put on record.
        """
        return self._pipeline.refuse(action, refusal, session)

    def write_event(self, kind: str, fields: str, count: SessionCount | None = None) -> None:
        """Put something on record that no decision hangs on; for `Session`."""
        self._admissions.write(Event(kind=kind, fields=fields, count=count))

    @overload
    def protect(self, function: _Function, *, name: str | None = None) -> _Function: ...

    @overload
    def protect(self, *, name: str | None = None) -> Callable[[_Function], _Function]: ...

    def protect(
        self, function: _Function | None = None, *, name: str | None = None
    ) -> _Function | Callable[[_Function], _Function]:
        """Guard a plain Python function: every call of it is a tool call of the current session.

        Args:
            function: A function, a coroutine function, or a generator function of either kind.
            name: The tool's name in the policy; default the function's name.

        Raises:
            ConfigurationError: It is not a function.
        """
        if function is None:
            return lambda inner: protect_function(self, inner, name)
        return protect_function(self, function, name)

    def records(self) -> Iterator[dict[str, Any]]:
        """Every record of the log as a dict, oldest first.

        Raises:
            AuditError: An entry is not a record any more.
            StoreError: The log cannot be read.
        """
        for record in self._store.stored_records():
            yield record.parse()

    def verify(self) -> Verification:
        """Verify the log from its first entry to its last.

        Raises:
            AuditError: Naming the first entry that was changed, removed, inserted or moved.
            StoreError: The log cannot be read.
        """
        from tabard.audit.verify import verify_log  # not needed to import tabard

        return verify_log(self._store)

    def close(self) -> None:
        """Close the log of this guard; every later call is refused."""
        self._admissions.close()
        if self._background is None:
            self._store.close()
        else:
            self._background.stop()

    def __enter__(self) -> Self:
        """Use as `with Guard.open(...) as guard:`."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()


def _plain_scope(scope: Mapping[str, object] | None) -> Mapping[str, object]:
    try:
        return plain_arguments(scope or {})
    except Exception:
        raise ConfigurationError(
            "scope: expected a mapping from names to plain JSON values"
        ) from None
