"""A client of the SPIFFE Workload API: SVIDs and bundles as they came, for tabard's own verifiers.

SPIFFE Workload Endpoint and Workload API standards. It speaks through the messages that ship in
the package `spiffe` (extra `tabard[spiffe]`), because a second set of them cannot be loaded into
one process. Its own client is not used: that parses bundles by looser rules than ours, and hands
out only what it made of them.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from tabard.errors import AccessDenied, AuthenticationFailed, ConfigurationError, GuardUnavailable
from tabard.identity.encoding import plain
from tabard.identity.spiffe_id import SpiffeId
from tabard.identity.strict_json import parse_object

TIMEOUT = 5.0
"""Seconds until a call is given up."""

MAX_ADDRESS = 1024
"""Characters of an address; the path of a socket has about a hundred at most."""

_HEADER = (("workload.spiffe.io", "true"),)
_TCP = re.compile(r"tcp://(\[[0-9a-f:.]+\]|[0-9.]+):([1-9][0-9]{0,4})", re.ASCII)
_Result = TypeVar("_Result")


def check_endpoint(text: str) -> str:
    """The address as gRPC takes it.

    Raises:
        ConfigurationError: It is neither `unix:///path` nor `tcp://IP:port` (Workload Endpoint,
            section 4).
    """
    expected = "expected unix:///absolute/path or tcp://IP:port"
    held = plain(text)
    if not isinstance(held, str) or len(held) > MAX_ADDRESS or not _has_utf8_form(held):
        raise ConfigurationError(f"Workload API address: {expected}")
    text = held
    if text.startswith("unix:"):
        path = text.removeprefix("unix://" if text.startswith("unix://") else "unix:")
        if not path.startswith("/") or path.startswith("//") or re.search(r"[?#\x00-\x1f]", path):
            raise ConfigurationError(f"Workload API address {text!r}: {expected}")
        return f"unix:{path}"
    match = _TCP.fullmatch(text)
    try:
        if match is None or int(match[2]) > 65_535:
            raise ValueError(text)
        ipaddress.ip_address(match[1].strip("[]"))
    except ValueError:
        raise ConfigurationError(f"Workload API address {text!r}: {expected}") from None
    return f"{match[1]}:{match[2]}"


def _has_utf8_form(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # a byte of the environment that is none of a text
        return False
    return True


class WorkloadApi:
    """One Workload API; a call is a connection of its own, so nothing is carried across a fork."""

    def __init__(self, endpoint: str, *, timeout: float = TIMEOUT) -> None:
        """Set up a client.

        Args:
            endpoint: `unix:///path` or `tcp://IP:port`, as in `$SPIFFE_ENDPOINT_SOCKET`.
            timeout: Seconds until a call is given up.

        Raises:
            ConfigurationError: It is no such address, or the extra is not installed.
        """
        self.endpoint = endpoint
        self._target = check_endpoint(endpoint)
        self._timeout = timeout
        self._grpc, self._messages, self._stubs = _load()

    def fetch_jwt_svid(self, audience: str, subject: SpiffeId | None = None) -> str:
        """A JWT-SVID for an audience: the default one, or that of a subject.

        Raises:
            AuthenticationFailed: There is no identity for this process (`no_identity`).
            GuardUnavailable: The Workload API is away (`workload_api`).
        """
        request = self._messages.JWTSVIDRequest(audience=[audience])
        if subject is not None:
            request.spiffe_id = str(subject)
        answer = self._ask(lambda stub, **how: stub.FetchJWTSVID(request, **how))
        if not answer.svids:
            raise AuthenticationFailed(
                code="no_identity", reason="the Workload API has no identity for this process"
            )
        return str(answer.svids[0].svid)

    def fetch_x509_svid(self) -> bytes:
        """The default X.509-SVID as PEM: its chain, the leaf first, and its private key.

        Raises:
            AuthenticationFailed: There is no identity (`no_identity`), or it is not one certificate
                chain with its key (`malformed`).
            GuardUnavailable: The Workload API is away (`workload_api`).
        """
        request = self._messages.X509SVIDRequest()
        answer = self._ask(lambda stub, **how: next(stub.FetchX509SVID(request, **how)))
        if not answer.svids:
            raise AuthenticationFailed(
                code="no_identity", reason="the Workload API has no identity for this process"
            )
        svid = answer.svids[0]
        pem = _to_pem(svid.x509_svid, svid.x509_svid_key)
        if pem is None:
            raise AuthenticationFailed(
                code="malformed", reason="the Workload API gave no certificate chain with its key"
            )
        return pem

    def fetch_bundle(self, trust_domain: str) -> str:
        """The trust bundle of a trust domain: its keys for tokens and its certificate authorities.

        Raises:
            ConfigurationError: There is none, or not a readable one.
            AuthenticationFailed: There is no identity for this process (`no_identity`).
            GuardUnavailable: The Workload API is away (`workload_api`).
        """
        name = str(SpiffeId.for_trust_domain(trust_domain))
        tokens = self._ask(
            lambda stub, **how: next(
                stub.FetchJWTBundles(self._messages.JWTBundlesRequest(), **how)
            )
        )
        authorities = self._ask(
            lambda stub, **how: next(
                stub.FetchX509Bundles(self._messages.X509BundlesRequest(), **how)
            )
        )
        if name not in tokens.bundles and name not in authorities.bundles:
            raise ConfigurationError(
                f"{self.endpoint}: the Workload API has no bundle of {trust_domain}"
            )
        try:
            elements = _token_elements(tokens.bundles.get(name, b'{"keys":[]}'))
            elements += _authority_elements(authorities.bundles.get(name, b""))
        except ValueError as error:
            raise ConfigurationError(f"{self.endpoint}: trust bundle: {error}") from None
        return json.dumps({"keys": elements})

    def _ask(self, call: Callable[..., _Result]) -> _Result:
        """Make one call; every way it can fail is one of our errors, and shows nothing of it."""
        with self._channel() as stub:
            problem: AccessDenied | None = None
            try:
                return call(stub, timeout=self._timeout, metadata=_HEADER)
            except (self._grpc.RpcError, StopIteration) as error:
                code = error.code() if isinstance(error, self._grpc.RpcError) else None
                problem = self._explain(code)
        raise problem

    def _explain(self, code: Any) -> AccessDenied:
        name = getattr(code, "name", "no answer")
        if name in ("PERMISSION_DENIED", "INVALID_ARGUMENT"):
            return AuthenticationFailed(
                code="no_identity", reason="the Workload API has no identity for this process"
            )
        return GuardUnavailable(
            code="workload_api",
            reason=f"the Workload API gives no answer: {name.lower().replace('_', ' ')}",
        )

    @contextmanager
    def _channel(self) -> Iterator[Any]:
        # A proxy from the environment has no business between us and this machine's agent.
        options = (("grpc.enable_http_proxy", 0),)
        with self._grpc.insecure_channel(self._target, options=options) as channel:
            yield self._stubs.SpiffeWorkloadAPIStub(channel)

    def __repr__(self) -> str:
        """Names the address."""
        return f"<WorkloadApi {self.endpoint}>"


def _load() -> tuple[Any, Any, Any]:
    # gRPC writes lines of its own to standard error when a socket is away.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        import grpc
        from spiffe._proto import workload_pb2, workload_pb2_grpc
    except ImportError:
        raise ConfigurationError(
            "the SPIFFE Workload API needs an extra: pip install 'tabard[spiffe]'"
        ) from None
    return grpc, workload_pb2, workload_pb2_grpc


def _token_elements(document: bytes) -> list[Any]:
    """The keys of a standard JWK Set (Workload API, section 6.2.2): all of them are for tokens.

    Issuers leave out `use` here, as the set is for nothing else.
    """
    keys = parse_object(document).get("keys")
    if not isinstance(keys, list):
        raise ValueError("expected `keys`, a list")
    return [{"use": "jwt-svid", **key} if isinstance(key, dict) else key for key in keys]


def _authority_elements(der: bytes) -> list[dict[str, Any]]:
    import base64

    from cryptography.hazmat.primitives.asymmetric import rsa

    elements = []
    for certificate, encoded in _certificates(der):
        kind = "RSA" if isinstance(_public_key(certificate), rsa.RSAPublicKey) else "EC"
        chain = [base64.b64encode(encoded).decode("ascii")]
        elements.append({"use": "x509-svid", "kty": kind, "x5c": chain})
    return elements


def _certificates(der: bytes) -> Iterator[tuple[Any, bytes]]:
    """The certificates that stand one behind the other.

    Raises:
        ValueError: Something else is among them.
    """
    from cryptography import x509

    while der:
        length = _length(der)
        try:
            certificate = x509.load_der_x509_certificate(der[:length])
        except x509.InvalidVersion:
            raise ValueError("a certificate of no version there is") from None
        yield certificate, der[:length]
        der = der[length:]


def _public_key(certificate: Any) -> object:
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        return certificate.public_key()
    except UnsupportedAlgorithm:
        raise ValueError("a certificate with a key of an unknown kind") from None


def _length(der: bytes) -> int:
    """How long the first DER sequence is, its header included."""
    if len(der) < 4 or der[0] != 0x30 or der[1] not in (0x81, 0x82):
        raise ValueError("not a certificate")
    size = der[1] - 0x80
    length = 2 + size + int.from_bytes(der[2 : 2 + size], "big")
    if length > len(der):
        raise ValueError("not a whole certificate")
    return length


def _to_pem(chain: bytes, key: bytes) -> bytes | None:
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        load_der_private_key,
    )

    try:
        certificates = [one.public_bytes(Encoding.PEM) for one, _ in _certificates(chain)]
        # Not checked for consistency, which can take minutes: `X509Svid` looks at its numbers.
        private = load_der_private_key(
            key, password=None, unsafe_skip_rsa_key_validation=True
        ).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    except Exception:
        return None  # whatever the parser made of it, it holds a key and is not passed on
    return b"".join(certificates) + private
