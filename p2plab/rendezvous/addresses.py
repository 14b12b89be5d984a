"""Which addresses this machine has for others; no packet is sent to find them."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from urllib.parse import urlsplit

import ifaddr

from p2plab.errors import P2PLabError
from p2plab.rendezvous.model import Registration

NOWHERE = "192.0.2.1"  # for documentation (RFC 5737): only a default route leads there
LOCALHOST = "127.0.0.1"


def lan_address(towards: str = "") -> str:
    """Our address on the way to another machine, its name or its IPv4 address.

    By default, or if there is no way to it, the first of `own_addresses`; 127.0.0.1 if
    there is none.
    """
    return (towards and _on_the_way(towards)) or (own_addresses() or [LOCALHOST])[0]


def address_near(url: str, host: str = "0.0.0.0") -> str:
    """Our address for those who find us at the rendezvous with this URL.

    host: where we listen, a number. If it is not everywhere, it is the answer. They are
    most likely in the rendezvous' network; if that runs on this machine, our first
    address is the better guess.
    """
    if host not in ("0.0.0.0", "::"):
        return host
    address = lan_address(urlsplit(url).hostname or "")
    return lan_address() if is_loopback(address) else address


def shut_in(host: str, registration: Registration | None) -> P2PLabError | None:
    """Words for a peer that is registered elsewhere, and listens to this machine alone.

    host: where it listens, a number.
    """
    if registration is None or not is_loopback(host) or is_loopback(registration.seen):
        return None
    return P2PLabError(
        f"{registration.name} is registered, but listens on {host}, where only peers "
        'of this machine reach it. To let others in, start it with host="0.0.0.0" '
        "(in a terminal, --host 0.0.0.0)"
    )


def own_addresses() -> list[str]:
    """IPv4 addresses at which others may reach us, the one of the default route first.

    Self-assigned ones (169.254.x.x) come last. Also without a default route, as on a
    switch that joins a few laptops and nothing else.
    """
    found = dict.fromkeys([_on_the_way(NOWHERE), *_of_interfaces()])
    usable = [each for each in found if each and not is_loopback(each)]
    return sorted(usable, key=lambda each: ip_address(each).is_link_local)


def is_loopback(address: str) -> bool:
    """Whether an IP address leads from a machine to itself."""
    return ip_address(address).is_loopback


def _on_the_way(towards: str) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((towards, 9))
        except OSError:  # no way
            return ""
        return str(probe.getsockname()[0])


def _of_interfaces() -> list[str]:
    ips = [ip for adapter in ifaddr.get_adapters() for ip in adapter.ips]
    return [str(ip.ip) for ip in ips if ip.is_IPv4]
