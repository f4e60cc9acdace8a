"""SVIDs of ours in the hands of another SPIFFE library."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from spiffe import JwtBundle, JwtSvid, TrustDomain, X509Bundle, X509Svid
from spiffe.errors import PySpiffeError

from tabard import Authority

AUDIENCE = "spiffe://acme.example/guard"
DOMAIN = TrustDomain("acme.example")


@pytest.fixture
def authority(home: Path) -> Iterator[Authority]:
    """An authority by the real clock: the other library asks no other."""
    with Authority.open(home, trust_domain="acme.example") as opened:
        opened.register("claims-agent", team="claims", environment="prod")
        yield opened


def test_jwt_svid(authority: Authority, home: Path) -> None:
    """Our JWT-SVID and our published bundle are those of a SPIFFE issuer, after a rotation too."""
    for _ in range(2):
        token = authority.issue("claims-agent", profile="jwt-svid")
        # Its parser wants a `kid` of every element, the certificate authorities' too.
        bundle = JwtBundle.parse(DOMAIN, _tokens_only(home / "bundle.json"))
        svid = JwtSvid.parse_and_validate(token, bundle, {AUDIENCE})
        assert str(svid.spiffe_id) == str(authority.find("claims-agent").spiffe_id)
        authority.issuer.rotate()
    with pytest.raises(PySpiffeError):
        JwtSvid.parse_and_validate(token, bundle, {"someone-else"})


def _tokens_only(path: Path) -> bytes:
    import json

    document = json.loads(path.read_text())
    document["keys"] = [key for key in document["keys"] if key["use"] == "jwt-svid"]
    return json.dumps(document).encode()


def test_agent_token_is_no_jwt_svid(authority: Authority, home: Path) -> None:
    """An `agent+jwt` cannot be passed off as a JWT-SVID elsewhere."""
    bundle = JwtBundle.parse(DOMAIN, _tokens_only(home / "bundle.json"))
    with pytest.raises(PySpiffeError):
        JwtSvid.parse_and_validate(authority.issue("claims-agent"), bundle, {AUDIENCE})


def test_x509_svid(authority: Authority) -> None:
    """Our X.509-SVID is read as one, with our authority in a bundle of theirs."""
    held = authority.issue_svid("claims-agent")
    pem = held.to_pem()
    cut = pem.index(b"-----BEGIN PRIVATE")
    svid = X509Svid.parse(pem[:cut], pem[cut:])
    assert str(svid.spiffe_id) == str(authority.find("claims-agent").spiffe_id)
    [root] = authority.issuer.bundle().authorities
    bundle = X509Bundle.parse_raw(DOMAIN, root.public_bytes(Encoding.DER))
    [known] = bundle.x509_authorities
    held.chain[0].verify_directly_issued_by(known)
