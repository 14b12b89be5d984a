"""The correct protocols: one for each idea, with the network that it survives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from p2plab.core.endpoint import Receiver, Sender
from p2plab.core.rtt import FixedRto, Rfc6298
from p2plab.core.window import FixedWindow
from p2plab.fast.fast import FastReceiver, FastSender
from p2plab.fast.rate_control import PathRate
from p2plab.museum.exhibit import Exhibit
from p2plab.museum.healthy.alternating_bit import (
    AlternatingBitReceiver,
    AlternatingBitSender,
)
from p2plab.museum.healthy.bitmap import BitmapReceiver, BitmapSender
from p2plab.museum.healthy.delayed_ack import DelayedAckReceiver
from p2plab.museum.healthy.duplex import DuplexPeer
from p2plab.museum.healthy.fast_retransmit import FastRetransmitSender
from p2plab.museum.healthy.negative_ack import NegativeAckReceiver, NegativeAckSender
from p2plab.museum.healthy.parity import ParityReceiver, ParitySender
from p2plab.protocols.finish import FinishReceiver, FinishSender
from p2plab.protocols.go_back_n import GoBackNReceiver, GoBackNSender
from p2plab.protocols.modulo import ModuloReceiver, ModuloSender
from p2plab.protocols.selective_repeat import (
    SelectiveRepeatReceiver,
    SelectiveRepeatSender,
)
from p2plab.protocols.stop_and_wait import StopAndWaitReceiver, StopAndWaitSender

WINDOW: Final = 4


def duplex() -> tuple[Sender, Receiver]:
    """Two peers, the second of which has something to say, too."""
    ours, theirs = DuplexPeer(FixedRto()), DuplexPeer(FixedRto())
    for answer in (b"yes", b"", b"no"):
        theirs.send(answer)
    return ours, theirs


def finish(
    receiver: type[FinishReceiver] = FinishReceiver, tries: int = 10
) -> tuple[Sender, Receiver]:
    """Stop-and-wait, with an end."""
    rtt = FixedRto()
    sender = FinishSender(StopAndWaitSender(rtt), rtt, tries)
    return sender, receiver(StopAndWaitReceiver())


def _correct(
    name: str,
    title: str,
    make: Callable[[], tuple[Sender, Receiver]],
    channel: str = "late",
) -> Exhibit:
    return Exhibit(name, title, "", channel, make)


_ROOM: Final = (
    _correct(
        "stop_and_wait",
        "Stop-and-wait, every packet with a number of its own",
        lambda: (StopAndWaitSender(FixedRto()), StopAndWaitReceiver()),
    ),
    _correct(
        "go_back_n",
        "Go-back-N, with a timeout that learns",
        lambda: (
            GoBackNSender(Rfc6298(timestamps=True), FixedWindow(WINDOW)),
            GoBackNReceiver(),
        ),
    ),
    _correct(
        "selective_repeat",
        "Selective repeat, with a timeout that learns",
        lambda: (
            SelectiveRepeatSender(Rfc6298(timestamps=True), FixedWindow(WINDOW)),
            SelectiveRepeatReceiver(WINDOW),
        ),
    ),
    _correct(
        "alternating_bit",
        "The alternating bit: a copy is harmless unless it comes late",
        lambda: (AlternatingBitSender(FixedRto()), AlternatingBitReceiver()),
        "dup",
    ),
    _correct(
        "go_back_n_two_bits",
        "Go-back-N with two bits and a window of three",
        lambda: (
            ModuloSender(GoBackNSender(FixedRto(), FixedWindow(3)), 2),
            ModuloReceiver(GoBackNReceiver(), 2),
        ),
        "dup",
    ),
    _correct(
        "selective_repeat_two_bits",
        "Selective repeat with two bits and a window of two",
        lambda: (
            ModuloSender(SelectiveRepeatSender(FixedRto(), FixedWindow(2)), 2),
            ModuloReceiver(SelectiveRepeatReceiver(2), 2, window=2),
        ),
        "dup",
    ),
    _correct(
        "negative_ack",
        "Negative ACKs: damage is reported, loss is waited for",
        lambda: (NegativeAckSender(FixedRto()), NegativeAckReceiver()),
    ),
    _correct(
        "fast_retransmit",
        "Go-back-N that goes back at the third duplicate ACK",
        lambda: (FastRetransmitSender(FixedRto(), FixedWindow(8)), GoBackNReceiver()),
    ),
    _correct(
        "bitmap",
        "Selective repeat with a map of what has arrived in every ACK",
        lambda: (BitmapSender(FixedRto(), FixedWindow(8)), BitmapReceiver(8)),
    ),
    _correct(
        "parity",
        "A parity packet after every three; what it cannot mend is sent again",
        lambda: (ParitySender(FixedRto(), FixedWindow(6)), ParityReceiver(window=6)),
    ),
    _correct(
        "fast",
        "Ranges in the ACKs, a learned pace, and mixes of all that is unacknowledged",
        lambda: (FastSender(Rfc6298(timestamps=True), PathRate(), 3), FastReceiver(3)),
    ),
    _correct("duplex", "Both sides send, and ACKs ride along", duplex),
    _correct(
        "delayed_ack",
        "Go-back-N with an ACK for every second packet, or after a tenth of a second",
        lambda: (GoBackNSender(FixedRto(), FixedWindow(WINDOW)), DelayedAckReceiver()),
    ),
    _correct("finish", "Stop-and-wait that says when it is over", finish),
)
HEALTHY: Final = {exhibit.name: exhibit for exhibit in _ROOM}
