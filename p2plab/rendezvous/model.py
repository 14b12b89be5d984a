"""The words that server, store and client share: names, addresses, peers, limits."""

from __future__ import annotations

import ipaddress
import socket
import unicodedata
from dataclasses import dataclass

MAX_ADDRESSES = 8  # as many candidates as one ICE agent would try with patience
MAX_NAME = 64  # characters
MAX_NAME_BYTES = 128  # in UTF-8
MIN_LEASE, DEFAULT_LEASE, MAX_LEASE = 5.0, 60.0, 300.0  # seconds
MAX_PAGE = 100  # peers in one answer


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """What the rendezvous tells about a peer.

    addresses: what the peer claims, IPv4 or IPv6, the best first.
    tcp_port, udp_port: where it listens for text and for pictures.
    seen: the address that its request came from; behind a NAT it is the router's.
    """

    name: str
    addresses: tuple[str, ...]
    tcp_port: int
    udp_port: int
    seen: str


@dataclass(frozen=True, slots=True)
class Registration:
    """A name that we hold.

    token: the proof that the name is ours; keep it to take the name back after a crash.
    lease: seconds that the name stays ours after each heartbeat.
    seen: our address as the rendezvous saw it.
    """

    name: str
    token: str
    lease: float
    seen: str


@dataclass(frozen=True, slots=True)
class Limits:
    """What one rendezvous carries.

    peers: names held at the same time.
    names_per_minute: new names from one source address; a refresh is not a new name.
    """

    peers: int = 5_000
    names_per_minute: int = 100

    def __post_init__(self) -> None:
        for field in ("peers", "names_per_minute"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1")


def legal_name(name: str) -> str:
    """The name as it is stored: normalised to NFC (RFC 8265, section 3.4.2).

    A name has 1 to 64 characters, at most 128 bytes in UTF-8: letters, their marks,
    and digits of any script, and `_`, `.`, `-`. It begins with a letter or a digit.
    Raises ValueError for any other.
    """
    too_long = f"a name has at most {MAX_NAME} characters and {MAX_NAME_BYTES} bytes"
    if len(name) > 4 * MAX_NAME:  # before the work of normalising
        raise ValueError(f"{too_long} in UTF-8, got {len(name)} characters")
    nfc = unicodedata.normalize("NFC", name)
    kinds = "".join(unicodedata.category(character)[0] for character in nfc)
    legal = all(k in "LMN" or c in "_.-" for k, c in zip(kinds, nfc, strict=True))
    if not legal or kinds[:1] not in ("L", "N"):
        raise ValueError(
            "a name has letters, digits, '_', '.' and '-' of any script and begins "
            f"with a letter or a digit, got {name[:MAX_NAME]!r}"
        )
    if len(nfc) > MAX_NAME or len(nfc.encode()) > MAX_NAME_BYTES:
        raise ValueError(
            f"{too_long} in UTF-8, got {len(nfc)} characters, {len(nfc.encode())} bytes"
        )
    return nfc


def legal_address(text: str) -> str:
    """The canonical spelling of an IP address that somebody could connect to.

    Raises ValueError for host names, zones (`%eth0`), 0.0.0.0, multicast, broadcast.
    """
    wish = "an address must be an IP address such as 192.168.1.7 or 2001:db8::7"
    if "%" in text:  # a zone means something on one machine only
        raise ValueError(f"{wish} without a zone, got {text[:50]!r}")
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f"{wish}, got {text[:50]!r}") from None
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    if ip.is_unspecified or ip.is_multicast or str(ip) == "255.255.255.255":
        raise ValueError(f"{wish} of one machine, got {ip}")
    return str(ip)


def lan_address(towards: str = "192.0.2.1") -> str:
    """Our address on the way to another machine; no packet is sent to find it.

    towards: its name or IPv4 address; by default one for documentation (RFC 5737), so
    that the default route decides. 127.0.0.1 if there is no way.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((towards, 9))
        except OSError:  # no network
            return "127.0.0.1"
        return str(probe.getsockname()[0])
