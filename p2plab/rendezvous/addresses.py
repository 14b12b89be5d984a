"""Which addresses this machine has for others; no packet is sent to find them."""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address
from urllib.parse import urlsplit

ALL_HOSTS = "224.0.0.1"  # on every network (RFC 1112, section 4)
NOWHERE = "192.0.2.1"  # for documentation (RFC 5737): only a default route leads there
LOCALHOST = "127.0.0.1"


def lan_address(towards: str = "") -> str:
    """Our address on the way to another machine, its name or its IPv4 address.

    By default, or if there is no way to it, the first of `own_addresses`; 127.0.0.1 if
    there is none.
    """
    return (towards and _on_the_way(towards)) or (own_addresses() or [LOCALHOST])[0]


def address_near(url: str) -> str:
    """Our address for those who find us at the rendezvous with this URL.

    They are most likely in its network; if it runs on this machine, then our first one
    is the better guess.
    """
    address = lan_address(urlsplit(url).hostname or "")
    return lan_address() if address.startswith("127.") else address


def own_addresses() -> list[str]:
    """IPv4 addresses at which others may reach us, the one of the default route first.

    Self-assigned ones (169.254.x.x) come last. Also without a default route, as on a
    switch that joins a few laptops and nothing else.
    """
    found = dict.fromkeys([_on_the_way(NOWHERE), *_of_interfaces(), *_of_our_name()])
    usable = [each for each in found if each and not ip_address(each).is_loopback]
    return sorted(usable, key=lambda each: ip_address(each).is_link_local)


def _on_the_way(towards: str, interface: int = 0) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            if interface:
                probe.setsockopt(
                    socket.IPPROTO_IP, socket.IP_MULTICAST_IF, _chosen(interface)
                )
            probe.connect((towards, 9))
        except OSError:  # no way
            return ""
        return str(probe.getsockname()[0])


def _chosen(interface: int) -> bytes:
    """As IP_MULTICAST_IF wants it: for Windows a number, for others an ip_mreqn."""
    if sys.platform == "win32":
        return struct.pack("!I", interface)
    return struct.pack("=4s4si", b"", b"", interface)


def _of_interfaces() -> Iterator[str]:
    with suppress(OSError):
        for interface, _ in socket.if_nameindex():
            yield _on_the_way(ALL_HOSTS, interface)


def _of_our_name() -> Iterator[str]:
    with suppress(OSError):
        for *_, address in socket.getaddrinfo(
            socket.gethostname(), None, socket.AF_INET, socket.SOCK_DGRAM
        ):
            yield str(address[0])
