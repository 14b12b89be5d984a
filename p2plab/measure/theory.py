"""Closed forms: what a protocol should reach, and under which assumptions.

Two numbers run through all of them.

    a  =  propagation delay / transmission delay of one packet
    K  =  1 + 2a: one round trip, counted in packets (the ACK takes no time to send)

"Utilisation" is the share of time in which the sender's link carries a packet that
is useful: in 0..1, each packet counted once, however often it was sent.
"""

from __future__ import annotations

from math import ceil, exp, expm1, floor, inf, log, log1p, log2
from typing import Final

from p2plab.core.validation import number

_INTERVALS: Final = {
    **dict.fromkeys(("packet_size", "rate"), "(0, inf)"),
    **dict.fromkeys(("delay", "a", "ups"), "[0, inf)"),
    **dict.fromkeys(("window", "count", "bits"), "[1, inf)"),
    **dict.fromkeys(("peers", "pieces", "copies", "keys", "degree"), "[1, inf)"),
    **dict.fromkeys(("size", "up", "fanout"), "(0, inf)"),
    **dict.fromkeys(("loss", "ack_loss"), "[0, 1)"),
    **dict.fromkeys(("p", "r"), "(0, 1]"),
    **dict.fromkeys(("loss_bad", "loss_good", "share"), "[0, 1]"),
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


# Swarms: one file, many peers


def time_client_server(peers: int, size: float, up: float, down: float = inf) -> float:
    """Seconds until a server alone has served everybody: max(N F / u, F / d).

    size: F in bytes. up: of the server, down: of the slowest peer, bit/s.
    Assumes a fluid: pieces of no size.
    Source: Kurose & Ross, section 2.5, equation 2.1.
    """
    _require(peers=peers, size=size, up=up)
    return max(8 * peers * size / up, 8 * size / down)


def time_swarm(
    peers: int, size: float, up: float, ups: float, down: float = inf
) -> float:
    """Seconds that no swarm undercuts: max(F / u, F / d, N F / (u + sum of u_i)).

    size: F in bytes. up: u of the seed, ups: the sum of all who pass on, down: d of the
    slowest peer, bit/s. Free riders count among the peers, and not in `ups`.
    Assumes a fluid, and is met in the limit of many pieces only.
    Source: Kurose & Ross, section 2.5, equations 2.2 and 2.3.
    """
    _require(peers=peers, size=size, up=up, ups=ups)
    alone = max(8 * size / up, 8 * size / down)
    return max(alone, 8 * peers * size / (up + ups))


def slots_swarm(peers: int, pieces: int) -> int:
    """Fewest slots in which everybody has everything: M + floor(log2 N).

    A slot: every uplink, the seed's as well, sends one piece.
    Assumes equal uplinks, downloads without limit, and a plan that knows all.
    Source: Mundinger, Weber & Weiss 2008, Journal of Scheduling 11.
    """
    _require(peers=peers, pieces=pieces)
    return pieces + floor(log2(peers))


def draws_until_all(pieces: int) -> float:
    """Mean number of draws until each piece has come: M (1 + 1/2 + ... + 1/M).

    Assumes pieces drawn at random, with replacement.
    Source: the coupon collector; Motwani & Raghavan, Randomized Algorithms, 3.6.
    """
    _require(pieces=pieces)
    return pieces * sum(1 / number for number in range(1, pieces + 1))


def all_alive(pieces: int, copies: int, share: float) -> float:
    """Probability that no piece dies: (1 - f^k)^M.

    copies: k of each piece, at nodes of their own. share: f that dies at once.
    Source: independence.
    """
    _require(pieces=pieces, copies=copies, share=share)
    return (1 - share**copies) ** pieces


# Gossip, in rounds in which everybody may call one other, drawn from all


def rounds_push(peers: int) -> tuple[float, float]:
    """Bounds of the mean number of rounds until all know: about log2 n + ln n.

    Who knows it calls somebody and says it.
    Source: Doerr & Künnemann 2014, Tight Analysis of Randomized Rumor Spreading in
    Complete Graphs; the shape is Pittel's, 1987.
    """
    _require(peers=peers)
    return floor(log2(peers)) + log(peers) - 1.116, ceil(log2(peers)) + log(
        peers
    ) + 2.765


def rounds_pull(peers: int) -> float:
    """Rounds until all know, without a constant (about 1): log2 n + log2 ln n.

    Who does not know it calls somebody and asks. From 3 peers on.
    Source: Doerr & Kostrygin 2017, Randomized Rumor Spreading Revisited.
    """
    _require(peers=peers)
    return log2(peers) + log2(log(peers))


def rounds_push_pull(peers: int) -> float:
    """Rounds until all know: log3 n + log2 ln n.

    Everybody calls, and whoever of the two knows it says it. From 3 peers on.
    Source: Karp, Schindelhauer, Shenker & Vöcking 2000, Randomized Rumor Spreading.
    """
    _require(peers=peers)
    return log(peers, 3) + log2(log(peers))


def share_missed(fanout: float) -> float:
    """Share that a rumour never reaches: the smaller root of s = e^(-k (1 - s)).

    fanout: k others to whom each tells it once; for a rumour that dies with
    probability 1/c at each call in vain, k = c + 1. At most 1 it reaches nobody.
    Assumes many peers, and a rumour that took off. e^-k is only the first step to s.
    Source: Demers et al. 1987, Epidemic Algorithms, section 1.4.
    """
    _require(fanout=fanout)
    share = 0.0
    for _ in range(10_000):  # towards the smaller root from below
        share = exp(-fanout * (1 - share))
    return share


def all_reached(peers: int, fanout: float) -> float:
    """Probability that everybody is reached: e^(-e^(-c)), c = k - ln n.

    fanout: k, told to others by each; or, in a graph in which each pair knows each
    other with probability p, the n p acquaintances of each: then that it is connected.
    Assumes many peers.
    Source: Kermarrec, Massoulié & Ganesh 2003, IEEE TPDS 14(3); Erdős & Rényi 1959.
    """
    _require(peers=peers, fanout=fanout)
    return exp(-exp(log(peers) - fanout))


def share_cut_off(degree: int, share: float) -> float:
    """Share of the living without a living acquaintance: f^k e^(-k (1 - f)).

    degree: k others whom each knows, who are known by k others on average. share: f
    that dies at once. Assumes many peers.
    Source: k known ones dead, and of a Poisson number of k who know us none alive.
    """
    _require(degree=degree, share=share)
    return share**degree * exp(-degree * (1 - share))


# Finding


def hops_halving(peers: int) -> float:
    """Mean hops where each halves what is left, half of the time: log2(N) / 2.

    Of Chord, to the last node before the key; of Kademlia with one node in a bucket.
    Source: Stoica et al. 2003, IEEE/ACM ToN 11(1), path length.
    """
    _require(peers=peers)
    return log2(peers) / 2


def hops_kademlia(peers: int, copies: int) -> float:
    """Mean hops with k nodes in a bucket: log2 N / (1 + mean longest of k coin runs).

    copies: k. The last buckets hold all there are, so that it is up to 15 % more.
    Source: each hop fixes one bit, and those in which the best of k agrees by chance;
    the order is that of Cai & Devroye 2013, arXiv 1309.5866.
    """
    _require(peers=peers, copies=copies)
    runs = sum(1 - (1 - 2.0**-run) ** copies for run in range(1, 64))
    return log2(peers) / (1 + runs)


def most_keys(peers: int) -> float:
    """How many times the mean the fullest node of a ring holds: 1 + 1/2 + ... + 1/N.

    Source: the mean of the longest of N spacings; David & Nagaraja, Order Statistics.
    """
    _require(peers=peers)
    return sum(1 / number for number in range(1, peers + 1))


def nodes_without_key(peers: int, keys: int) -> float:
    """Share of the ring's nodes that hold no key: (N - 1) / (N - 1 + K).

    More than the (1 - 1/N)^K of balls in equal bins, for arcs differ.
    Source: of N - 1 other nodes and K keys in random order, a node comes first.
    """
    _require(peers=peers, keys=keys)
    return (peers - 1) / (peers - 1 + keys) if peers > 1 else 0.0


def steps_walk(p: float, degree: int) -> float:
    """Mean steps of a random walk to a copy: (1 - q)/q (d - 1)/(d - 2).

    p: q, the share of nodes with a copy. degree: d >= 3 of every node.
    Assumes a random regular graph of many nodes.
    Source: a geometric number of new nodes, and a walk that returns with probability
    1 / (d - 1); for the setting Lv et al. 2002, ICS.
    """
    _require(p=p, degree=degree)
    return (1 - p) / p * (degree - 1) / (degree - 2)


def reached_flood(degree: int, hops: int) -> float:
    """Nodes that a flood reaches: 1 + d ((d - 1)^t - 1) / (d - 2).

    degree: d >= 3 of every node. hops: t, after which nobody passes it on.
    Assumes a random regular graph of far more nodes.
    Source: a tree, in which nobody is reached twice.
    """
    _require(degree=degree)
    return 1 + degree * (float(degree - 1) ** hops - 1) / (degree - 2)
