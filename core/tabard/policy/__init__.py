"""MAY it: the policy document, its compiled form, and the decision."""

from typing import TYPE_CHECKING

from tabard.lazily import lazily
from tabard.policy.decision import Decision, decide
from tabard.policy.loader import load

if TYPE_CHECKING:
    from tabard.policy.rules import Policy

__all__ = ["Decision", "Policy", "decide", "load"]

__getattr__ = lazily(__name__, {"Policy": "rules"})
