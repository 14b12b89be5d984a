"""A listening socket, or an error that says which port is taken and what to do."""

from __future__ import annotations

import errno
import os
import socket
from typing import Final

from p2plab.errors import PortInUse, RendezvousError

BACKLOG: Final = 4096  # a school that connects at once; the system may allow fewer


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; a busy port is found here, not in a thread."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Only where the protocol is named does asyncio switch Nagle's algorithm off, which
    # would hold every answer back for the 40 ms of a delayed ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # on Windows, two servers would share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
        return listener
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(
                f"port {port} on {host} is used by another program: stop that program, "
                "or take another port (0 lets the system choose a free one)"
            ) from None
        raise RendezvousError(
            f"cannot listen on {host}, port {port} ({error.strerror}): host must be an "
            "address of this machine, such as 127.0.0.1, or 0.0.0.0 for all of them, "
            "and ports below 1024 may need rights that you do not have"
        ) from None


def url_of(host: str, port: int) -> str:
    """`http://host:port`, with brackets around IPv6."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
