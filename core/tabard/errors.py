"""Everything tabard raises, in one tree.

```
TabardError
+- ConfigurationError          policy file, home, keys: what was found, what was expected, where
|  +- InvalidSpiffeId          text that is no SPIFFE ID
+- StoreError                  the store could not be read or written
+- AuditError                  the log does not verify; names the entry
+- AccessDenied                a call was refused; it did not run
   +- AuthenticationFailed     who is calling could not be established
   +- NotPermitted             the policy does not allow it
   +- BudgetExceeded           it cannot be paid for
   +- ApprovalRequired         a person has to agree first
   +- GuardUnavailable         tabard itself could not decide, so the call was refused
```

Every `AccessDenied` carries a stable `code`; the same code is in the audit record. Catching
`AccessDenied` is always safe: whatever the reason, the guarded body did not run.

>>> NotPermitted(code="no_grant", reason="no grant names this tool", action="payments.transfer")
NotPermitted('no_grant: no grant names this tool (payments.transfer)')
"""

from __future__ import annotations

from tabard.redaction import redact


class TabardError(Exception):
    """The root of everything tabard raises."""


class ConfigurationError(TabardError):
    """A file, key or setting is not usable; the message says what, where and what was expected.

    It may repeat what somebody typed, but never a credential.
    """

    def __init__(self, message: str) -> None:
        super().__init__(redact(message))


class InvalidSpiffeId(ConfigurationError):
    """Text that is not a SPIFFE ID, or a part that may not stand in one."""


class StoreError(TabardError):
    """The store could not be read or written.

    Attributes:
        code: `store` when the state could not be reached, `audit` when a record could not be kept.
    """

    def __init__(self, message: str, *, code: str = "store") -> None:
        super().__init__(message)
        self.code = code


class AuditError(TabardError):
    """The audit log does not verify.

    Attributes:
        entry: The index of the first entry that does not hold, or None when it is the whole log.
    """

    def __init__(self, message: str, *, entry: int | None = None) -> None:
        super().__init__(message)
        self.entry = entry


class AccessDenied(TabardError):
    """A call was refused and did not run.

    Attributes:
        code: A stable snake_case reason, the same as in the audit record.
        reason: One sentence for a person or a model; never holds an argument value or a secret.
        agent: The SPIFFE ID of the caller, or None when it was never established.
        action: The name of the tool, model or retriever.
        rule: The policy rule that decided, or None.
    """

    def __init__(
        self,
        *,
        code: str,
        reason: str,
        agent: str | None = None,
        action: str | None = None,
        rule: str | None = None,
    ) -> None:
        self.code = code
        self.reason = reason
        self.agent = agent
        self.action = action
        self.rule = rule
        super().__init__(f"{code}: {reason}" + (f" ({action})" if action else ""))

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by keyword, so that a refusal crosses a process pool as what it is."""
        return _rebuild, (type(self), self.code, self.reason, self.agent, self.action, self.rule)


def _rebuild(
    kind: type[AccessDenied],
    code: str,
    reason: str,
    agent: str | None,
    action: str | None,
    rule: str | None,
) -> AccessDenied:
    return kind(code=code, reason=reason, agent=agent, action=action, rule=rule)


class AuthenticationFailed(AccessDenied):
    """Who is calling could not be established, or is not allowed to call any more."""


class NotPermitted(AccessDenied):
    """The policy does not allow this agent to do this."""


class BudgetExceeded(AccessDenied):
    """The call cannot be paid for."""


class ApprovalRequired(AccessDenied):
    """A person has to agree before this call runs; the same call again goes ahead once they have.

    Attributes:
        request: The id of the question, for `tabard approval grant`; None in a dry run.
    """

    def __init__(
        self,
        *,
        code: str,
        reason: str,
        agent: str | None = None,
        action: str | None = None,
        rule: str | None = None,
        request: str | None = None,
    ) -> None:
        self.request = request
        named = f"{reason} (request {request})" if request else reason
        super().__init__(code=code, reason=named, agent=agent, action=action, rule=rule)
        self.reason = reason

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by keyword, the request included."""
        facts = (self.code, self.reason, self.agent, self.action, self.rule, self.request)
        return _rebuild_question, facts


def _rebuild_question(
    code: str,
    reason: str,
    agent: str | None,
    action: str | None,
    rule: str | None,
    request: str | None,
) -> ApprovalRequired:
    return ApprovalRequired(
        code=code, reason=reason, agent=agent, action=action, rule=rule, request=request
    )


class GuardUnavailable(AccessDenied):
    """Tabard itself could not decide (store, audit, policy or clock), so the call was refused."""
