"""Closed forms: what a protocol should reach, and under which assumptions.

Two numbers run through all of them.

    a  =  propagation delay / transmission delay of one packet
    K  =  1 + 2a: one round trip, counted in packets (the ACK takes no time to send)

"Utilisation" is the share of time in which the sender's link carries a packet that
is useful: in 0..1, each packet counted once, however often it was sent.
"""

from __future__ import annotations

from math import ceil, expm1, log1p

from p2plab.core.validation import number

# Delays (Kurose & Ross, section 1.4)


def transmission_delay(packet_size: float, rate: float) -> float:
    """Seconds in which a link takes in one packet: L / R.

    packet_size: bytes on the wire, headers included. rate: bit/s.
    Source: Kurose & Ross, section 1.4.
    """
    number("packet_size", packet_size, 1000, "(0, inf)")
    number("rate", rate, 1000, "(0, inf)")
    return 8 * packet_size / rate


def propagation_delay(distance: float, speed: float = 2e8) -> float:
    """Seconds that a bit needs to the other end: d / s.

    distance: metres. speed: metres per second; 2e8 is light in glass or copper.
    Source: Kurose & Ross, section 1.4.
    """
    number("distance", distance, 0.1, "[0, inf)")
    number("speed", speed, 1000, "(0, inf)")
    return distance / speed


def delay_ratio(delay: float, packet_size: float, rate: float) -> float:
    """The `a` of the formulas: packets that fit on the way, in one direction.

    delay: propagation delay of one direction, seconds (half of a symmetric RTT).
    packet_size: bytes. rate: bit/s.
    Source: Stallings, Data and Computer Communications, ARQ performance.
    """
    number("delay", delay, 0.1, "[0, inf)")
    return delay / transmission_delay(packet_size, rate)


def packet_loss(bit_error_rate: float, packet_size: float) -> float:
    """Probability that at least one bit of a packet is wrong: 1 - (1 - BER)^bits.

    Assumes independent bit errors, all of them detected. packet_size: bytes.
    Source: Stallings, Data and Computer Communications, ARQ performance.
    """
    number("bit_error_rate", bit_error_rate, 0.1, "[0, 1)")
    number("packet_size", packet_size, 1000, "(0, inf)")
    return -expm1(8 * packet_size * log1p(-bit_error_rate))


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
    number("a", a, 0.1, "[0, inf)")
    number("loss", loss, 0.1, "[0, 1)")
    number("ack_loss", ack_loss, 0.1, "[0, 1)")
    round_trip = 1 + 2 * a
    timeout = round_trip if timeout is None else timeout
    if not timeout >= round_trip:  # it would fire before the ACK can be back
        raise ValueError(f"timeout must be at least 1 + 2a = {round_trip}: {timeout}")
    success = (1 - loss) * (1 - ack_loss)
    return 1 / (round_trip + timeout * (1 - success) / success)


def utilisation_stop_and_wait_in_seconds(
    packet_time: float, delay: float, ack_time: float = 0.0, processing: float = 0.0
) -> float:
    """Utilisation of stop-and-wait when ACKs and processing take time, too.

    All in seconds: transmission delay of a packet and of an ACK, propagation delay of
    one direction, and processing in one round altogether. Assumes no loss.
    Source: Stallings, ARQ performance: t_f / (t_f + t_ack + 2 t_prop + t_proc).
    """
    number("packet_time", packet_time, 1000, "(0, inf)")
    number("delay", delay, 0.1, "[0, inf)")
    number("ack_time", ack_time, 0.1, "[0, inf)")
    number("processing", processing, 0.1, "[0, inf)")
    return packet_time / (packet_time + ack_time + 2 * delay + processing)


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
    number("a", a, 0.1, "[0, inf)")
    number("window", window, 16, "[1, inf)", whole=True)
    number("loss", loss, 0.1, "[0, 1)")
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
    number("a", a, 0.1, "[0, inf)")
    number("window", window, 16, "[1, inf)", whole=True)
    number("loss", loss, 0.1, "[0, 1)")
    return (1 - loss) * min(1.0, window / (1 + 2 * a))


def transmissions_per_packet(loss: float, ack_loss: float = 0.0) -> float:
    """Mean number of times a packet is sent: 1 / ((1 - p)(1 - q)).

    loss, ack_loss: p of a packet and q of its ACK, independent, in [0, 1).
    Assumes stop-and-wait, or selective repeat with an ACK for each packet, and no
    timer that fires too early. Go-back-N sends more.
    Source: the mean of a geometric distribution; Stallings, ARQ performance.
    """
    number("loss", loss, 0.1, "[0, 1)")
    number("ack_loss", ack_loss, 0.1, "[0, 1)")
    return 1 / ((1 - loss) * (1 - ack_loss))


