"""A credential that comes from the SPIFFE Workload API and renews itself there."""

from __future__ import annotations

from typing import Literal

from tabard.clock import Clock, system_clock
from tabard.identity.source import RenewingSource
from tabard.identity.spiffe_id import SpiffeId
from tabard.identity.workload_api import TIMEOUT, WorkloadApi
from tabard.identity.x509_svid import X509Svid


def workload_source(
    endpoint: str,
    *,
    audience: str,
    profile: Literal["jwt-svid", "x509-svid"] = "jwt-svid",
    subject: SpiffeId | None = None,
    timeout: float = TIMEOUT,
    clock: Clock = system_clock,
) -> RenewingSource:
    """A source of SVIDs; nothing is fetched before the first use.

    That the Workload API has taken an identity away is noticed at the next renewal, half a life
    later at most.

    Args:
        endpoint: `unix:///path` or `tcp://IP:port`, as in `$SPIFFE_ENDPOINT_SOCKET`.
        audience: What a JWT-SVID has to be meant for.
        profile: Which kind of SVID.
        subject: Whose JWT-SVID, where this process has several identities; default the first.
        timeout: Seconds until a fetch is given up.
        clock: Returns POSIX seconds.

    Raises:
        ConfigurationError: It is no such address, or the extra is not installed.
    """
    api = WorkloadApi(endpoint, timeout=timeout)
    if profile == "x509-svid":
        return RenewingSource(lambda: X509Svid.from_pem(api.fetch_x509_svid()), clock=clock)
    return RenewingSource(lambda: api.fetch_jwt_svid(audience, subject), clock=clock)
