"""MAY it: the policy document, its compiled form, and the decision."""

from tabard.policy.decision import Decision, decide
from tabard.policy.loader import load
from tabard.policy.rules import Policy

__all__ = ["Decision", "Policy", "decide", "load"]
