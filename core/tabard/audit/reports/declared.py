"""What a policy declares: the document as it was written, and the tables made from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tabard.policy import Policy
    from tabard.policy.document import AgentSection, Document
    from tabard.policy.terms import ToolFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """A policy, to compare the log with.

    Attributes:
        document: As it was written.
        policy: The same, compiled.
    """

    document: Document
    policy: Policy

    def asset(self, tool: str) -> str | None:
        """What a tool reaches, in the operator's words."""
        facts = self.policy.tools.facts(tool)
        return None if facts is None else facts.asset

    def tools_for(self, purpose: str) -> dict[str, ToolFacts]:
        """The tools that agents may use for a purpose, as far as the policy says what they are.

        Patterns of a grant and of the section `tools` are compared as they are written.
        """
        found: dict[str, ToolFacts] = {}
        for name, section in self.document.agents.items():
            if section.purpose == purpose:
                for tool in self._tools_of(name, section):
                    facts = self.policy.tools.facts(tool)
                    if facts and (facts.purposes is None or purpose in facts.purposes):
                        found[tool] = facts
        return found

    def _tools_of(self, name: str, section: AgentSection) -> list[str]:
        rules = self.policy.agents[name]
        granted = [tool for grant in section.grants for tool in grant.tools]
        granted += [tool for asked in section.approvals for tool in asked.tools]
        known = dict.fromkeys((*granted, *self.document.tools))
        return [t for t in known if rules.grants.matching(t) or rules.approvals.matching(t)]
