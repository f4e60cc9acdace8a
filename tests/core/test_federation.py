"""Trusting other trust domains: by file, by a pinned address over real TLS, one key set each."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tabard import AuthenticationFailed, Authority, ConfigurationError, Guard, ToolCall

CALL = ToolCall("policy_lookup", {"policy_no": "POL-123456"})
AUDIENCE = "spiffe://acme.example/guard"
THEIRS = "spiffe://other.example/env/prod/team/claims/agent/claims-agent"


@pytest.fixture
def other(tmp_path: Path, clock: Any) -> Iterator[Authority]:
    """Another organisation with an authority of its own."""
    with Authority.open(tmp_path / "other", trust_domain="other.example", clock=clock) as opened:
        opened.register("claims-agent", team="claims", environment="prod")
        yield opened


@pytest.fixture
def published(tmp_path: Path, other: Authority) -> Path:
    return tmp_path / "other" / "bundle.json"


@pytest.fixture
def known(authority: Authority) -> Authority:
    """Our authority, with their agent on the register."""
    authority.register("claims-agent", team="claims", environment="prod", spiffe_id=THEIRS)
    return authority


def token_of(other: Authority, **more: Any) -> str:
    return other.issue("claims-agent", audience=AUDIENCE, **more)


class TestFile:
    def test_their_credentials_count(
        self, known: Authority, other: Authority, guard: Guard, published: Path
    ) -> None:
        """Their tokens, JWT-SVIDs and certificates, once their bundle is trusted, not before."""
        svid = other.issue_svid("claims-agent")
        credentials: list[Any] = [token_of(other), token_of(other, profile="jwt-svid"), svid]
        for credential in credentials:
            with pytest.raises(AuthenticationFailed, match="unknown_key"):
                guard.login(credential)
        known.federation.trust("other.example", str(published), author="ada")
        for credential in credentials:
            session = guard.login(credential)
            assert str(session.agent.spiffe_id) == THEIRS
            guard.admit(CALL, session=session).settle()
        records = [r for r in guard.records() if r["type"] == "bundle.trusted"]
        assert (records[0]["author"], records[0]["bundle"]["origin"]) == ("ada", "file")

    def test_one_domain_cannot_speak_for_another(
        self, known: Authority, other: Authority, guard: Guard, published: Path
    ) -> None:
        """Their key vouches for their names only, whatever a token says."""
        from tabard.identity import SigningKey, SpiffeId, mint_token

        known.federation.trust("other.example", str(published))
        [file] = [f for f in (published.parent / "keys").iterdir() if f.stem in
                  other.issuer.bundle().token_key_ids]  # fmt: skip
        ours = known.find("spiffe://acme.example/env/prod/team/claims/agent/claims-agent")
        for subject in (ours.spiffe_id, SpiffeId.parse("spiffe://third.example/x")):
            forged = mint_token(
                SigningKey.load(file),
                subject=subject,
                audience=AUDIENCE,
                issued_at=1_800_000_000,
                lifetime=60,
            )
            with pytest.raises(AuthenticationFailed, match="unknown_key"):
                guard.login(forged)

    def test_meant_for_us(
        self, known: Authority, other: Authority, guard: Guard, published: Path
    ) -> None:
        """A token they made for their own guards is none for ours."""
        known.federation.trust("other.example", str(published))
        with pytest.raises(AuthenticationFailed, match="wrong_audience"):
            guard.login(other.issue("claims-agent"))

    def test_one_key_set_for_each(
        self, known: Authority, other: Authority, guard: Guard, published: Path
    ) -> None:
        """A second bundle is refused unless it is to replace the first; then the first is gone."""
        known.federation.trust("other.example", str(published))
        session = guard.login(token_of(other, lifetime=3600))
        other.issuer.kill(session.token.kid, reason="stolen")
        with pytest.raises(ConfigurationError, match="is trusted already"):
            known.federation.trust("other.example", str(published))
        guard.admit(CALL, session=session)
        known.federation.trust("other.example", str(published), replace_known=True)
        with pytest.raises(AuthenticationFailed, match="token_revoked"):
            guard.admit(CALL, session=session)
        guard.admit(CALL, session=guard.login(token_of(other)))

    def test_distrust_is_immediate_and_can_be_taken_back(
        self, known: Authority, other: Authority, guard: Guard, published: Path
    ) -> None:
        """Trusted no more, sessions of their agents end; ours do not notice."""
        known.federation.trust("other.example", str(published))
        theirs, ours = guard.login(token_of(other)), guard.login(known.create_key(
            "spiffe://acme.example/env/prod/team/claims/agent/claims-agent"))  # fmt: skip
        child = ours.guard.login(token_of(other))
        known.federation.distrust("other.example", reason="contract ended", author="bob")
        for session in (theirs, child):
            with pytest.raises(AuthenticationFailed, match="token_revoked"):
                guard.admit(CALL, session=session)
        guard.admit(CALL, session=ours)
        believed = known.federation.trust("other.example", str(published))
        assert believed.every_key_id == frozenset()
        for refused in (lambda: guard.admit(CALL, session=theirs),
                        lambda: guard.login(token_of(other))):  # fmt: skip
            with pytest.raises(AuthenticationFailed, match="token_revoked"):
                refused()
        known.federation.trust("other.example", str(published), replace_known=True, go_back=True)
        guard.admit(CALL, session=theirs)
        records = [r["bundle"] for r in guard.records() if r["type"] == "bundle.trusted"]
        assert records[0]["refused"] == []
        every = sorted(other.issuer.bundle().every_key_id)
        assert (records[1]["refused"], records[2]["restored"]) == (every, every)

    def test_a_key_that_left_is_never_believed_again(
        self, known: Authority, other: Authority, guard: Guard, published: Path
    ) -> None:
        """Neither when it comes back, nor after distrust and trust; unless somebody says so."""
        known.federation.trust("other.example", str(published))
        token = token_of(other, lifetime=3600)
        session = guard.login(token)
        whole = json.loads(published.read_text())

        def put(sequence: int, *, without: str = "", **how: Any) -> None:
            keys = [key for key in whole["keys"] if key.get("kid") != without]
            published.write_text(json.dumps({"spiffe_sequence": sequence, "keys": keys}))
            known.federation.trust("other.example", str(published), replace_known=True, **how)

        put(50, without=session.token.kid)
        put(51)
        for attempt in range(2):
            for refused in (lambda: guard.admit(CALL, session=session), lambda: guard.login(token)):
                with pytest.raises(AuthenticationFailed, match="token_revoked"):
                    refused()
            if attempt == 0:
                known.federation.distrust("other.example", reason="compromised")
                put(52)
        put(53, go_back=True)
        guard.admit(CALL, session=session)

    def test_sequence_that_goes_back(
        self, known: Authority, other: Authority, guard: Guard, published: Path
    ) -> None:
        """An older bundle would drop newer keys and let older ones in."""
        before = published.read_bytes()
        other.issuer.rotate()
        known.federation.trust("other.example", str(published))
        published.write_bytes(before)
        trust = known.federation.trust
        with pytest.raises(ConfigurationError, match="gone back from 4 to 2"):
            trust("other.example", str(published), replace_known=True)
        trust("other.example", str(published), replace_known=True, go_back=True)

    @pytest.mark.parametrize(
        ("domain", "content", "message"),
        [
            ("acme.example", '{"keys": []}', "this home's own trust domain"),
            ("Other.example", '{"keys": []}', "expected spiffe://"),
            ("", '{"keys": []}', "expected spiffe://"),
            ("other.example", "", "other.json: trust bundle: not JSON"),
            ("other.example", "{}", "other.json: trust bundle: expected `keys`"),
            ("other.example", '{"keys": [], "keys": []}', "named twice"),
            ("other.example", '{"keys": [{"kty": "EC", "d": "AA"}]}', "keys.0: holds private"),
            ("other.example", '{"keys": [{"kty": "EC", "use": "jwt-svid"}]}', "keys.0: expected a"),
        ],
    )
    def test_what_is_not_trusted(
        self, authority: Authority, tmp_path: Path, domain: str, content: str, message: str
    ) -> None:
        """Each a clear sentence that names the file and the element; nothing is changed."""
        (tmp_path / "other.json").write_text(content)
        with pytest.raises(ConfigurationError) as caught:
            authority.federation.trust(domain, str(tmp_path / "other.json"))
        assert message in str(caught.value)
        assert [d.name for d in authority.federation.domains()] == ["acme.example"]

    def test_misuse(self, authority: Authority, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
            authority.federation.trust("other.example", str(tmp_path / "missing"))
        with pytest.raises(ConfigurationError, match=r"'other\.example' is not trusted"):
            authority.federation.distrust("other.example", reason="x")
        with pytest.raises(ConfigurationError, match="a reason is required"):
            authority.federation.distrust("other.example", reason="")
        with pytest.raises(ConfigurationError, match="this home's own"):
            authority.federation.distrust("acme.example", reason="x")
        authority.register("x", team="t", environment="e", spiffe_id="spiffe://other.example/x")
        with pytest.raises(ConfigurationError, match="another trust domain, whose own issuer"):
            authority.issue("spiffe://other.example/x")
        for text in ("spiffe://acme.example/x", "spiffe://other.example", "x", ""):
            with pytest.raises(ConfigurationError):
                authority.register("y", team="t", environment="e", spiffe_id=text)


def make_certificate(folder: Path) -> Path:
    """A self-signed certificate for 127.0.0.1, and its key beside it."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])  # fmt: skip
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(
            [x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    (folder / "tls.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "tls.key").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return folder / "tls.pem"


class Endpoint:
    """A bundle endpoint over real TLS, whose answer a test can change."""

    def __init__(self, folder: Path) -> None:
        self.pin = str(make_certificate(folder))
        self.status, self.body, self.location, self.asked = 200, b"", "", 0
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                endpoint.asked += 1
                self.send_response(endpoint.status)
                if endpoint.location:
                    self.send_header("Location", endpoint.location)
                self.end_headers()
                self.wfile.write(endpoint.body)

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "tls.pem", folder / "tls.key")
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self._server.server_port}/bundle"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def endpoint(
    tmp_path: Path, published: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Endpoint]:
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    opened = Endpoint(tmp_path)
    opened.body = published.read_bytes()
    yield opened
    opened.close()


