"""What a call may cost at most, before it runs; and what it did cost, after."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tabard.actions import Action, ModelCall
from tabard.audit.fields import quote
from tabard.budget import Pricer, TokenUsage, format_amount
from tabard.budget.ledger import Settlement, Window
from tabard.budget.periods import period_key
from tabard.budget.pricing import Sum
from tabard.errors import BudgetExceeded
from tabard.notice import complain

if TYPE_CHECKING:
    from tabard.identity import Agent
    from tabard.policy.tariff import Tariff
    from tabard.policy.terms import BudgetLimit, Terms
    from tabard.session import Session


class Charge(NamedTuple):
    """The most a call can cost, and which budgets it is paid from.

    Attributes:
        amount: Nano-units.
        basis: The price it rests on, for the record.
        windows: The budgets, in the periods of this moment.
        tariff: What the real cost is worked out with.
    """

    amount: int
    basis: str
    windows: tuple[Window, ...]
    tariff: Tariff

    def field(self) -> str:
        """The member `charge` of a decision record."""
        windows = ",".join(quote(window.key) for window in self.windows)
        return (
            f'"charge":{{"held":{self.amount},"currency":{quote(self.tariff.currency)},'
            f'"basis":{quote(self.basis)},"windows":[{windows}]}}'
        )

    def describe(self, window: Window) -> str:
        """One sentence for a window that has no room for it."""
        currency = self.tariff.currency
        return (
            f"the {window.key.rpartition('|')[2].partition(':')[0]} budget of "
            f"{format_amount(window.limit, currency)} has no room for a call of up to "
            f"{format_amount(self.amount, currency)}"
        )


class Meter:
    """Works out what calls cost."""

    def __init__(self, pricer: Pricer) -> None:
        self._pricer = pricer

    def estimate(
        self, session: Session, action: Action, terms: Terms, tariff: Tariff, now: float
    ) -> Charge | None:
        """The most a call can cost; None when no budget pays for it.

        Raises:
            BudgetExceeded: Nobody knows what it can cost (`unknown_price`).
        """
        if not terms.budgets:
            return None
        if isinstance(action, ModelCall):
            most = self._price(action.name, _most(action), tariff, now)
        else:
            most = Sum(terms.cost, "policy")
        windows = tuple(_window(session, budget, now) for budget in terms.budgets)
        return Charge(amount=most.amount, basis=most.basis, windows=windows, tariff=tariff)

    def _price(self, model: str, usage: TokenUsage, tariff: Tariff, now: float) -> Sum:
        price = tariff.price_at_most(model, usage, self._pricer, now)
        if price is None:
            raise _unknown(f"no price is known for the model, or none in {tariff.currency}")
        return price

    def settlement(
        self, charge: Charge, call: str, action: Action, usage: TokenUsage | None, now: float
    ) -> tuple[Settlement, bool]:
        """What a call has cost, and whether that is only the estimate: its usage is not known."""
        amount = charge.amount if isinstance(action, ModelCall) else None
        if amount is None:
            return Settlement(call=call, amount=charge.amount), False
        if usage is not None:
            try:
                real = charge.tariff.price(action.name, usage, self._pricer, now)
            except Exception as error:
                complain("the cost of a call was estimated: %s", type(error).__name__)
                real = None
            if real is not None:
                return Settlement(call=call, amount=real.amount), False
        return Settlement(call=call, amount=amount), True


def _most(action: ModelCall) -> TokenUsage:
    """The most tokens a call can take.

    Raises:
        BudgetExceeded: It does not say.
    """
    read, written = action.input_tokens, action.max_output_tokens
    if type(written) is not int or written < 0:
        raise _unknown("the call sets no limit to its output, so its cost has no bound")
    if type(read) is not int or read < 0:
        raise _unknown("how much the call reads is not known, so its cost has no bound")
    return TokenUsage(input_tokens=read, output_tokens=written)


def _unknown(reason: str) -> BudgetExceeded:
    return BudgetExceeded(code="unknown_price", reason=reason)


def _window(session: Session, budget: BudgetLimit, now: float) -> Window:
    return Window(key=window_key(session, budget, now), limit=budget.limit, rule=budget.rule)


def window_key(session: Session, budget: BudgetLimit, now: float) -> str:
    """The name of a budget in its present period.

    A session that works for another counts towards the run it belongs to, so that delegating
    again and again opens no fresh budget.
    """
    return key_of(session.agent, budget, now, run=session.chain[-1].id)


def key_of(agent: Agent, budget: BudgetLimit, now: float, *, run: str) -> str:
    """The name of an agent's budget in the period of `now` (POSIX seconds).

    Args:
        agent: Who pays.
        budget: Which budget.
        now: POSIX seconds.
        run: The session a `session` budget is for; others do not depend on it.
    """
    if budget.of == "team":
        domain = agent.spiffe_id.trust_domain
        whose = f"team {domain}/{agent.environment}/{agent.team}"
    else:
        whose = f"agent {agent.spiffe_id}"
    period = period_key(budget.per, budget.tz, now)
    if budget.per == "session":
        period = f"session:{run}"
    # An amount spent in one currency is none of another, should the policy change to that.
    return f"{budget.currency} {whose}|{period}"
