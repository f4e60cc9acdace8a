"""Puts agents on the register: once, for good, with the facts they came with."""

from __future__ import annotations

from collections.abc import Mapping

from tabard.errors import ConfigurationError
from tabard.identity.agent import Agent
from tabard.identity.spiffe_id import SpiffeId
from tabard.redaction import holds_credential
from tabard.remark import remark
from tabard.revocation import about
from tabard.store import Store


def register(agent: Agent, store: Store, *, now: float) -> Agent:
    """Register an agent; doing it again with the same facts changes nothing.

    Args:
        agent: Who.
        store: Where.
        now: POSIX seconds.

    Raises:
        ConfigurationError: The identity exists with other facts, or was revoked.
        StoreError: The store failed.
    """
    with store.transaction(now) as transaction:
        if transaction.status(str(agent.spiffe_id)) is None:
            transaction.add_agent(agent)
            transaction.append("agent.registered", about(agent))
            return agent
    known = store.find_agent(str(agent.spiffe_id))
    if known != agent:
        detail = "revoked" if known and known.status == "revoked" else "with other facts"
        raise ConfigurationError(
            f"{agent.spiffe_id} is registered already, {detail}; an identity is never reused"
        )
    return agent


def checked_labels(attributes: Mapping[str, str] | None) -> dict[str, str]:
    """Labels that are text.

    Raises:
        ConfigurationError: Some are not.
    """
    if attributes is not None and not isinstance(attributes, Mapping):
        raise ConfigurationError("attributes: expected a mapping from text to text")
    labels = dict(attributes or {})
    if not all(isinstance(part, str) for item in labels.items() for part in item):
        raise ConfigurationError("attributes: expected a mapping from text to text")
    return {
        remark("attributes", name) or "": remark("attributes", label) or ""
        for name, label in labels.items()
    }


def foreign_id(text: str, trust_domain: str) -> SpiffeId:
    """The SPIFFE ID of a workload of another trust domain.

    Raises:
        ConfigurationError: It is none, or one of this home's own trust domain.
    """
    spiffe_id = SpiffeId.parse(text)
    if spiffe_id.trust_domain == trust_domain or not spiffe_id.path:
        raise ConfigurationError(
            "spiffe_id: expected a workload of another trust domain; here, the SPIFFE ID follows "
            "from environment, team and name"
        )
    if holds_credential(text):
        raise ConfigurationError(f"spiffe_id: {text} would stand in every record")
    return spiffe_id