class TestAddress:
    def test_followed_as_it_changes(
        self, known: Authority, other: Authority, guard: Guard, endpoint: Endpoint, clock: Any,
        published: Path,
    ) -> None:  # fmt: skip
        """Their keys rotate and die; we look as often as the bundle asks, or when one turns up."""
        known.federation.trust("other.example", endpoint.url, pin=endpoint.pin)
        session = guard.login(token_of(other, lifetime=3600))
        other.issuer.rotate()
        endpoint.body = published.read_bytes()
        clock.now += 10
        assert guard.login(token_of(other)).token.kid != session.token.kid
        guard.admit(CALL, session=session)
        other.issuer.kill(session.token.kid, reason="stolen")
        endpoint.body = published.read_bytes()
        clock.now += 301
        guard.login(token_of(other))
        with pytest.raises(AuthenticationFailed, match="token_revoked"):
            guard.admit(CALL, session=session)

    def test_asked_no_more_often_than_it_says(
        self, known: Authority, other: Authority, guard: Guard, endpoint: Endpoint, clock: Any
    ) -> None:
        """Between two looks there are as many seconds as the bundle asks for."""
        known.federation.trust("other.example", endpoint.url, pin=endpoint.pin)
        for _ in range(30):
            clock.now += 30
            guard.login(token_of(other))
        assert endpoint.asked == 1 + 900 // 300

    def test_away_or_broken(
        self, known: Authority, other: Authority, guard: Guard, endpoint: Endpoint, clock: Any
    ) -> None:
        """While it gives no better answer, the last good bundle counts; never a worse one."""
        known.federation.trust("other.example", endpoint.url, pin=endpoint.pin)
        older = json.loads(endpoint.body)
        older["spiffe_sequence"], older["keys"] = 0, []
        answers = [(500, b""), (200, b"x"), (200, b'{"keys": [{"kty": "EC", "d": "A"}]}'),
                   (200, json.dumps(older).encode()), (200, b"\xff" * 50),
                   (200, b'{"keys": [' + b" " * 2_000_000)]  # fmt: skip
        for status, body in answers:
            endpoint.status, endpoint.body = status, body
            clock.now += 301
            assert guard.login(token_of(other))
        endpoint.close()
        clock.now += 301
        assert guard.login(token_of(other))

    def test_a_key_that_comes_back(
        self, known: Authority, other: Authority, guard: Guard, endpoint: Endpoint, clock: Any
    ) -> None:
        """What was withdrawn stays refused, whatever the address says later."""
        known.federation.trust("other.example", endpoint.url, pin=endpoint.pin)
        session = guard.login(token_of(other, lifetime=3600))
        keys = json.loads(endpoint.body)["keys"]
        for sequence, listed in ((98, []), (99, keys)):
            endpoint.body = json.dumps({"spiffe_sequence": sequence, "keys": listed}).encode()
            clock.now += 301
            with pytest.raises(AuthenticationFailed, match=r"unknown_key|token_revoked"):
                guard.login(token_of(other))
            with pytest.raises(AuthenticationFailed, match="token_revoked"):
                guard.admit(CALL, session=session)

    def test_emptied(
        self, known: Authority, other: Authority, guard: Guard, endpoint: Endpoint, clock: Any
    ) -> None:
        """An empty bundle with a newer sequence means: trust nothing of ours any more."""
        known.federation.trust("other.example", endpoint.url, pin=endpoint.pin)
        session = guard.login(token_of(other, lifetime=3600))
        endpoint.body = b'{"spiffe_sequence": 99, "keys": []}'
        clock.now += 301
        with pytest.raises(AuthenticationFailed, match="unknown_key"):
            guard.login(token_of(other))
        with pytest.raises(AuthenticationFailed, match="token_revoked"):
            guard.admit(CALL, session=session)

    def test_redirects_are_not_followed(self, authority: Authority, endpoint: Endpoint) -> None:
        """The address was pinned; whoever answers there may not send us elsewhere."""
        endpoint.status, endpoint.location = 302, endpoint.url + "2"
        with pytest.raises(ConfigurationError, match="gives no bundle"):
            authority.federation.trust("other.example", endpoint.url, pin=endpoint.pin)
        assert endpoint.asked == 1

    def test_certificate_decides(
        self, authority: Authority, endpoint: Endpoint, tmp_path: Path
    ) -> None:
        """Without the pin, or with another's, nobody is believed."""
        stranger = tmp_path / "stranger"
        stranger.mkdir()
        for pin in (None, str(make_certificate(stranger))):
            with pytest.raises(ConfigurationError, match=r"gives no bundle: .*certificate"):
                authority.federation.trust("other.example", endpoint.url, pin=pin)
        assert endpoint.asked == 0

    @pytest.mark.parametrize(
        "url",
        ["http://127.0.0.1/bundle", "https://", "https://user:secret@127.0.0.1/", "ftp://x/y",
         "https:///x", "file:///etc/passwd", "https://[::1", "unix://relative", "tcp://host:1"],
    )  # fmt: skip
    def test_addresses_that_are_none(self, authority: Authority, url: str) -> None:
        with pytest.raises(ConfigurationError) as caught:
            authority.federation.trust("other.example", url)
        assert "secret" not in str(caught.value)

    def test_pin_without_an_address(self, authority: Authority, published: Path) -> None:
        with pytest.raises(ConfigurationError, match="only an https:// address"):
            authority.federation.trust("other.example", str(published), pin=str(published))
