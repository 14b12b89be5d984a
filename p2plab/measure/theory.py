"""Closed forms: what a protocol should reach, and under which assumptions.

Two numbers run through all of them.

    a  =  propagation delay / transmission delay of one packet
    K  =  1 + 2a: one round trip, counted in packets (the ACK takes no time to send)

"Utilisation" is the share of time in which the sender's link carries a packet that
is useful: in 0..1, each packet counted once, however often it was sent.
"""

from __future__ import annotations

from math import ceil, expm1, log1p
from typing import Final

from p2plab.core.validation import number

_INTERVALS: Final = {
    **dict.fromkeys(("packet_size", "rate"), "(0, inf)"),
    **dict.fromkeys(("delay", "a"), "[0, inf)"),
    **dict.fromkeys(("window", "count", "bits"), "[1, inf)"),
    **dict.fromkeys(("loss", "ack_loss"), "[0, 1)"),
    **dict.fromkeys(("p", "r"), "(0, 1]"),
    **dict.fromkeys(("loss_bad", "loss_good"), "[0, 1]"),
}


def _require(**arguments: float) -> None:
    """Raise ValueError for an argument outside its interval."""
    for name, value in arguments.items():
        interval = _INTERVALS[name]
        whole = interval == "[1, inf)"
        number(name, value, 16 if whole else 0.5, interval, whole=whole)


# Delays


def transmission_delay(packet_size: float, rate: float) -> float:
    """Seconds in which a link takes in one packet: L / R.

    packet_size: bytes on the wire, headers included. rate: bit/s.
    Source: Kurose & Ross, section 1.4.
    """
    _require(packet_size=packet_size, rate=rate)
    return 8 * packet_size / rate


def delay_ratio(delay: float, packet_size: float, rate: float) -> float:
    """The `a` of the formulas: packets that fit on the way, in one direction.

    delay: propagation delay of one direction, seconds (half of a symmetric RTT).
    packet_size: bytes. rate: bit/s.
    Source: Stallings, Data and Computer Communications, ARQ performance.
    """
    _require(delay=delay)
    return delay / transmission_delay(packet_size, rate)


# Stop-and-wait


def utilisation_stop_and_wait(
    a: float, loss: float = 0.0, ack_loss: float = 0.0, timeout: float | None = None
) -> float:
    """Utilisation of stop-and-wait: 1 / (K + T (1 - s) / s), s = (1 - p)(1 - q).

    loss, ack_loss: p of a packet and q of an ACK, independent, in [0, 1).
    timeout: T in transmission delays of one packet, counted from the start of a
    transmission, at least K; by default K, and the formula becomes s / K.
    Assumes packets of one size, a fixed timeout and ACKs that take no time to send.
    Source: Kurose & Ross, section 3.4.2, without loss: 1 / (1 + 2a); with loss, the
    mean of a geometric number of attempts (Stallings, ARQ performance, for T = K).
    """
    _require(a=a, loss=loss, ack_loss=ack_loss)
    round_trip = 1 + 2 * a
    timeout = round_trip if timeout is None else timeout
    if not timeout >= round_trip:  # it would fire before the ACK can be back
        raise ValueError(f"timeout must be at least 1 + 2a = {round_trip}: {timeout}")
    success = (1 - loss) * (1 - ack_loss)
    return 1 / (round_trip + timeout * (1 - success) / success)


# Pipelining


def utilisation_go_back_n(a: float, window: int, loss: float = 0.0) -> float:
    """Utilisation of go-back-N.

    W >= K: (1 - p) / (1 + 2ap). W < K: W (1 - p) / (K (1 - p + Wp)).
    Without loss both are min(1, W / K).
    window: W in packets. loss: p of a packet, in [0, 1).
    Assumes independent losses, safe ACKs, a sender that never runs out of packets,
    and a loss that is noticed after exactly one round trip: a longer timeout costs
    far more than the formula says.
    Source: Stallings, ARQ performance; without loss Kurose & Ross, section 3.4.2.
    """
    _require(a=a, window=window, loss=loss)
    round_trip = 1 + 2 * a
    if window >= round_trip:
        return (1 - loss) / (1 + 2 * a * loss)
    return window * (1 - loss) / (round_trip * (1 - loss + window * loss))


