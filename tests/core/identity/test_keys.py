"""Keys on disk: refused unless they are exactly what they should be; never shown."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tabard import ConfigurationError
from tabard.identity import SigningKey

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
SECRET = int.from_bytes(hashlib.sha256(b"signing key").digest()) % (ORDER - 1) + 1
PRIVATE = ec.derive_private_key(SECRET, ec.SECP256R1())
FOREIGN = ec.derive_private_key(SECRET - 1, ec.SECP256R1())
DER = PRIVATE.private_bytes(
    serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)
KEY = SigningKey(PRIVATE)
OTHER = SigningKey(FOREIGN)


def pem(key: Any, password: bytes | None = None) -> bytes:
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        encryption = serialization.BestAvailableEncryption(password)
    data: bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )
    return data


def armour(der: bytes, label: str = "PRIVATE KEY") -> bytes:
    """DER as PEM, whatever is in it."""
    text = base64.encodebytes(der).decode()
    return f"-----BEGIN {label}-----\n{text}-----END {label}-----\n".encode()


def point(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )


def with_scalar(scalar: int) -> bytes:
    """The key's file with another private scalar in it."""
    return armour(_replaced(DER, SECRET.to_bytes(32), scalar.to_bytes(32)))


def with_point(new: bytes) -> bytes:
    """The key's file with another public point in it."""
    return armour(_replaced(DER, point(PRIVATE), new))


def _replaced(data: bytes, old: bytes, new: bytes) -> bytes:
    assert data.count(old) == 1
    assert old != new
    return data.replace(old, new)


