"""The rows of a SQLite home, as the values they stand for."""

from __future__ import annotations

import json

from tabard.errors import StoreError
from tabard.identity.agent import Agent, Liveness
from tabard.identity.api_key import ApiKey, KeyKind
from tabard.identity.issuer_key import IssuerKey, State, Use
from tabard.identity.spiffe_id import SpiffeId
from tabard.identity.trusted_domain import TrustedDomain

_REFUSED = "EXISTS (SELECT 1 FROM refused WHERE name = ?)"
# Not `name IN (?, ?, ?)`: for that SQLite builds a table at each call.
LIVENESS = (
    f"SELECT status, min_iat, {_REFUSED} OR {_REFUSED} OR {_REFUSED} "  # noqa: S608  constants
    "FROM agent WHERE spiffe_id = ?"
)
AGENT = "SELECT spiffe_id, name, team, environment, purpose, owner, attributes, status FROM agent"
API_KEY = "SELECT id, spiffe_id, digest, kind, created_at, expires_at, revoked, parent FROM api_key"
ISSUER_KEY = "SELECT kid, use, state, since, element, expires FROM issuer_key"
TRUSTED_DOMAIN = "SELECT trust_domain, document, origin, pin, checked_at FROM trust_bundle"


def to_api_key(row: tuple[str, str, bytes, KeyKind, int, int, int, str | None]) -> ApiKey:
    """The key of a row of `API_KEY`."""
    key_id, spiffe_id, digest, kind, created_at, expires_at, revoked, parent = row
    return ApiKey(
        id=key_id,
        spiffe_id=spiffe_id,
        digest=digest,
        kind=kind,
        created_at=created_at,
        expires_at=expires_at,
        revoked=bool(revoked),
        parent=parent,
    )


def to_issuer_key(row: tuple[str, Use, State, int, str, int | None]) -> IssuerKey:
    """The key of a row of `ISSUER_KEY`."""
    kid, use, state, since, element, expires = row
    return IssuerKey(kid=kid, use=use, state=state, since=since, element=element, expires=expires)


def to_trusted_domain(row: tuple[str, str, str, str | None, int]) -> TrustedDomain:
    """The trust domain of a row of `TRUSTED_DOMAIN`."""
    name, document, origin, pin, checked_at = row
    return TrustedDomain(
        name=name, document=document, origin=origin, pin=pin, checked_at=checked_at
    )


def to_liveness(row: tuple[str, int, int] | None, issued_at: int) -> Liveness:
    """Whether a credential issued at a POSIX second counts, from the row of `LIVENESS`."""
    if row is None:
        return "unregistered"
    status, min_iat, denied = row
    if status != "active":
        return "banned"
    if issued_at < min_iat:
        return "evicted"
    return "denied" if denied else "active"


def to_agent(row: tuple[str, ...]) -> Agent:
    """The agent of a row of `AGENT`."""
    spiffe_id, name, team, environment, purpose, owner, attributes, status = row
    try:
        labels = json.loads(attributes)
    except ValueError:
        raise StoreError(
            f"the database is damaged: the row of {spiffe_id} cannot be read"
        ) from None
    return Agent(
        spiffe_id=SpiffeId.parse(spiffe_id),
        name=name,
        team=team,
        environment=environment,
        purpose=purpose,
        owner=owner,
        attributes=labels,
        status="active" if status == "active" else "revoked",
    )
