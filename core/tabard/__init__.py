"""tabard: an identity, a permission check and a record for every call an AI agent makes.

>>> from tabard import ToolCall
>>> ToolCall("claims_db.query", {"table": "claims"}).name
'claims_db.query'
"""

from tabard.actions import Action, Delegation, ModelCall, Retrieval, ToolCall
from tabard.authority import Authority
from tabard.current import admit, current_guard
from tabard.errors import (
    AccessDenied,
    ApprovalRequired,
    AuditError,
    AuthenticationFailed,
    BudgetExceeded,
    ConfigurationError,
    GuardUnavailable,
    NotPermitted,
    StoreError,
    TabardError,
)
from tabard.guard import Guard
from tabard.identity import Agent
from tabard.permit import Permit
from tabard.policy import Decision
from tabard.session import CredentialSource, Session, current_session

__all__ = [
    "AccessDenied",
    "Action",
    "Agent",
    "ApprovalRequired",
    "AuditError",
    "AuthenticationFailed",
    "Authority",
    "BudgetExceeded",
    "ConfigurationError",
    "CredentialSource",
    "Decision",
    "Delegation",
    "Guard",
    "GuardUnavailable",
    "ModelCall",
    "NotPermitted",
    "Permit",
    "Retrieval",
    "Session",
    "StoreError",
    "TabardError",
    "ToolCall",
    "admit",
    "current_guard",
    "current_session",
]
