"""Which addresses this machine has for others; no packet is sent to find them."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from urllib.parse import urlsplit

import ifaddr

from p2plab.errors import P2PLabError
from p2plab.rendezvous.model import Registration

# For documentation (RFC 5737, RFC 3849): only a default route leads there.
NOWHERE = {4: "192.0.2.1", 6: "2001:db8::1"}
LOCALHOST = {4: "127.0.0.1", 6: "::1"}
EVERYWHERE = {
    "": 4,
    "0.0.0.0": 4,
    "::": 6,
}  # hosts that mean all addresses of a version


def everywhere(host: str) -> str:
    """The host itself; but "::" for "0.0.0.0" where the network has IPv6 alone."""
    alone = EVERYWHERE.get(host) == 4 and not own_addresses(4) and own_addresses(6)
    return "::" if alone else host


def lan_address(towards: str = "", version: int = 4) -> str:
    """Our address on the way to another machine, its name or its address.

    version: of IP, 4 or 6. By default, or if there is no way to it, the first of
    `own_addresses`; 127.0.0.1 or ::1 if there is none.
    """
    found = towards and _on_the_way(towards, version)
    return found or (own_addresses(version) or [LOCALHOST[version]])[0]


def address_near(url: str, host: str = "0.0.0.0") -> str:
    """Our address for those who find us at the rendezvous with this URL.

    host: where we listen, a number. If it is not everywhere, it is the answer. They are
    most likely in the rendezvous' network; if that runs on this machine, our first
    address is the better guess.
    """
    if host not in EVERYWHERE:
        return host
    version = EVERYWHERE[host]
    address = lan_address(urlsplit(url).hostname or "", version)
    return lan_address(version=version) if is_loopback(address) else address


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


def own_addresses(version: int = 4) -> list[str]:
    """Addresses at which others may reach us, the one of the default route first.

    version: of IP, 4 or 6. Self-assigned ones (169.254.x.x) come last; those of IPv6
    (fe80::) are left out, as they mean something on one link only. Also without a
    default route, as on a switch that joins a few laptops and nothing else.
    """
    found = dict.fromkeys([_on_the_way(NOWHERE[version], version), *_of(version)])
    usable = [each for each in found if each and not is_loopback(each)]
    if version == 6:
        return [each for each in usable if not ip_address(each).is_link_local]
    return sorted(usable, key=lambda each: ip_address(each).is_link_local)


def is_loopback(address: str) -> bool:
    """Whether an IP address leads from a machine to itself."""
    return ip_address(address).is_loopback


def _on_the_way(towards: str, version: int) -> str:
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((towards, 9))
            return str(probe.getsockname()[0]).partition("%")[0]
    except (OSError, UnicodeError):  # no way, or no IPv6 at all
        return ""


def _of(version: int) -> list[str]:
    """What the interfaces have."""
    ips = [ip for adapter in ifaddr.get_adapters() for ip in adapter.ips]
    if version == 4:
        return [str(ip.ip) for ip in ips if ip.is_IPv4]
    return [ip.ip[0] for ip in ips if isinstance(ip.ip, tuple)]