def spellings() -> list[str | bytes]:
    """How the secret number would look if it came out somewhere."""
    data = SECRET.to_bytes(32)
    found: list[str | bytes] = [str(SECRET), hex(SECRET)[2:], repr(data)[2:-1], data]
    # In base64 it looks different at each of the three places it may begin.
    for shift in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            found.append(encode(bytes(shift) + data).decode()[4:-4])
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a key may lie: a folder of mode 0700."""
    folder = tmp_path / "keys"
    folder.mkdir(mode=0o700)
    return folder / "issuer.pem"


class TestSigningKey:
    def test_saved_and_loaded(self, path: Path) -> None:
        """A saved key comes back as the same key, readable by its owner only."""
        KEY.save(path)
        assert SigningKey.load(path).kid == KEY.kid
        assert oct(path.stat().st_mode)[-3:] == "600"
        assert [p.name for p in path.parent.iterdir()] == ["issuer.pem"]

    def test_never_overwritten(self, path: Path) -> None:
        """Saving over a key is refused; the old one stays, and no draft is left."""
        KEY.save(path)
        with pytest.raises(ConfigurationError, match="cannot write the key"):
            OTHER.save(path)
        assert SigningKey.load(path).kid == KEY.kid
        assert [p.name for p in path.parent.iterdir()] == ["issuer.pem"]

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"hello",
            b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            pem(ec.generate_private_key(ec.SECP384R1())),
            pem(ec.generate_private_key(ec.SECP256K1())),
            pem(ed25519.Ed25519PrivateKey.generate()),
            pem(rsa.generate_private_key(65537, 2048)),
            pem(ec.generate_private_key(ec.SECP256R1()), b"secret"),
            pem(ec.generate_private_key(ec.SECP256R1()))[:-60],
            b"\xff" * 300,
        ],
        ids=["empty", "text", "damaged", "P-384", "secp256k1", "Ed25519", "RSA", "encrypted",
             "cut", "binary"],
    )  # fmt: skip
    def test_what_is_no_p256_key(self, path: Path, content: bytes) -> None:
        """Anything but an unencrypted P-256 key is refused in one sentence that names the file."""
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(ConfigurationError, match="expected a P-256 private key") as caught:
            SigningKey.load(path)
        assert str(path) in str(caught.value)

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610, 0o777])
    def test_readable_by_others(self, path: Path, mode: int) -> None:
        """A file that others can get at is refused; found and expected modes are named."""
        KEY.save(path)
        path.chmod(mode)
        with pytest.raises(ConfigurationError, match=f"mode {mode:04o}, expected 0600"):
            SigningKey.load(path)

    @pytest.mark.parametrize("mode", [0o750, 0o705, 0o777])
    def test_folder_open_to_others(self, path: Path, mode: int) -> None:
        """A folder that others can get into is refused."""
        KEY.save(path)
        path.parent.chmod(mode)
        with pytest.raises(ConfigurationError, match="expected 0700"):
            SigningKey.load(path)

    def test_belongs_to_another_user(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A key that belongs to somebody else is refused."""
        KEY.save(path)
        if os.geteuid() == 0:
            os.chown(path, 12345, 12345)
        else:  # nobody but root can give a file away, so we become somebody else
            monkeypatch.setattr(os, "geteuid", lambda: 12345)
        with pytest.raises(ConfigurationError, match="belongs to another user"):
            SigningKey.load(path)

    def test_missing_or_a_folder(self, path: Path) -> None:
        """No file, or a folder in its place, is refused."""
        with pytest.raises(ConfigurationError, match="no readable key"):
            SigningKey.load(path)
        path.mkdir(mode=0o700)
        with pytest.raises(ConfigurationError, match="expected a key file"):
            SigningKey.load(path)

    @pytest.mark.parametrize(
        "content",
        [
            *(with_scalar(n) for n in (0, ORDER, ORDER + 1, 2**256 - 1, SECRET ^ 1)),
            with_point(point(FOREIGN)),
            with_point(point(PRIVATE)[:-1] + bytes([point(PRIVATE)[-1] ^ 1])),
            with_point(b"\x04" + bytes(64)),
            DER,
            armour(DER + b"\x00"),
            armour(DER[:-1]),
            armour(DER, "EC PRIVATE KEY"),
            armour(DER, "CERTIFICATE"),
            armour(DER).decode().encode("utf-16"),
            PRIVATE.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            ),
            *(
                PRIVATE.private_bytes(
                    serialization.Encoding.PEM, form, serialization.BestAvailableEncryption(b"x")
                )
                for form in (
                    serialization.PrivateFormat.PKCS8,
                    serialization.PrivateFormat.TraditionalOpenSSL,
                )
            ),
            json.dumps(KEY.jwk).encode(),
        ],
        ids=["scalar 0", "scalar n", "scalar n+1", "scalar 2^256-1", "scalar of another point",
             "foreign point", "point off the curve", "point of zeros", "DER", "DER with a tail",
             "DER cut", "SEC1 label", "certificate label", "UTF-16", "public key",
             "encrypted PKCS#8", "encrypted SEC1", "JWK"],
    )  # fmt: skip
    def test_key_made_to_be_misread(self, path: Path, content: bytes) -> None:
        """A key whose inside does not fit is refused, and what is in it is not in the refusal."""
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(ConfigurationError, match="expected a P-256 private key") as caught:
            SigningKey.load(path)
        seen: BaseException | None = caught.value
        while seen is not None:
            assert not any(str(s) in f"{seen!r} {vars(seen)}" for s in spellings())
            seen = seen.__context__

    def test_what_a_damaged_key_is_made_from(self, path: Path) -> None:
        """Put together again undamaged, the same file is the same key: the damage is refused."""
        path.write_bytes(armour(DER))
        path.chmod(0o600)
        assert SigningKey.load(path).kid == KEY.kid

    @pytest.mark.parametrize("turn", [repr, str, ascii, format, lambda key: f"{[key]} {key!s}"])
    def test_never_printed(self, turn: Any) -> None:
        """However it is turned into text, the key is named and not shown."""
        shown = turn(KEY)
        assert KEY.kid in shown
        assert not any(str(s) in shown for s in spellings())

    @pytest.mark.parametrize(
        "turn",
        [
            *(lambda key, p=p: pickle.dumps(key, p) for p in range(pickle.HIGHEST_PROTOCOL + 1)),
            lambda key: pickle.dumps({"deep": [key]}),
            copy.copy,
            copy.deepcopy,
            json.dumps,
            vars,
            bytes,
        ],
    )
    def test_never_copied_out(self, turn: Any) -> None:
        """It cannot be pickled, copied or dumped."""
        with pytest.raises(TypeError) as caught:
            turn(KEY)
        assert not any(str(s) in str(caught.value) for s in spellings())

    def test_only_the_public_half_is_published(self, path: Path) -> None:
        """The JWK has no private member, and the secret is in the file and nowhere else."""
        assert KEY.jwk.keys() == {"crv", "kty", "x", "y", "kid"}
        assert not any(str(s) in json.dumps(KEY.jwk) for s in spellings())
        KEY.save(path)
        text = path.read_text().replace("\n", "")
        assert any(str(s) in text for s in spellings())

    def test_signatures_are_raw(self) -> None:
        """A signature is 64 bytes, and does not repeat: its nonce is not."""
        signatures = {KEY.sign(b"the same message") for _ in range(20)}
        assert {len(s) for s in signatures} == {64}
        assert len({s[:32] for s in signatures}) == 20

    def test_thumbprint(self) -> None:
        """The kid is the RFC 7638 thumbprint of the public key."""
        members = {name: KEY.jwk[name] for name in ("crv", "kty", "x", "y")}
        text = json.dumps(members, sort_keys=True, separators=(",", ":")).encode()
        digest = base64.urlsafe_b64encode(hashlib.sha256(text).digest()).rstrip(b"=")
        assert KEY.kid == digest.decode()
