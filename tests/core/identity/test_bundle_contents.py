"""A bundle is refused whole, and the element named, when it holds what no bundle should."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tabard import Authority, ConfigurationError
from tabard.identity import SigningKey, TrustBundle
from tabard.identity.bundle import LONGEST_HINT
from tabard.identity.workload_api import _authority_elements
from tabard.identity.x509_svid import create_authority_certificate

NOW = 1_800_000_000
KEY, OTHER = SigningKey.generate(), SigningKey.generate()


def authority(key: SigningKey = KEY, domain: str = "acme.example") -> Any:
    return create_authority_certificate(key, trust_domain=domain, not_before=NOW, lifetime=86_400)


def document() -> dict[str, Any]:
    """A good bundle: a key for tokens and an authority."""
    bundle = TrustBundle.of(KEY, authorities=[authority(OTHER)], trust_domain="acme.example")
    made: dict[str, Any] = json.loads(bundle.to_jwks())
    return made


def read(made: dict[str, Any]) -> TrustBundle:
    return TrustBundle.from_jwks(json.dumps(made), trust_domain="acme.example")


def test_good() -> None:
    """The document that the others are made of is a bundle."""
    assert len(read(document())) == 1


@pytest.mark.parametrize("place", ["top", "element", "unknown element", "nested"])
@pytest.mark.parametrize("member", ["d", "p", "k"])
def test_private_member(place: str, member: str) -> None:
    """Private key material at whatever depth makes the whole document one to be rid of."""
    made = document()
    target: Any = {
        "top": made,
        "element": made["keys"][1],
        "unknown element": made["keys"][0],
        "nested": made.setdefault("extra", [{"deep": {}}])[0]["deep"],
    }[place]
    target[member] = "AAAA"
    made["keys"][0]["use"] = "something-new" if place == "unknown element" else "jwt-svid"
    with pytest.raises(ConfigurationError, match="private key material") as caught:
        read(made)
    if "element" in place:
        assert "keys." in str(caught.value)


def test_certificate_twice() -> None:
    """The same authority twice is a mistake of whoever made the bundle."""
    made = document()
    made["keys"].append(made["keys"][1])
    with pytest.raises(ConfigurationError, match=r"keys\.2: the same certificate twice"):
        read(made)


def test_key_beside_the_certificate() -> None:
    """`x5c` and the key beside it are one key."""
    made = document()
    made["keys"][1]["x"] = made["keys"][0]["x"]
    with pytest.raises(ConfigurationError, match=r"keys\.1: the key of `x5c` is not"):
        read(made)


def test_authority_of_another_domain() -> None:
    """An authority that names another trust domain vouches for nobody here."""
    bundle = TrustBundle.of(
        authorities=[authority(OTHER, "other.example")], trust_domain="other.example"
    )
    with pytest.raises(ConfigurationError, match=r"keys\.0: an authority of another"):
        TrustBundle.from_jwks(bundle.to_jwks(), trust_domain="acme.example")


def test_member_twice_is_named() -> None:
    """Which member it is that two parsers would read differently."""
    text = json.dumps(document()).replace('"kid":', '"kid": "x", "kid":', 1)
    with pytest.raises(ConfigurationError, match="member `kid` is named twice"):
        TrustBundle.from_jwks(text, trust_domain="acme.example")


@pytest.mark.parametrize("hint", [3601, 10**15])
def test_hint_has_a_limit(hint: int) -> None:
    """A bundle cannot ask not to be looked at again."""
    assert read({**document(), "spiffe_refresh_hint": hint}).refresh_hint == LONGEST_HINT


def test_pin_with_a_private_key(authority: Authority, tmp_path: Path) -> None:
    """A key that was put into the file of pinned certificates is not stored."""
    pem = tmp_path / "combined.pem"
    pem.write_bytes(authority.issue_svid("claims-agent").to_pem())
    with pytest.raises(ConfigurationError, match="certificates only, found a private key"):
        authority.federation.trust("other.example", "https://x.example/b", pin=str(pem))


def test_file_that_others_can_write(authority: Authority, tmp_path: Path) -> None:
    """Whoever can write a bundle's file can make themselves trusted."""
    file = tmp_path / "bundle.json"
    file.write_text(TrustBundle.of(KEY, trust_domain="other.example").to_jwks())
    file.chmod(0o666)
    with pytest.raises(ConfigurationError, match="others can write it"):
        authority.federation.trust("other.example", str(file))


@pytest.mark.parametrize("change", ["version", "key kind", "cut", "noise"])
def test_certificates_of_a_workload_api(change: str) -> None:
    """Whatever a peer sends in the place of certificates is a ValueError, and no other."""
    from cryptography.hazmat.primitives.serialization import Encoding

    der = authority().public_bytes(Encoding.DER)
    broken = {
        "version": der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x09", 1),
        "key kind": der.replace(b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01", b"\x06\x07" + b"\x2a" * 7),
        "cut": der[:-1],
        "noise": der + b"\x30",
    }[change]
    assert broken != der
    with pytest.raises(ValueError, match=r"certificate|key"):
        _authority_elements(broken)
