"""Ends a call on record: how it went, and what it has cost in the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tabard.admission import Admissions
from tabard.audit.fields import FinalCost, Outcome, outcome_field
from tabard.budget import TokenUsage
from tabard.clock import Clock, read_clock
from tabard.errors import GuardUnavailable
from tabard.logging_failure import Event

if TYPE_CHECKING:
    from tabard.meter import Meter
    from tabard.permit import Permit


class Settlements:
    """Settles what was held for calls."""

    def __init__(self, admissions: Admissions, meter: Meter, clock: Clock) -> None:
        self._admissions = admissions
        self._meter = meter
        self._clock = clock

    def end_call(self, permit: Permit, outcome: Outcome) -> None:
        """Put an outcome on record, and settle what was held for the call."""
        charge, settlement, cost = permit.charge, None, None
        if charge is not None:
            settlement, estimated = self._meter.settlement(
                charge,
                permit.call,
                permit.action,
                TokenUsage.read(outcome.usage),
                self._time(permit),
            )
            cost = FinalCost(settlement.amount, charge.tariff.currency, estimated)
        session, terms = permit.session, permit.decision.terms
        fields = outcome_field(permit.action, permit.call, outcome, session.commit_key, cost)
        kept = outcome.result if terms is not None and terms.keeps_result else None
        self._admissions.write(
            Event(
                kind=f"{permit.action.kind}.outcome",
                fields=f"{permit.session.fields()},{fields}",
                count=permit.session.count,
                settlement=settlement,
                result=None if kept is None else (session, permit.call, kept),
            )
        )

    def _time(self, permit: Permit) -> float:
        """When a call has ended; a clock that fails now does not make it free."""
        try:
            return read_clock(self._clock)
        except GuardUnavailable:
            return permit.session.seen_at
