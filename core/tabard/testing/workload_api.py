"""A SPIFFE Workload API for tests: a real gRPC server on a Unix socket, with an issuer of its own.

Built on the servicer that ships in the package `spiffe`. It says what an agent of the node would,
the way real issuers write it, and lets a test rotate, withdraw and break it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from spiffe._proto import workload_pb2, workload_pb2_grpc

from tabard.identity import SigningKey, SpiffeId
from tabard.identity.encoding import base64url
from tabard.identity.x509_svid import X509Svid, create_authority_certificate, issue_x509_svid

DOMAIN = "prod.acme.example"
SUBJECT = f"spiffe://{DOMAIN}/ns/claims/sa/claims-agent"


def mint(key: SigningKey, *, audience: str, now: float, lifetime: int = 300, **more: Any) -> str:
    """A JWT-SVID as other issuers write them: `aud` as a list, no `jti`, no `txn`, no `iss`."""
    header = {"alg": "ES256", "kid": key.kid, "typ": "JWT"}
    claims = {"sub": SUBJECT, "aud": [audience], "exp": int(now) + lifetime, "iat": int(now)}
    parts = (json.dumps(part).encode() for part in (header, claims | more))
    message = ".".join(base64url(part) for part in parts)
    return f"{message}.{base64url(key.sign(message.encode()))}"


@dataclass
class State:
    """What the issuer would say now."""

    clock: Any
    keys: list[SigningKey] = field(default_factory=lambda: [SigningKey.generate()])
    has_identity: bool = True
    lifetime: int = 300
    jwks: bytes | None = None
    svid: Any = None
    calls: list[str] = field(default_factory=list)


class _Servicer(workload_pb2_grpc.SpiffeWorkloadAPIServicer):
    """Answers from a state; every stream sends the whole state again on each change."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.version = 0
        self.changed = threading.Condition()
        self.closed = False
        now = int(state.clock())
        self.authority_key = SigningKey.generate()
        self.authority = create_authority_certificate(
            self.authority_key, trust_domain=DOMAIN, not_before=now - 60, lifetime=7 * 86_400
        )

    def push(self, **changes: Any) -> None:
        """Change the state and tell everybody who listens."""
        with self.changed:
            for name, value in changes.items():
                setattr(self.state, name, value)
            self.version += 1
            self.changed.notify_all()

    def close(self) -> None:
        """End every stream."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()

    def _check(self, context: Any) -> None:
        metadata = dict(context.invocation_metadata())
        if metadata.get("workload.spiffe.io") != "true":
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "security header missing")
        if not self.state.has_identity:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "no identity issued")

    def _stream(self, context: Any, make: Any) -> Iterator[Any]:
        sent = -1
        while context.is_active() and not self.closed:
            with self.changed:
                if self.version == sent and not self.closed:
                    self.changed.wait(timeout=0.5)
                sent, is_new = self.version, self.version != sent
            if is_new:
                self._check(context)
                yield make()

    def FetchJWTSVID(self, request: Any, context: Any) -> Any:
        """A JWT-SVID for the first audience that is asked for."""
        self.state.calls.append("FetchJWTSVID")
        self._check(context)
        if not request.audience:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "audience must be specified")
        if self.state.svid is not None:
            token = self.state.svid
        else:
            token = mint(
                self.state.keys[-1],
                audience=request.audience[0],
                now=self.state.clock(),
                lifetime=self.state.lifetime,
            )
        svid = workload_pb2.JWTSVID(spiffe_id=SUBJECT, svid=token)
        return workload_pb2.JWTSVIDResponse(svids=[svid] if token else [])

    def FetchJWTBundles(self, request: Any, context: Any) -> Iterator[Any]:
        """The keys for tokens."""
        self.state.calls.append("FetchJWTBundles")

        def make() -> Any:
            # A standard JWK Set: issuers leave `use` out here.
            document = json.dumps({"keys": [key.jwk for key in self.state.keys]}).encode()
            bundles = {f"spiffe://{DOMAIN}": self.state.jwks or document}
            return workload_pb2.JWTBundlesResponse(bundles=bundles)

        yield from self._stream(context, make)

    def FetchX509Bundles(self, request: Any, context: Any) -> Iterator[Any]:
        """The certificate authorities."""
        self.state.calls.append("FetchX509Bundles")

        def make() -> Any:
            der = self.authority.public_bytes(Encoding.DER)
            return workload_pb2.X509BundlesResponse(bundles={f"spiffe://{DOMAIN}": der})

        yield from self._stream(context, make)

    def FetchX509SVID(self, request: Any, context: Any) -> Iterator[Any]:
        """A certificate and its key."""
        self.state.calls.append("FetchX509SVID")

        def make() -> Any:
            svid = issue_x509_svid(
                self.authority_key,
                self.authority,
                subject=SpiffeId.parse(SUBJECT),
                issued_at=self.state.clock(),
                lifetime=3600,
            )
            message = workload_pb2.X509SVID(
                spiffe_id=SUBJECT,
                x509_svid=svid.chain[0].public_bytes(Encoding.DER),
                x509_svid_key=_der_key(svid),
                bundle=self.authority.public_bytes(Encoding.DER),
            )
            return workload_pb2.X509SVIDResponse(svids=[message])

        yield from self._stream(context, make)


def _der_key(svid: X509Svid) -> bytes:
    key = load_pem_private_key(svid.to_pem()[svid.to_pem().index(b"-----BEGIN PRIVATE") :], None)
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


class WorkloadApiPeer:
    """The server, its address, and what it would say."""

    def __init__(self, socket: str, clock: Any) -> None:
        self.endpoint = f"unix://{socket}"
        self.state = State(clock=clock)
        self.servicer = _Servicer(self.state)
        self._socket = socket
        self.start()

    def start(self) -> None:
        """Listen on the socket."""
        self._server = grpc.server(ThreadPoolExecutor(8))
        add: Any = workload_pb2_grpc.add_SpiffeWorkloadAPIServicer_to_server
        add(self.servicer, self._server)
        self._server.add_insecure_port(f"unix:{self._socket}")
        self._server.start()

    def stop(self) -> None:
        """Hang up on everybody."""
        self.servicer.close()
        self._server.stop(0).wait()
        self.servicer.closed = False

    def push(self, **changes: Any) -> None:
        """Change what it says, and tell everybody who listens."""
        self.servicer.push(**changes)
