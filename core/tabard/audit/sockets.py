"""Sends lines over TCP and UDP, and finds out as far as one can whether they were taken."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
import termios
import time
from collections.abc import Sequence

Address = tuple[str, int]

_LOOK = 0.01
"""Seconds between two looks at what is still on its way."""


def send_stream(address: Address, lines: Sequence[bytes], within: float) -> None:
    """Send lines over one TCP connection, and wait until the other side has read to the end.

    A line protocol has no answer. What tells is that the other side closes after our end, and that
    its machine has acknowledged every byte.

    Raises:
        OSError: It was not all taken in time.
    """
    until = time.monotonic() + within
    with socket.create_connection(address, timeout=within) as connection:
        connection.sendall(b"".join(lines))
        connection.shutdown(socket.SHUT_WR)
        while (left := until - time.monotonic()) > 0:
            connection.settimeout(left)
            if not connection.recv(4096):
                break
        else:
            raise TimeoutError(errno.ETIMEDOUT, "it does not end")
        _wait_for_acknowledgement(connection, until)


def _wait_for_acknowledgement(connection: socket.socket, until: float) -> None:
    """A side that closes without reading resets the connection; that may come after its end."""
    while True:
        if code := connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(code, os.strerror(code))
        try:
            waiting = fcntl.ioctl(connection, termios.TIOCOUTQ, struct.pack("i", 0))
        except OSError:  # not Linux
            return
        if struct.unpack("i", waiting)[0] == 0:
            return
        if time.monotonic() > until:
            raise TimeoutError(errno.ETIMEDOUT, "not all of it was acknowledged")
        time.sleep(_LOOK)


def send_datagrams(address: Address, lines: Sequence[bytes], within: float) -> None:
    """Send each line as a datagram.

    Raises:
        OSError: The machine could not be found, or says that nobody listens.
    """
    kind = socket.SOCK_DGRAM
    family, _, _, _, found = socket.getaddrinfo(*address, type=kind)[0]
    with socket.socket(family, kind) as connection:
        connection.settimeout(within)
        connection.connect(found)
        for line in lines:
            connection.send(line.rstrip(b"\n"))
        # That nobody listens comes back as an error of the next use.
        time.sleep(_LOOK)
        if code := connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(code, os.strerror(code))
