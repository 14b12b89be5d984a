"""A UDP socket that moves many datagrams in one call where the system can."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Iterator, Sequence
from itertools import chain, groupby
from typing import Final

from p2plab.errors import PeerUnreachable, PortInUse

Address = tuple[str, int]

RECEIVE_BUFFER: Final = 4_000_000  # bytes asked for; the system may give less
LARGEST: Final = 65_535  # bytes of a datagram, or of a train of them

# Linux cuts one large buffer into datagrams of one size on sending (UDP_SEGMENT), and
# hands a train of them over as one buffer on receiving (UDP_GRO): linux/udp.h, udp(7).
_SOL_UDP, _UDP_SEGMENT, _UDP_GRO = 17, 103, 104
_TRAIN: Final = 64  # datagrams that the kernel allows (UDP_MAX_SEGMENTS)
_ROOM: Final = 65_507  # bytes of all of them: what a datagram over IPv4 may hold
_MTU: Final = 1472  # bytes that fit into an Ethernet frame; larger ones go one by one
_SIZE: Final = struct.Struct("=i")


class DatagramSocket:
    """A bound UDP socket that never blocks.

    host, port: port 0 lets the system choose. Raises PortInUse, and ValueError for a
        host or port that cannot be ours.
    """

    def __init__(self, host: str, port: int) -> None:
        self.socket = bound(host, port)
        self._buffer = bytearray(LARGEST)
        self._view = memoryview(self._buffer)
        self._trains_out = hasattr(self.socket, "sendmsg")
        self._trains_in = hasattr(self.socket, "recvmsg")
        try:
            self.socket.setsockopt(_SOL_UDP, _UDP_GRO, 1)
        except OSError:  # not Linux, or an old one
            self._trains_out = self._trains_in = False

    @property
    def address(self) -> Address:
        """Where it listens."""
        host, port = self.socket.getsockname()[:2]
        return host, port

    def send(self, datagrams: Sequence[bytes], to: Address) -> None:
        """Send them in this order; what the system does not take is lost."""
        for train in _trains(datagrams) if self._trains_out else [datagrams]:
            if not (
                self._trains_out and len(train) > 1 and self._send_train(train, to)
            ):
                for datagram in train:
                    self._send_one(datagram, to)

    def receive(self) -> tuple[Sequence[bytes], Address] | None:
        """Return what has come from one sender, or None if nothing waits."""
        try:
            if self._trains_in:
                size, notes, _, sender = self.socket.recvmsg_into([self._buffer], 64)
            else:
                (size, sender), notes = self.socket.recvfrom_into(self._buffer), []
        except BlockingIOError:
            return None
        except OSError:  # Windows reports here that an earlier datagram found nobody
            return [], ("", 0)
        step = size or 1
        for level, kind, value in notes:
            if level == _SOL_UDP and kind == _UDP_GRO:
                step = _SIZE.unpack_from(value)[0]
        rest = size - size % step
        whole = struct.iter_unpack(f"{step}s", self._view[:rest])
        datagrams = list(chain.from_iterable(whole))
        if rest < size or not size:  # an empty datagram is one, too
            datagrams.append(bytes(self._view[rest:size]))
        return datagrams, sender[:2]

    def close(self) -> None:
        """Give the port back."""
        self.socket.close()

    def _send_one(self, datagram: bytes, to: Address) -> None:
        try:
            self.socket.sendto(datagram, to)
        except OSError:
            return  # a full buffer, no route, nobody there: lost

    def _send_train(self, train: Sequence[bytes], to: Address) -> bool:
        size = (_SOL_UDP, _UDP_SEGMENT, struct.pack("=H", len(train[0])))
        try:
            self.socket.sendmsg(train, [size], 0, to)
        except BlockingIOError:
            return True  # full: lost, like a single one
        except OSError:  # a device that cannot: one by one from now on
            self._trains_out = False
            return False
        return True


def _trains(datagrams: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Cut into runs of one size."""
    for size, run in groupby(datagrams, len):
        alike = list(run)
        step = min(_TRAIN, _ROOM // (size or 1)) if size <= _MTU else 1
        for at in range(0, len(alike), step):
            yield alike[at : at + step]


def resolved(address: Address, family: int) -> Address:
    """Return the address as the system writes it; raises PeerUnreachable for none."""
    host, port = address
    if not 0 < port < 65_536:
        raise PeerUnreachable(f"a port is in 1..65535, got {port}")
    with contextlib.suppress(OSError):  # a name
        number = socket.inet_pton(family, host)
        return socket.inet_ntop(family, number), port  # to ask takes a millisecond
    try:
        found = socket.getaddrinfo(host, port, family, socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as why:
        raise PeerUnreachable(f"there is no address {host}:{port}: {why}") from why
    return str(found[0][4][0]), port


def bound(
    host: str, port: int, buffer: int = RECEIVE_BUFFER, v6only: bool = False
) -> socket.socket:
    """Return a UDP socket that never blocks; errors as of a DatagramSocket.

    buffer: for what comes while nobody reads [bytes].
    v6only: leave the port of IPv4 to another socket.
    """
    if not 0 <= port < 65_536:
        raise ValueError(f"port must be in [0, 65535], got {port}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as undo:
        try:
            each = undo.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            if v6only and family == socket.AF_INET6:
                each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
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
