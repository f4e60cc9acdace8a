"""A Workload API on a socket, a home that trusts its domain, and an agent it vouches for."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tabard import Authority, Guard
from tabard.testing.workload_api import DOMAIN, SUBJECT, WorkloadApiPeer


@pytest.fixture
def socket() -> Iterator[Path]:
    """A short path: the address of a Unix socket has about a hundred characters."""
    folder = Path(tempfile.mkdtemp(prefix="tabard"))
    yield folder / "api.sock"
    shutil.rmtree(folder)


@pytest.fixture
def peer(socket: Path, clock: Any) -> Iterator[WorkloadApiPeer]:
    server = WorkloadApiPeer(str(socket), clock)
    yield server
    server.stop()


@pytest.fixture
def trusting(authority: Authority, guard: Guard, peer: WorkloadApiPeer) -> Guard:
    """A guard in a home that trusts the peer's trust domain and knows its workload."""
    authority.federation.trust(DOMAIN, peer.endpoint, author="ada")
    authority.register("claims-agent", team="claims", environment="prod", spiffe_id=SUBJECT)
    return guard
