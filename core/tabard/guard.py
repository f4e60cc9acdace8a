"""The pipeline: authenticate, decide, record, run, record. The only room that knows all others.

```python
guard = Guard.open(".tabard", policy="policy.yaml")
with guard.login(token) as session:
    with guard.admit(ToolCall("claims_db.query", {"table": "claims"})):
        rows = run_query()
```
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from tabard.actions import Action, Delegation
from tabard.arguments import plain_arguments
from tabard.audit import Verification, verify_log
from tabard.audit.fields import action_field, decision_field, pseudonym
from tabard.clock import Clock, read_clock, system_clock
from tabard.credentials import CredentialVerifier
from tabard.current import remember
from tabard.delegation import Mandate, delegated_facts
from tabard.errors import ConfigurationError, StoreError
from tabard.failing import FailingClosed, name_of
from tabard.federation import Federation
from tabard.home import Home
from tabard.identity import Agent, SpiffeId
from tabard.identity.agent import Liveness, find_agent
from tabard.identity.audience import default_audience
from tabard.judge import Judge, Judgement
from tabard.login import Credential, Identified, identify
from tabard.permit import Permit
from tabard.policy import Decision, Policy, load
from tabard.protection import protect_function
from tabard.session import Session, current_session
from tabard.store import SqliteStore, Store
from tabard.trust import Trust
from tabard.verdict import PROOF_REPLAYED, Verdict, verdict_on

_log = logging.getLogger("tabard")
_Function = TypeVar("_Function", bound=Callable[..., Any])

_NOBODY = '"agent":null,"session":null'


class Guard:
    """Admits calls, or refuses them, and keeps the record of both. Safe for many threads.

    Attributes:
        policy: The compiled policy that decides.
        audience: What a token must be meant for to be accepted here.
    """

    def __init__(
        self,
        *,
        store: Store,
        policy: Policy,
        audience: str,
        clock: Clock = system_clock,
    ) -> None:
        """Assemble a guard from its parts; `Guard.open` does it from a home."""
        self.policy = policy
        self.audience = audience
        self._store = store
        self._clock = clock
        trust = Trust(store, Federation(store, clock))
        self._verifier = CredentialVerifier(trust, store, audience=audience, clock=clock)
        self._judge = Judge(policy=policy, verifier=self._verifier, clock=clock)
        self._unwritten: deque[tuple[str, str]] = deque()
        remember(self)

    @classmethod
    def open(
        cls,
        home: str | os.PathLike[str] | None = None,
        *,
        policy: str | os.PathLike[str] | Policy | None = None,
        audience: str | None = None,
        clock: Clock = system_clock,
    ) -> Self:
        """Open an existing home for enforcement; never needs a signing key.

        Args:
            home: The folder `Authority.open` made; default `$TABARD_HOME`, else `.tabard`.
            policy: A path, YAML text or a compiled policy; default `$TABARD_POLICY`.
            audience: What tokens must be meant for; default the guard of the trust domain.
            clock: Returns POSIX seconds.

        Raises:
            ConfigurationError: The home or the policy is missing or not usable.
        """
        place = Home.locate(home)
        source = policy if policy is not None else os.environ.get("TABARD_POLICY")
        if not source:
            raise ConfigurationError(
                "no policy: pass `policy=` or set $TABARD_POLICY; without one nothing is allowed"
            )
        compiled = source if isinstance(source, Policy) else load(source)
        store = SqliteStore(place.database)
        return cls(
            store=store,
            policy=compiled,
            audience=audience or default_audience(store.trust_domain),
            clock=clock,
        )

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
        user = None if on_behalf_of is None else self._pseudonym(on_behalf_of)
        with FailingClosed("login"):
            found = identify(
                credential, verifier=self._verifier, store=self._store, clock=self._clock
            )
            session = Session(guard=self, found=found, scope=bound, on_behalf_of=user)
            with self._store.transaction(found.now) as transaction:
                transaction.append("session.open", session.fields())
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
        with FailingClosed(name_of(action)):
            caller = session if session is not None else current_session()
            return self._record(self._judge.judge(action, caller, proof))

    async def aadmit(
        self, action: Action, *, session: Session | None = None, proof: str | None = None
    ) -> Permit:
        """The same as `admit`, from an event loop: a credential is renewed beside it, not on it."""
        caller = session if session is not None else current_session()
        with FailingClosed(name_of(action)):
            if type(caller) is Session and self._judge.is_renewal_due(caller):
                from asyncio import to_thread  # who awaits this has loaded it already

                await to_thread(self._judge.renew_early, caller)
        return self.admit(action, session=session, proof=proof)

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
        with FailingClosed("delegate"):
            agents, now = self._store.agents(), read_clock(self._clock)
        known = find_agent(agents, agent)
        facts = delegated_facts(session, known, ttl=ttl, now=now)
        with (
            FailingClosed("delegate"),
            self.admit(Delegation(known.name), session=session, proof=proof),
        ):
            child = Session(
                guard=self,
                found=Identified(agent=known, token=facts, source=None, now=now),
                scope=session.scope,
                on_behalf_of=session.on_behalf_of,
                parent=session,
                mandate=mandate,
            )
            with self._store.transaction(now) as transaction:
                dead = _first_dead(child, transaction.liveness)
                if dead is not None:
                    raise dead.refusal(agent=child.spiffe_id, action="delegate")
                transaction.append("session.open", child.fields())
            self._judge.sessions.add(child)
        return child

    def check(
        self, action: Action, *, session: Session | None = None, proof: str | None = None
    ) -> Decision:
        """Decide and explain without side effects: nothing is admitted, nothing recorded."""
        caller = session if session is not None else current_session()
        judged = self._judge.judge(action, caller, proof)
        if judged.session is not None and judged.verdict.is_about_policy:
            try:
                dead = _first_dead(judged.session, self._store.liveness)
            except StoreError as error:
                return Verdict.undecidable(error.code, "the store failed").decision
            return (dead or judged.verdict).decision
        return judged.verdict.decision

    def _record(self, judged: Judgement) -> Permit:
        """The one transaction of an admission: liveness, pending outcomes, the decision."""
        action, session, verdict = judged.action, judged.session, judged.verdict
        what = action_field(action, judged.arguments, self._store.secret)
        late: list[tuple[str, str]] = []
        try:
            with self._store.transaction(judged.now) as transaction:
                # Read under the write lock: a `revoke` that has returned is seen by every process.
                if session is not None:
                    verdict = _first_dead(session, transaction.liveness) or verdict
                if judged.proof is not None and verdict.permits:
                    proof = judged.proof
                    if not transaction.refuse(proof.name, expires=proof.expires_at):
                        verdict = PROOF_REPLAYED
                while self._unwritten:
                    late.append(self._unwritten.popleft())
                    transaction.append(*late[-1])
                who = _NOBODY if session is None else session.fields()
                why = decision_field(verdict.decision, self.policy.digest)
                call = transaction.append(f"{action.kind}.decision", f"{who},{what},{why}")
        except BaseException:
            self._unwritten.extendleft(reversed(late))
            raise
        if session is None or not verdict.permits:
            agent = None if session is None else session.spiffe_id
            raise verdict.refusal(agent=agent, action=action.name)
        return Permit(
            guard=self, session=session, action=action, decision=verdict.decision, call=call
        )

    def write_outcome(self, kind: str, fields: str) -> None:
        """Put an outcome on record; if that fails, before the next admission. For `Permit`."""
        try:
            with self._store.transaction(read_clock(self._clock)) as transaction:
                transaction.append(kind, fields)
        except Exception as error:
            # The next admission writes it first, or is refused: nothing runs unlogged meanwhile.
            self._unwritten.append((kind, fields))
            _log.error("an outcome could not be recorded yet: %s", error)

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
        return verify_log(self._store)

    def close(self) -> None:
        """Close the log of this guard; every later call is refused."""
        self._store.close()

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

    def _pseudonym(self, user: str) -> str:
        if not isinstance(user, str) or not user:
            raise ConfigurationError("on_behalf_of: expected the user's id as text")
        return pseudonym(self._store.secret, user)


def _first_dead(session: Session, liveness: Callable[..., Liveness]) -> Verdict | None:
    """The refusal of the first credential in a chain that no longer counts; None if all do."""
    for one in session.chain:
        verdict = verdict_on(liveness(one.spiffe_id, **one.token_facts))
        if verdict is not None:
            return verdict if one is session else verdict.of_another()
    return None


def _plain_scope(scope: Mapping[str, object] | None) -> Mapping[str, object]:
    try:
        return plain_arguments(scope or {})
    except Exception:
        raise ConfigurationError(
            "scope: expected a mapping from names to plain JSON values"
        ) from None
