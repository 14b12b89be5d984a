"""UDP sockets and addresses, with errors that say what to do."""

from __future__ import annotations

import contextlib
import errno
import socket
from typing import Final

from p2plab.errors import PeerUnreachable, PortInUse

Address = tuple[str, int]

RECEIVE_BUFFER: Final = 4_000_000  # bytes asked for; the system may give less
LARGEST: Final = 65_535  # bytes of a datagram


def bound(host: str, port: int, buffer: int = RECEIVE_BUFFER) -> socket.socket:
    """Return a UDP socket that never blocks.

    host, port: port 0 lets the system choose; "::" hears IPv4, too.
    buffer: for what comes while nobody reads [bytes].
    Raises PortInUse, and ValueError for a host or port that cannot be ours.
    """
    if not 0 <= port < 65_536:
        raise ValueError(f"port must be in [0, 65535], got {port}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as undo:
        try:
            each = undo.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            if host == "::":
                each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            each.bind((host, port))
        except OSError as why:
            if why.errno in (errno.EADDRINUSE, errno.EACCES):
                raise PortInUse(
                    f"UDP port {port} of {host} cannot be had ({why.strerror}). With "
                    f"port 0 the system chooses a free one."
                ) from why
            raise ValueError(
                f"host must be an address of this computer, got {host!r} ({why})"
            ) from why
        undo.pop_all()
    each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    each.setblocking(False)
    return each


def resolved(address: Address, family: int) -> Address:
    """Return the address as the system writes it; raises PeerUnreachable for none."""
    host, port = address
    if not 0 < port < 65_536:
        raise PeerUnreachable(f"a port is in 1..65535, got {port}")
    if family == socket.AF_INET6 and host.replace(".", "").isdecimal():
        host = f"::ffff:{host}"  # IPv4, from a socket that speaks both
    with contextlib.suppress(OSError):  # a name
        number = socket.inet_pton(family, host)
        return socket.inet_ntop(family, number), port  # to ask takes a millisecond
    try:
        found = socket.getaddrinfo(host, port, family, socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as why:
        raise PeerUnreachable(f"there is no address {host}:{port}: {why}") from why
    return str(found[0][4][0]), port
