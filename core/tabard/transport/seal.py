"""The seal: which request may leave, under which admission, and the clients that keep to it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NoReturn

from tabard.actions import ModelCall
from tabard.current import refuse
from tabard.errors import AccessDenied, ConfigurationError, GuardUnavailable
from tabard.session import Session, current_session
from tabard.transport.address import Address, Target
from tabard.transport.body import check_parts, most_written, read_body, read_model, refusal
from tabard.transport.dialect import DIALECTS
from tabard.transport.key import ProviderKey
from tabard.transport.matching import fitting
from tabard.transport.wire import Wire
from tabard.underway import Underway

if TYPE_CHECKING:
    import httpx

PLACEHOLDER = "sealed"
"""What to give an SDK that insists on a key; it never reaches the provider."""

_NAME = re.compile(r"[!-~]{1,200}")
_PASSED_ON = re.compile(
    r"accept|accept-encoding|user-agent|idempotency-key|x-client-request-id"
    r"|x-stainless-[a-z-]+|anthropic-(version|beta)|openai-beta|traceparent|tracestate"
)


class Seal:
    """Keeps one provider's key, and lets a request have it that was admitted in this context.

    Attributes:
        key: What requests are paid with; for the transports, which look for it in errors.
        provider: The first part of its models' names in the policy.
    """

    __slots__ = ("_address", "_dialect", "key", "provider")

    def __init__(
        self,
        api: str,
        key: ProviderKey,
        *,
        base_url: str | None = None,
        provider: str | None = None,
    ) -> None:
        """Seal a provider's API.

        Args:
            api: How it is spoken to: `openai`, `azure`, `anthropic` or `gemini`.
            key: What it is paid with.
            base_url: Where it is, as it is given to the SDK; https, or http on this machine.
            provider: What its models' names begin with in the policy; default the API's usual.

        Raises:
            ConfigurationError: There is no such API, or it is not at a usable address.
        """
        if api not in DIALECTS:
            raise ConfigurationError(f"Seal: expected one of {', '.join(DIALECTS)}, found {api!r}")
        if not isinstance(key, ProviderKey):
            raise ConfigurationError(f"Seal: expected a ProviderKey, found {type(key).__name__}")
        self._dialect = DIALECTS[api]
        self._address = Address.read(base_url or self._dialect.base_url)
        self.key = key
        self.provider = provider or self._dialect.provider

    def client(self, http: Any = None) -> httpx.Client:
        """A client for synchronous calls; `async_client` is the other half.

        Args:
            http: The HTTP library the SDK uses, `httpx` or `httpx2`; default `httpx`.

        Raises:
            ConfigurationError: It is not installed, or is none.
        """
        from tabard.transport.sealed import SealedTransport, library  # not before it is needed

        http = library(http)
        made: httpx.Client = http.Client(
            transport=SealedTransport(self, http), trust_env=False, follow_redirects=False
        )
        return made

    def async_client(self, http: Any = None) -> httpx.AsyncClient:
        """A client for asynchronous calls; `client` is the other half.

        Args:
            http: The HTTP library the SDK uses, `httpx` or `httpx2`; default `httpx`.

        Raises:
            ConfigurationError: It is not installed, or is none.
        """
        from tabard.transport.sealed import SealedAsyncTransport, library

        http = library(http)
        made: httpx.AsyncClient = http.AsyncClient(
            transport=SealedAsyncTransport(self, http), trust_env=False, follow_redirects=False
        )
        return made

    def prepare(
        self, http: Any, request: Any, content: bytes, *, is_async: bool
    ) -> tuple[Any, Wire]:
        """The request to send in place of a caller's, and what gives it the key on the wire.

        Args:
            http: The HTTP library to make it with.
            request: The caller's.
            content: Its body.
            is_async: Whether an asynchronous transport sends it.

        Raises:
            AccessDenied: It may not leave; on record.
        """
        call, session = ModelCall("unknown", provider=self.provider), current_session()
        try:
            target = self._address.find(request, self._dialect)
            headers = _headers(request)
            body = read_body(content)
            call = self._read_call(target, body)
            check_parts(body, target.kind)
            calls = fitting(call)
            session = calls[0].permit.session
            session.guard.check_alive(session)
            wire = self._take(calls, call)
        except AccessDenied as denied:
            self.refuse(denied, call, session)
        except Exception as error:
            reason = f"tabard could not judge the request: {type(error).__name__}"
            self.refuse(GuardUnavailable(code="internal", reason=reason), call, session)
        extensions = {"trace": wire.atrace if is_async else wire.trace}
        if "timeout" in request.extensions:
            extensions["timeout"] = request.extensions["timeout"]
        sent = http.Request(
            "POST", target.url, headers=headers, content=content, extensions=extensions
        )
        return sent, wire

    def refuse(
        self,
        denied: AccessDenied,
        call: ModelCall | None = None,
        session: Session | None = None,
    ) -> NoReturn:
        """Put a refusal on record, and raise it.

        Raises:
            AccessDenied: Always.
        """
        call = call or ModelCall("unknown", provider=self.provider)
        raise refuse(call, denied, session=session or current_session()) from None

    def _read_call(self, target: Target, body: dict[str, Any]) -> ModelCall:
        """What the request asks for.

        Raises:
            NotPermitted: It cannot be told for certain (`model`, `request`).
        """
        model = read_model(body, target.model)
        if not _NAME.fullmatch(model):
            raise refusal("model", "the model's name is none")
        most = 0 if target.kind == "embedding" else most_written(body)
        return ModelCall(model, provider=self.provider, max_output_tokens=most)

    def _take(self, calls: list[Underway], call: ModelCall) -> Wire:
        """Use up the latest of these admissions that is still good.

        Raises:
            NotPermitted: None is (`permit_spent`).
        """
        session = calls[0].permit.session

        def record(denied: AccessDenied) -> AccessDenied:
            return refuse(call, denied, session=session)

        for one in calls:
            wire = Wire(one, self._dialect, self.key, record)
            if one.permit.session is session and one.take(wire):
                return wire
        reason = "what was admitted here has had its answer; every call is admitted for itself"
        raise refusal("permit_spent", reason)

    def __repr__(self) -> str:
        """Names the provider."""
        return f"<Seal of {self.provider}>"

    def __deepcopy__(self, memo: object) -> Seal:
        """Itself, so that a model that holds one can be copied."""
        return self

    def __reduce__(self) -> Any:
        """It stays in its process."""
        raise TypeError("a seal cannot be pickled; make it again where it is needed")


def _headers(request: Any) -> list[tuple[str, str]]:
    """The headers a provider needs; those of the key, the host and the length are made here.

    Raises:
        NotPermitted: The body is compressed, so that it was not read as it is (`request`).
    """
    if request.headers.get("content-encoding", "identity") != "identity":
        raise refusal("request", "the body is compressed, and cannot be judged")
    found = ((name.lower(), value) for name, value in request.headers.multi_items())
    kept = [(name, value) for name, value in found if _PASSED_ON.fullmatch(name)]
    return [*kept, ("content-type", "application/json")]
