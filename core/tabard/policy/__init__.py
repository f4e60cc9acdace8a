"""MAY it: the policy document, its compiled form, and the decision."""

from tabard.policy.compiler import Policy
from tabard.policy.decision import Decision, decide
from tabard.policy.loader import load

__all__ = ["Decision", "Policy", "decide", "load"]
