"""The correct protocols: how they are built, and the network that each survives."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from types import ModuleType
from typing import Any, Final, NamedTuple

from p2plab import protocols
from p2plab.core.endpoint import FixedWindow, Receiver, RttEstimator, Sender
from p2plab.core.rtt import FixedRto, Rfc6298
from p2plab.fast import fast as fast_page
from p2plab.fast.rate_control import RateController
from p2plab.museum import acks
from p2plab.museum import parity as parity_page
from p2plab.museum.exhibit import Exhibit, Machines, label
from p2plab.protocols.modulo import ModuloReceiver, ModuloSender

Timer = Callable[[], RttEstimator]
LEARNING: Final = partial(Rfc6298, timestamps=True)
HEALTHY: Final[dict[str, Exhibit]] = {}


class Design(NamedTuple):
    """A page, and what builds both sides from its classes, or from changed ones."""

    page: ModuleType
    build: Callable[..., Machines]


def correct(
    page: ModuleType, channel: str = "late", **how: Any
) -> Callable[[Callable[..., Machines]], Design]:
    """Make an exhibit of what a function builds, with its name and its docstring.

    how: arguments of the function, beside the page.
    """

    def enter(build: Callable[..., Machines]) -> Design:
        name, title = build.__name__, label(build)
        HEALTHY[name] = Exhibit(name, title, "", channel, page, partial(build, **how))
        return Design(page, build)

    return enter


def numbered(
    sender: Sender, receiver: Receiver, bits: int | None, window: int = 1
) -> Machines:
    """Give the numbers on the wire so many bits; None leaves them as they are."""
    if bits is None:
        return sender, receiver
    return ModuloSender(sender, bits), ModuloReceiver(receiver, bits, window)


@correct(protocols.stop_and_wait)
def stop_and_wait(
    page: Any, rtt: Timer = FixedRto, bits: int | None = None
) -> Machines:
    """Stop-and-wait, every packet with a number of its own"""
    sender, receiver = page.StopAndWaitSender(rtt()), page.StopAndWaitReceiver()
    return numbered(sender, receiver, bits)


@correct(protocols.go_back_n, rtt=LEARNING)
def go_back_n(
    page: Any, rtt: Timer = FixedRto, window: int = 4, bits: int | None = None
) -> Machines:
    """Go-back-N, with a timeout that learns"""
    sender = page.GoBackNSender(rtt(), FixedWindow(window))
    return numbered(sender, page.GoBackNReceiver(), bits)


@correct(protocols.selective_repeat, rtt=LEARNING)
def selective_repeat(
    page: Any, rtt: Timer = FixedRto, window: int = 4, bits: int | None = None
) -> Machines:
    """Selective repeat, with a timeout that learns"""
    sender = page.SelectiveRepeatSender(rtt(), FixedWindow(window))
    receiver = page.SelectiveRepeatReceiver(window)
    return numbered(sender, receiver, bits, window)


@correct(acks, "dup")
def alternating_bit(page: Any) -> Machines:
    """The alternating bit: a copy is harmless unless it comes late"""
    return page.AlternatingBitSender(FixedRto()), page.AlternatingBitReceiver()


@correct(protocols.go_back_n, "dup")
def go_back_n_two_bits(page: Any) -> Machines:
    """Go-back-N with two bits and a window of three"""
    return go_back_n.build(page, window=3, bits=2)


@correct(protocols.selective_repeat, "dup")
def selective_repeat_two_bits(page: Any) -> Machines:
    """Selective repeat with two bits and a window of two"""
    return selective_repeat.build(page, window=2, bits=2)


@correct(acks)
def negative_ack(page: Any) -> Machines:
    """Negative ACKs: damage is reported, loss is waited for"""
    return page.NegativeAckSender(FixedRto()), page.NegativeAckReceiver()


@correct(acks)
def fast_retransmit(page: Any) -> Machines:
    """Go-back-N that goes back at the third duplicate ACK"""
    sender = page.FastRetransmitSender(FixedRto(), FixedWindow(8))
    return sender, page.GoBackNReceiver()


@correct(acks)
def bitmap(page: Any) -> Machines:
    """Selective repeat with a map of what has arrived in every ACK"""
    return page.BitmapSender(FixedRto(), FixedWindow(8)), page.BitmapReceiver(8)


@correct(parity_page)
def parity(page: Any) -> Machines:
    """A parity packet after every three; what it cannot mend is sent again"""
    return page.ParitySender(FixedRto(), FixedWindow(6)), page.ParityReceiver(6)


@correct(fast_page)
def fast(page: Any) -> Machines:
    """Ranges in the ACKs, a learned pace, and coded packets of all that is in flight"""
    return page.FastSender(LEARNING(), RateController(), 3), page.FastReceiver(3)


@correct(acks)
def duplex(page: Any, answers: Iterable[bytes] = (b"yes", b"", b"no")) -> Machines:
    """Both sides send, and ACKs ride along"""
    ours, theirs = (
        page.DuplexPeer(page.StopAndWaitSender(FixedRto())) for _ in range(2)
    )
    for answer in answers:
        theirs.send(answer)
    return ours, theirs


@correct(acks)
def delayed_ack(page: Any) -> Machines:
    """Go-back-N with an ACK for every second packet, or after a tenth of a second"""
    return page.GoBackNSender(FixedRto(), FixedWindow(4)), page.DelayedAckReceiver()


@correct(protocols.finish)
def finish(page: Any, tries: int = 10) -> Machines:
    """Stop-and-wait that says when it is over"""
    rtt = FixedRto()
    sender = protocols.FinishSender(protocols.StopAndWaitSender(rtt), rtt, tries)
    return sender, page.FinishReceiver(protocols.StopAndWaitReceiver())
