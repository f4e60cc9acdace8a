"""Who writes: the process instance behind a chain of records."""

from __future__ import annotations

import os
import socket
import time
from functools import cache

from tabard.audit.fields import encode


@cache
def _instance(pid: int) -> str:
    return f"{socket.gethostname()}:{pid}:{time.time_ns() // 1_000_000:x}"


def current_instance() -> str:
    """This process as `host:pid:start`; a fork is another instance.

    The start is when tabard first asked in this process (milliseconds, hex), which keeps apart two
    processes that were given the same pid.
    """
    return _instance(os.getpid())


def opening_fields(parent: str | None) -> str:
    """The members of a `writer.open` record: the instance, and the chain it continues."""
    return f'"writer":{encode({"instance": current_instance(), "parent": parent})}'
