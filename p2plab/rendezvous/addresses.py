"""Which addresses this machine has for others; no packet is sent to find them."""

from __future__ import annotations

import socket
from contextlib import suppress
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

import ifaddr

from p2plab.errors import P2PLabError
from p2plab.rendezvous.model import Registration

# Addresses for documentation (RFC 5737, RFC 3849): only a default route leads there.
NOWHERE: Final = ("192.0.2.1", "2001:db8::1")
EVERYWHERE: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}


def listening_on(host: str) -> str:
    """The host, or "::" for everywhere on a machine that has IPv6 addresses alone.

    "::" hears IPv4, too.
    """
    anywhere = host in EVERYWHERE and not own_addresses("0.0.0.0")
    return "::" if anywhere and own_addresses() else host


def own_addresses(host: str = "::") -> list[str]:
    """Addresses at which others may reach us, IPv4 and those of default routes first.

    host: where we listen, if that is 0.0.0.0 those of IPv4 alone count.
    Self-assigned ones (169.254.x.x) come last of IPv4. Without a default route there
    may be some, too, as on a switch that joins a few laptops and nothing else. Those
    that mean something on one link alone (fe80::…) are never told: a zone is missing.
    """
    found = dict.fromkeys([*map(_on_the_way, NOWHERE), *_of_interfaces()])
    usable = [each for each in found if each and not _useless(each)]
    if host != "::":
        usable = [each for each in usable if ":" not in each]
    return sorted(
        usable, key=lambda each: (":" in each, ip_address(each).is_link_local)
    )


def address_near(url: str, host: str = "0.0.0.0") -> str:
    """Our address for those who find us at the rendezvous with this URL.

    host: where we listen, a number. If it is not everywhere, it is the answer. They are
    most likely in the rendezvous' network; if that runs on this machine, our first
    address is the better guess. Without any, only this machine's peers reach us.
    """
    if host not in EVERYWHERE:
        return host
    address = _on_the_way(urlsplit(url).hostname or "")
    if address and not _useless(address) and (host == "::" or ":" not in address):
        return address
    return (own_addresses(host) or [EVERYWHERE[host]])[0]


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


def is_loopback(address: str) -> bool:
    """Whether an IP address leads from a machine to itself."""
    return ip_address(address).is_loopback


def _useless(address: str) -> bool:
    """Whether an address is not to be told to others."""
    ip = ip_address(address)
    local = ip.is_link_local and ip.version == 6
    return ip.is_loopback or ip.is_unspecified or local


def _on_the_way(towards: str) -> str:
    """Our address on the way to a machine, its name or its address; "": no way."""
    with suppress(OSError, UnicodeError):
        for found in socket.getaddrinfo(towards, 9, type=socket.SOCK_DGRAM):
            with suppress(OSError), socket.socket(*found[:3]) as probe:
                probe.connect(found[4])
                return str(probe.getsockname()[0])
    return ""


def _of_interfaces() -> list[str]:
    ips = [ip for adapter in ifaddr.get_adapters() for ip in adapter.ips]
    return [str(ip.ip if ip.is_IPv4 else ip.ip[0]) for ip in ips]
