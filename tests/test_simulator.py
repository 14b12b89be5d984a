"""The simulator: the same run every time, in virtual time, on every machine."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from p2plab.core.endpoint import FixedWindow
from p2plab.core.link import GilbertElliott, Link, ScriptedLink
from p2plab.core.packet import Packet
from p2plab.core.rtt import FixedRto, Rfc6298
from p2plab.core.trace import RECEIVER, SENDER
from p2plab.errors import BrokenContract, TransferStalled
from p2plab.protocols import PROTOCOLS, Setup
from p2plab.protocols.go_back_n import GoBackNReceiver, GoBackNSender
from p2plab.sim.simulator import Run, simulate

TEXTBOOK = ["stop_and_wait", "go_back_n", "selective_repeat"]
PAYLOADS = [b"payload %d" % number for number in range(30)]
NASTY = Link(
    loss=0.1, jitter=0.02, duplicate=0.1, corrupt=0.2, reorder=0.1, rate=1e6,
    queue=25, seed=11,
)  # fmt: skip


def run(setup: Setup, link: Any = NASTY, **options: Any) -> Run:
    return simulate(setup.sender(), setup.receiver(), PAYLOADS, link, **options)


# The same run every time

DIGESTS = {  # their first 128 bits
    "best_effort": "3e390ba0e907b9331572595cdb8641bf",
    "stop_and_wait": "e36b319d95f3a488d6fc47df0e26d383",
    "go_back_n": "2c65e73071bcf811a1962aba8593c0f6",
    "selective_repeat": "76e3582456c6ad5193c93c155d88d8dd",
    "fast": "80fe8025911329c1da4bf33977c0f6b1",
    "fountain": "da48a87f54cb82b96e52f7acd6c707ec",
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_seed_gives_this_very_trace_on_every_platform(protocol: str) -> None:
    """If a page or the driver changed what it does, look at the new trace, then
    write down its digest; if nothing did, two machines disagree, and that is a bug.
    """
    digest = run(Setup(protocol, window=4)).trace.digest()
    assert digest[:32] == DIGESTS[protocol]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "link",
    [NASTY, Link(loss=GilbertElliott.from_mean(0.2, 5), seed=1)],
    ids=["", "bursts"],
)
def test_everything_arrives_once_and_in_order_with_a_trace_on_a_wire_or_without(
    protocol: str, link: Link
) -> None:
    setup, got = Setup(protocol, window=4, timeout=0.5), list[bytes]()
    kept = run(setup, link, on_payload=got.append)
    assert kept.done
    assert kept.delivered == got
    assert protocol == "best_effort" or got == PAYLOADS
    wire = run(setup, link, wire=True)
    bare = run(setup, link, record=False)
    assert wire.trace.rows == kept.trace.rows
    assert (bare.trace.rows, bare.trace.states) == ([], [])
    for other in (wire, bare):
        assert (other.delivered, other.time) == (kept.delivered, kept.time)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nothing_to_send_is_a_short_run(protocol: str) -> None:
    setup = Setup(protocol)
    result = simulate(setup.sender(), setup.receiver(), [])
    assert (result.done, result.delivered) == (True, [])


def test_ten_thousand_payloads_take_seconds_not_minutes() -> None:
    setup, before = Setup("selective_repeat", window=64), time.perf_counter()
    link = Link(loss=0.01, jitter=0.001)
    simulate(setup.sender(), setup.receiver(), [bytes(1000)] * 10_000, link)
    assert time.perf_counter() - before < 10  # about 0.3: a quadratic step would show


@pytest.mark.parametrize("protocol", TEXTBOOK)
def test_a_run_ends_when_both_sides_are_done(protocol: str) -> None:
    setup = Setup(protocol, window=4, timeout=1.0)
    sender, receiver = setup.sender(), setup.receiver()
    result = simulate(sender, receiver, PAYLOADS, ScriptedLink(delay=0.25))
    last = max(row.time for row in result.trace if row.what == "deliver")
    assert sender.deadline is receiver.deadline is None
    assert result.time == last + 0.25 + 0.25 + 0.25  # ACK, FIN, its ACK


# Options


@pytest.mark.parametrize("protocol", [*TEXTBOOK, "fast"])
def test_a_transfer_of_hours_on_a_wire_outlives_patience_and_the_stamps(
    protocol: str,
) -> None:
    """They have 32 bits of microseconds, and begin anew after 71 minutes."""
    link = ScriptedLink(delay=100.0)
    result = run(Setup(protocol, window=1), link, wire=True)
    assert result.delivered == PAYLOADS
    srtt = result.trace.state(SENDER, "rtt.srtt")
    assert srtt[-1, 0] > 2**32 / 1e6
    assert srtt[-1, 1] == pytest.approx(200.0, abs=1e-3)


def test_the_way_back_can_be_another_link_s_way_back() -> None:
    setup, back = Setup("stop_and_wait", timeout=1.0), ScriptedLink({1}, lose_back={2})
    result = run(setup, ScriptedLink(delay=0.25), back=replace(back, delay=0.125))
    acks = [row for row in result.trace if row.host == SENDER and row.what == "arrive"]
    assert acks[0].time == 0.375
    lost = [row for row in result.trace if row.what == "loss"]
    assert [(row.host, row.number) for row in lost] == [(RECEIVER, 1)]


def test_a_link_is_asked_for_the_bytes_that_a_packet_has_on_the_wire() -> None:
    setup, link = Setup("stop_and_wait"), Link(delay=0.0, rate=8000)
    result = simulate(setup.sender(), setup.receiver(), [bytes(1000 - 28)], link)
    arrived = [row.time for row in result.trace if row.what == "arrive"]
    assert arrived[0] == 1.0  # 28 bytes of header, 972 of payload, at 1,000 a second


# Giving up


def test_when_nothing_gets_through_patience_ends_and_what_there_was_is_kept() -> None:
    setup = Setup("go_back_n", window=4, timeout=1.0)
    link = ScriptedLink(lose=frozenset(range(9, 10_000)))
    with pytest.raises(TransferStalled, match=r"for 30 s .* 8 payloads") as caught:
        run(setup, link, patience=30.0)
    partial = caught.value.partial
    assert isinstance(partial, Run)
    assert (partial.delivered, partial.done) == (PAYLOADS[:8], False)
    assert 30.0 < partial.time < 33.0
    assert partial.trace.rows[-1].what in ("timeout", "loss", "retransmit")


def test_a_broken_promise_carries_the_run_until_then() -> None:
    class Tired(GoBackNReceiver):
        def on_packet(self, packet: Packet, now: float) -> None:
            if packet.seq == 5:
                raise RuntimeError("tired")
            super().on_packet(packet, now)

    sender = GoBackNSender(FixedRto(1.0), FixedWindow(4))
    with pytest.raises(BrokenContract, match=r"Tired: .* on_packet raised") as caught:
        simulate(sender, Tired(), PAYLOADS, ScriptedLink())
    partial = caught.value.partial
    assert isinstance(partial, Run)
    assert partial.delivered == PAYLOADS[:5]
    assert partial.trace.rows[-1].seq == 5


# Whole stories


def test_karn_s_trap_pins_go_back_n_s_timeout_and_timestamps_cure_it() -> None:
    """A loss in every window: each packet is sent twice, so none may be timed."""
    link = Link(delay=0.05, rate=2e6, reorder=0.3, reorder_delay=0.02, loss=0.1, seed=3)

    def rtos(timestamps: bool) -> Any:
        rtt = Rfc6298(timestamps=timestamps)
        sender = GoBackNSender(rtt, FixedWindow(16))
        payloads = [b"%d" % number for number in range(200)]
        result = simulate(sender, GoBackNReceiver(), payloads, link)
        assert result.delivered == payloads
        return result.trace.state(SENDER, "rtt.rto")[:, 1]

    assert rtos(timestamps=False).max() > 10
    assert rtos(timestamps=True).max() < 3
