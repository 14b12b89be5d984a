"""Which of a peer's addresses leads to it? Probes to all, and the first answer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import remainder
from typing import Final, NamedTuple

from p2plab.core.meeting import ANSWER, CHOOSE, CONFIRM, FAIL, HEAR, PROBE
from p2plab.core.packet import TIMESTAMP_PERIOD, Kind, Packet, encode
from p2plab.errors import PeerUnreachable
from p2plab.net.datagrams import Address
from p2plab.net.session import Session

# The kinds of a candidate, the best first (RFC 8445, section 5.1.2.2): its own address
# in our network, one that its packets have come from, one that a STUN server saw.
HOST: Final = "host"
HEARD: Final = "heard"  # peer reflexive, says the RFC
OBSERVED: Final = "observed"  # server reflexive
KINDS: Final = (HOST, HEARD, OBSERVED)

FIRST_PAUSE: Final = 0.02  # until a probe is repeated [s]
GROWTH: Final = 1.5  # of that pause, each time
LONGEST_PAUSE: Final = 0.25  # [s]
PATIENCE: Final = 3.0  # [s]
SETTLE: Final = 1.0  # how long a better path may replace the first [s]
MOST: Final = 8  # addresses that the other side may offer; twice as many it may use
KEPT_EVENTS: Final = 1_000


class ProbeEvent(NamedTuple):
    """One row of a meeting's trace: what was done or seen, and with which address.

    PROBE and ANSWER have been sent there; HEAR (a probe) and CONFIRM (the answer to
    one of ours) have come from there; CHOOSE is the path taken; FAIL has no address.
    """

    time: float  # by the prober's clock [s]
    what: str
    address: Address | None
    probe: int = 0  # which one: its stamp, as both sides know it [us]


class Path(NamedTuple):
    """An address from which the peer itself has answered us."""

    kind: str
    address: Address
    rtt: float  # of the probe that found it [s]

    def __repr__(self) -> str:
        host, port = self.address[:2]
        return f"<Path to {host}, port {port}: round trip {1e3 * self.rtt:.2f} ms>"


@dataclass(slots=True)
class _Candidate:
    kind: str
    address: Address
    next_at: float  # when to probe it [s]
    pause: float = FIRST_PAUSE  # after that probe [s]
    probed: bool = False
    heard: bool = False  # a probe has come from there


def _rank(where: _Candidate | Path) -> tuple[int, bool]:
    """The smaller the better: by kind, and IPv6 first (RFC 8421, section 4)."""
    return KINDS.index(where.kind), ":" not in where.address[0]


class Contact:
    """A peer that we were introduced to, and the path to it; all to it is sealed.

    It has no socket and no clock: its driver has both, and calls it from one thread.
    candidates: kind (HOST or OBSERVED) and address of each, written as the socket
        writes senders; the best MOST of them are used.
    now: the driver's clock when the probing begins, as in every call [s].
    emit: puts a datagram on the socket.
    path: where to send, or None. The first address that answers is it; a better one
        (see KINDS) may still replace it for SETTLE seconds.
    failure: in words, once PATIENCE is over without an answer; else empty. A late
        answer still finds a path.
    events: what happened, the first KEPT_EVENTS of it.
    The driver calls `tick` after each packet and when `wake_at` has come, and shows
    `hear` only what `open` has opened: so a wrong peer at one of the addresses stays
    unheard. Nothing is sent to an address but probes before it has answered; MOST
    addresses cost 8 kB in all.
    Whoever can delay our packets may send them on from another address and become the
    path: it can then drop what it forwards, as before, but neither forge nor change it.
    """

    def __init__(
        self,
        session: Session,
        candidates: Iterable[tuple[str, Address]],
        now: float,
        emit: Callable[[bytes, Address], None],
    ) -> None:
        self.session = session
        self._emit = emit
        self._heard: Address | None = None  # where its last packet came from
        self._decided = threading.Event()  # a path, or none
        best: dict[Address, _Candidate] = {}
        offered = (_Candidate(kind, address, now) for kind, address in candidates)
        for each in sorted(offered, key=_rank):
            best.setdefault(each.address, each)
        self._candidates = list(best.values())[:MOST]
        self._end = now + PATIENCE  # of the probing [s]
        self.path: Path | None = None
        self.failure = ""
        self.events: list[ProbeEvent] = []

    def __repr__(self) -> str:
        return f"<Contact {self.session.peer} at {self.address}>"

    @property
    def address(self) -> Address | None:
        """Where to send: the path, or as long as there is none where it was heard."""
        return self._heard if self.path is None else self.path.address

    @property
    def decided(self) -> bool:
        """Whether there is a path, or we have given up."""
        return self._decided.is_set()

    def wait(self, timeout: float = 2 * PATIENCE) -> Path:
        """Return the path, once it is found, or raise PeerUnreachable.

        timeout: without a path it gives up by itself, earlier than this [s].
        """
        self._decided.wait(timeout)
        if self.path is None:
            why = self.failure or f"no path to it was found in {timeout:g} s"
            raise PeerUnreachable(
                f"the peer {self.session.peer} cannot be reached by UDP: {why}"
            )
        return self.path

    # ---- for the socket's thread

    def send(self, datagram: bytes) -> None:
        """Seal it and send it; without an address it is lost."""
        if self.address is not None:
            self._emit(self.session.seal(datagram), self.address)

    def open(self, sealed: bytes, address: Address) -> bytes:
        """Return what the peer has sealed; raises what Session.open does."""
        opened = self.session.open(sealed)
        self._heard = address
        return opened

    @property
    def wake_at(self) -> float | None:
        """When `tick` is due [s]; None: only a packet can bring something new."""
        times = [each.next_at for each in self._candidates if self._worth(each)]
        times = [each for each in times if each < self._end]
        if self.path is None and not self.failure:
            times.append(self._end)
        return min(times, default=None)

    def tick(self, now: float) -> None:
        """Send the probes that are due, or give up."""
        for place, each in enumerate(self._candidates):
            if each.next_at <= now < self._end and self._worth(each):
                each.next_at = now + each.pause
                each.pause = min(GROWTH * each.pause, LONGEST_PAUSE)
                each.probed = True
                self._say(Packet(Kind.PROBE, place, ts_val=now), each.address)
                self._note(now, PROBE, each.address, now)
        if self.path is None and not self.failure and now >= self._end:
            self.failure = self._explanation()
            self._note(now, FAIL, None)
            self._decided.set()

    def hear(self, packet: Packet, address: Address, now: float) -> None:
        """Take a PROBE, which is answered, or a PROBED; `tick` is due after it.

        A probe is answered for as long as anybody asks: the other side may still have
        no path when ours is found.
        """
        if packet.kind == Kind.PROBE:
            self._note(now, HEAR, address, packet.ts_val)
            self._learn(address, now)
            self._say(Packet(Kind.PROBED, packet.seq, ts_ecr=packet.ts_val), address)
            self._note(now, ANSWER, address, packet.ts_val)
        elif packet.kind == Kind.PROBED and 0 <= packet.seq < len(self._candidates):
            each = self._candidates[packet.seq]
            # An answer from elsewhere says nothing about the address that we probed
            # (RFC 8445, section 7.2.5.2.1).
            if each.probed and each.address == address and packet.ts_ecr is not None:
                self._note(now, CONFIRM, address, packet.ts_ecr)
                self._confirm(each, packet.ts_ecr, now)

    def _say(self, packet: Packet, address: Address) -> None:
        self._emit(self.session.seal(encode(packet)), address)

    def _learn(self, address: Address, now: float) -> None:
        """Probe where the first probe came from, now (RFC 8445, section 7.3.1.4)."""
        if self.path is not None:
            return
        each = next((e for e in self._candidates if e.address == address), None)
        if each is None:
            if len(self._candidates) == 2 * MOST:
                return
            each = _Candidate(HEARD, address, now)
            self._candidates.append(each)
        if not each.heard:  # once, or two peers would answer probes with probes
            each.heard, each.next_at, each.pause = True, now, FIRST_PAUSE
            self._end = max(self._end, now + PATIENCE)

    def _confirm(self, each: _Candidate, ts_ecr: float, now: float) -> None:
        if self.path is None:
            self._end = now + SETTLE
        elif now >= self._end or not self._worth(each):
            return
        self.failure = ""
        rtt = remainder(now - ts_ecr, TIMESTAMP_PERIOD)  # stamps begin anew after that
        self.path = Path(each.kind, each.address, max(0.0, rtt))
        self._note(now, CHOOSE, each.address)
        self._decided.set()

    def _worth(self, each: _Candidate) -> bool:
        """Whether a path to it would be a better one than what we have."""
        return self.path is None or _rank(each) < _rank(self.path)

    def _explanation(self) -> str:
        if not self._candidates:
            return "the other side has offered no address, and sent no probe"
        tried = [
            f"{e.kind} {e.address[0]} port {e.address[1]}" for e in self._candidates
        ]
        words = f"no answer within {PATIENCE:g} s from {', '.join(tried)}"
        if any(each.heard for each in self._candidates):
            return (
                f"{words}, although its own probes arrived here: a NAT or a firewall "
                "near the peer keeps ours out"
            )
        return (
            f"{words}, and no probe arrived from there: the peer has left, or a NAT, a "
            "firewall or a Wi-Fi that keeps its devices apart is in between"
        )

    def _note(
        self, now: float, what: str, address: Address | None, stamp: float | None = None
    ) -> None:
        if len(self.events) < KEPT_EVENTS:
            probe = round((stamp or 0.0) % TIMESTAMP_PERIOD * 1e6)
            self.events.append(ProbeEvent(now, what, address, probe))