def utilisation_bound(loss: float) -> float:
    """Utilisation that no protocol exceeds in the long run, whatever it does: 1 - p.

    loss: p of a packet, in [0, 1).
    Assumes independent losses. Feedback does not raise it.
    Source: capacity of the erasure channel (Elias 1955, Coding for two noisy channels;
    Cover & Thomas, Elements of Information Theory, section 7.1.5).
    """
    number("loss", loss, 0.1, "[0, 1)")
    return 1 - loss


def rounds_until_all(count: int, loss: float) -> float:
    """Mean number of rounds in which all of `count` packets get through.

    In each round, whatever is still missing is sent once. loss: p, in [0, 1).
    Assumes independent losses, and that each round knows what the one before has lost.
    Source: mean of the largest of n geometric numbers, the sum of 1 - (1 - p^k)^n over
    k = 0, 1, … (Towsley, Kurose & Pingali 1997, IEEE JSAC 15(3), for n receivers).
    """
    number("count", count, 16, "[1, inf)", whole=True)
    number("loss", loss, 0.1, "[0, 1)")
    rounds, share = 1.0, loss  # which share of the packets is lost k times
    while count * share > 1e-12:
        rounds -= expm1(count * log1p(-share))
        share *= loss
    return rounds


def window_to_fill_pipe(a: float) -> int:
    """Smallest window, in packets, that keeps a loss-free link busy: K, rounded up.

    Source: Kurose & Ross, section 3.4.2.
    """
    number("a", a, 0.1, "[0, inf)")
    return ceil((1 + 2 * a) * (1 - 1e-12))  # 3751.0000000000005 means 3751


def bandwidth_delay_product(rate: float, rtt: float) -> float:
    """Bytes that are on their way when a pipe is full: R * RTT.

    rate: of the bottleneck, bit/s. rtt: seconds, without queueing.
    Source: RFC 6349, section 1.1; Kurose & Ross call it the pipe, section 3.4.2.
    """
    number("rate", rate, 1000, "(0, inf)")
    number("rtt", rtt, 0.1, "[0, inf)")
    return rate * rtt / 8


# Sequence numbers


def largest_window_go_back_n(bits: int) -> int:
    """Largest safe window with sequence numbers of k bits: 2^k - 1.

    Assumes a channel that keeps order, or packets that die before a number is reused.
    Source: Stallings, ARQ performance; Kurose & Ross, section 3.4.3.
    """
    number("bits", bits, 16, "[1, inf)", whole=True)
    return (1 << bits) - 1


def largest_window_selective_repeat(bits: int) -> int:
    """Largest safe window with sequence numbers of k bits: 2^(k - 1), on both sides.

    Assumes a channel that keeps order, or packets that die before a number is reused.
    Source: Kurose & Ross, section 3.4.4.
    """
    number("bits", bits, 16, "[1, inf)", whole=True)
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
    number("p", p, 0.1, "(0, 1]")
    number("r", r, 0.1, "(0, 1]")
    number("loss_bad", loss_bad, 1.0, "[0, 1]")
    number("loss_good", loss_good, 0.0, "[0, 1]")
    return (p * loss_bad + r * loss_good) / (p + r)


def mean_burst_gilbert_elliott(
    p: float, r: float, loss_bad: float = 1.0, loss_good: float = 0.0
) -> float:
    """Mean number of packets lost in a row; 1 / r if only bad states lose, and all.

    Arguments and assumption as for the mean loss. Each burst ends with a loss before
    an arrival, so that the mean is P(lost) / P(lost, and the next one arrives).
    Source: Gilbert 1960, Elliott 1963 (Bell System Technical Journal 39 and 42).
    """
    lost = mean_loss_gilbert_elliott(p, r, loss_bad, loss_good)
    after_good = (1 - p) * (1 - loss_good) + p * (1 - loss_bad)
    after_bad = r * (1 - loss_good) + (1 - r) * (1 - loss_bad)
    burst_ends = (r * loss_good * after_good + p * loss_bad * after_bad) / (p + r)
    if burst_ends == 0:
        raise ValueError("a chain that loses nothing, or everything, has no bursts")
    return lost / burst_ends
