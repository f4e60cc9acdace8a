"""The credential a process was started with: `$TABARD_CREDENTIAL`, else `$SPIFFE_ENDPOINT_SOCKET`.

The first is a token, an API key, a join token, or the path of a file with one of them in it, which
may also be an X.509-SVID with its key.
"""

from __future__ import annotations

import os

from tabard.clock import Clock
from tabard.credentials import PEM_PREFIX
from tabard.errors import AuthenticationFailed, ConfigurationError
from tabard.identity.credential_file import CredentialFile
from tabard.session import CredentialSource


def credential_from_environment(audience: str, clock: Clock) -> str | CredentialSource | None:
    """The credential of this process, or a source of it; None when there is none.

    Args:
        audience: What a JWT-SVID from the Workload API has to be meant for.
        clock: Returns POSIX seconds.

    Raises:
        AuthenticationFailed: The address of the Workload API is none, or cannot be used here.
    """
    given = os.environ.get("TABARD_CREDENTIAL")
    if given:
        given = given.strip()
        # No token and no key has a slash in it, and no path begins like a PEM text.
        is_path = "/" in given or os.path.exists(given)
        return CredentialFile(given) if is_path and not given.startswith(PEM_PREFIX) else given
    endpoint = os.environ.get("SPIFFE_ENDPOINT_SOCKET")
    if not endpoint:
        return None
    from tabard.identity.workload_source import workload_source

    try:
        return workload_source(endpoint, audience=audience, clock=clock)
    except ConfigurationError as error:
        problem = str(error)
    raise AuthenticationFailed(code="no_identity", reason=problem)