def utilisation_selective_repeat(a: float, window: int, loss: float = 0.0) -> float:
    """Utilisation of selective repeat: (1 - p) min(1, W / K).

    window: W in packets. loss: p of a packet, in [0, 1).
    Assumes independent losses, safe ACKs, and that one late packet never stalls the
    window: with loss, that asks for W of 20 K or more.
    Source: Stallings, ARQ performance; without loss Kurose & Ross, section 3.4.2.
    """
    _require(a=a, window=window, loss=loss)
    return (1 - loss) * min(1.0, window / (1 + 2 * a))


def transmissions_per_packet(loss: float, ack_loss: float = 0.0) -> float:
    """Mean number of times a packet is sent: 1 / ((1 - p)(1 - q)).

    loss, ack_loss: p of a packet and q of its ACK, independent, in [0, 1).
    Assumes stop-and-wait, or selective repeat with an ACK for each packet, and no
    timer that fires too early. Go-back-N sends more.
    Source: the mean of a geometric distribution; Stallings, ARQ performance.
    """
    _require(loss=loss, ack_loss=ack_loss)
    return 1 / ((1 - loss) * (1 - ack_loss))


def utilisation_bound(loss: float) -> float:
    """Utilisation that no protocol exceeds in the long run, whatever it does: 1 - p.

    loss: p of a packet, in [0, 1).
    Assumes independent losses. Feedback does not raise it.
    Source: capacity of the erasure channel (Elias 1955, Coding for two noisy channels;
    Cover & Thomas, Elements of Information Theory, section 7.1.5).
    """
    _require(loss=loss)
    return 1 - loss


def rounds_until_all(count: int, loss: float) -> float:
    """Mean number of rounds in which all of `count` packets get through.

    In each round, whatever is still missing is sent once. loss: p, in [0, 1).
    Assumes independent losses, and that each round knows what the one before has lost.
    Source: mean of the largest of n geometric numbers, the sum of 1 - (1 - p^k)^n over
    k = 0, 1, … (Towsley, Kurose & Pingali 1997, IEEE JSAC 15(3), for n receivers).
    """
    _require(count=count, loss=loss)
    rounds, share = 1.0, loss  # which share of the packets is lost k times
    while count * share > 1e-12:
        rounds -= expm1(count * log1p(-share))
        share *= loss
    return rounds


def window_to_fill_pipe(a: float) -> int:
    """Smallest window, in packets, that keeps a loss-free link busy: K, rounded up.

    Source: Kurose & Ross, section 3.4.2.
    """
    _require(a=a)
    return ceil((1 + 2 * a) * (1 - 1e-12))  # 3751.0000000000005 means 3751


# Sequence numbers


def largest_window_go_back_n(bits: int) -> int:
    """Largest safe window with sequence numbers of k bits: 2^k - 1.

    Assumes a channel that keeps order, or packets that die before a number is reused.
    Source: Stallings, ARQ performance; Kurose & Ross, section 3.4.3.
    """
    _require(bits=bits)
    return (1 << bits) - 1


def largest_window_selective_repeat(bits: int) -> int:
    """Largest safe window with sequence numbers of k bits: 2^(k - 1), on both sides.

    Assumes a channel that keeps order, or packets that die before a number is reused.
    Source: Kurose & Ross, section 3.4.4.
    """
    _require(bits=bits)
    return 1 << (bits - 1)


# Losses in bursts


def mean_loss_gilbert_elliott(
    p: float, r: float, loss_bad: float = 1.0, loss_good: float = 0.0
) -> float:
    """Share of lost packets in the long run: (p * loss_bad + r * loss_good) / (p + r).

    p, r: probability, at each packet, to go from the good state to the bad one, and
    back, in (0, 1]. loss_bad, loss_good: loss in these states, in [0, 1].
    Assumes a chain that has run long enough to forget its first state.
    Source: Gilbert 1960, Elliott 1963 (Bell System Technical Journal 39 and 42).
    """
    _require(p=p, r=r, loss_bad=loss_bad, loss_good=loss_good)
    return (p * loss_bad + r * loss_good) / (p + r)
