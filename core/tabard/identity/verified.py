"""The facts of a credential that held."""

from __future__ import annotations

from dataclasses import dataclass

from tabard.identity.spiffe_id import SpiffeId

FOR_EVER = 2**53
"""POSIX seconds: a refusal that is never of no more use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedToken:
    """What is known from a credential that was verified; not the credential.

    Attributes:
        spiffe_id: Whose it is.
        kind: `agent+jwt`, `jwt-svid`, `x509-svid`, `api-key` or `delegated`.
        kid: The id of the key that vouches for it.
        jti: Its own id.
        txn: The id of the run it was issued for.
        audience: The enforcement point it is meant for; empty for a certificate.
        issued_at: POSIX seconds; 0 when it does not say.
        expires_at: POSIX seconds; it holds strictly before.
        bound_to: RFC 7638 thumbprint of the key whose possession every call has to prove, or None.
        digest: base64url of its SHA-256, which such a proof names; empty when it is no token.
    """

    spiffe_id: SpiffeId
    kind: str
    kid: str
    jti: str
    txn: str
    audience: str
    issued_at: int
    expires_at: int
    bound_to: str | None = None
    digest: str = ""

    @property
    def revocable_by(self) -> tuple[str, str, str]:
        """The names under which it can be refused: its own, its key's, its trust domain's."""
        domain = self.spiffe_id.trust_domain
        return self.jti, key_name(domain, self.kid), domain_name(domain)


def key_name(trust_domain: str, kid: str) -> str:
    """The name under which everything a key has vouched for is refused."""
    return f"key:{trust_domain}:{kid}"


def domain_name(trust_domain: str) -> str:
    """The name under which everything of a trust domain is refused."""
    return f"domain:{trust_domain}"
