"""WHO is calling: SPIFFE IDs, keys, trust bundles, tokens and their verification."""

from tabard.identity.agent import Agent
from tabard.identity.bundle import TrustBundle
from tabard.identity.jwt_svid import JwtSvidVerifier
from tabard.identity.keys import SigningKey
from tabard.identity.proof import make_proof
from tabard.identity.source import RenewingSource
from tabard.identity.spiffe_id import SpiffeId
from tabard.identity.token import mint_token
from tabard.identity.verified import VerifiedToken
from tabard.identity.verifier import TokenVerifier, fingerprint

__all__ = [
    "Agent",
    "JwtSvidVerifier",
    "RenewingSource",
    "SigningKey",
    "SpiffeId",
    "TokenVerifier",
    "TrustBundle",
    "VerifiedToken",
    "fingerprint",
    "make_proof",
    "mint_token",
]
