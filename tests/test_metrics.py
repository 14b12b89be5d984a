"""The numbers of a run, small enough to be counted by hand."""

from __future__ import annotations

import pytest

from p2plab.core.link import AnyLink, Link, ScriptedLink
from p2plab.core.packet import ACK, DATA, HEADER_SIZE
from p2plab.core.trace import RECEIVER, SENDER, Trace
from p2plab.measure.metrics import deliveries, rtt_samples, summarise, transmissions
from p2plab.protocols import PROTOCOLS, Setup
from p2plab.sim.simulator import simulate


def run(setup: Setup, link: AnyLink, count: int = 10, size: int = 100) -> Trace:
    payloads = [bytes([i % 256]) * size for i in range(count)]
    return simulate(setup.sender(), setup.receiver(), payloads, link).trace


def seen_by(host: str, trace: Trace) -> Trace:
    """Return what one of the two hosts would have recorded."""
    return Trace(
        trace.about,
        {host: trace.names[host]},
        [row for row in trace.rows if row[1] == host],
        [state for state in trace.states if state[1] == host],
    )


STOP_AND_WAIT = Setup("stop_and_wait", timeout=0.25)
GO_BACK_4 = Setup("go_back_n", window=4, timeout=0.25)


def test_a_lost_packet_and_a_lost_ack_are_counted_each_as_what_it_is() -> None:
    summary = summarise(run(STOP_AND_WAIT, ScriptedLink(lose=(2,), lose_back=(3,)), 4))
    assert (summary.lost_data, summary.lost_acks) == (1, 1)
    assert (summary.sent, summary.retransmitted, summary.timeouts) == (6, 2, 2)
    assert (summary.delivered, summary.delivered_bytes) == (4, 400)
    assert summary.acks == 6  # the FIN's ACK is one of them
    assert summary.transmissions_per_packet == 6 / 4
    assert summary.vanished == 0


def test_a_transfer_lasts_from_its_first_sending_to_its_last_delivery() -> None:
    summary = summarise(run(STOP_AND_WAIT, Link(delay=0.05), 10))
    assert summary.duration == pytest.approx(0.95)  # neither FIN nor lingering
    assert summary.goodput == pytest.approx(8 * 1000 / 0.95)


def test_a_delay_counts_the_waiting_for_an_earlier_packet() -> None:
    setup = Setup("selective_repeat", window=4, timeout=0.25)
    summary = summarise(run(setup, ScriptedLink(lose=(1,)), 4))
    assert summary.mean_delay == pytest.approx(0.30)  # all four wait for the first
    assert summary.p95_delay == pytest.approx(0.30)
    summary = summarise(run(setup, ScriptedLink(lose=(4,)), 4))
    assert summary.mean_delay == pytest.approx((3 * 0.05 + 0.30) / 4)


def test_goodput_counts_a_payload_once_though_best_effort_hands_over_its_copies() -> (
    None
):
    setup = Setup("best_effort")
    link = ScriptedLink(lose=(2,), duplicate=(1, 4), late={4: 0.05})
    payloads = [bytes([i]) * 100 for i in range(4)]
    whole = simulate(setup.sender(), setup.receiver(), payloads, link)
    assert len(whole.delivered) == 5  # 1 and its copy, 3, 4 and its copy
    for trace, seconds in ((whole.trace, 0.1), (seen_by(RECEIVER, whole.trace), 0.05)):
        summary = summarise(trace, rate=48_000)
        assert (summary.delivered, summary.delivered_bytes) == (3, 300)
        assert summary.goodput == pytest.approx(8 * 300 / seconds)
        share = 3 * 8 * (100 + HEADER_SIZE) / 48_000 / seconds
        assert summary.utilisation == pytest.approx(share)


@pytest.mark.parametrize("protocol", [*PROTOCOLS])
def test_what_is_delivered_is_counted_once_and_all_of_it(protocol: str) -> None:
    link = Link(0.01, loss=0.1, duplicate=0.2, reorder=0.2, corrupt=0.05, seed=1)
    whole = run(Setup(protocol), link, 80)
    summary, alone = summarise(whole), summarise(seen_by(RECEIVER, whole))
    count = summary.delivered or 0
    assert 50 < count <= 80 if protocol == "best_effort" else count == 80
    assert summary.delivered_bytes == 100 * count
    assert [alone.sent, alone.lost_data, alone.timeouts] == [None] * 3
    assert alone.goodput is not None


def test_copies_damage_and_overflow_are_counted() -> None:
    link = ScriptedLink(corrupt=(1,), duplicate=(3,))
    summary = summarise(run(STOP_AND_WAIT, link, 4))
    assert (summary.corrupted, summary.duplicated) == (1, 1)
    crowded = Setup("selective_repeat", window=8, timeout=1.0)
    summary = summarise(run(crowded, Link(rate=1e5, queue=3), 8))
    assert summary.overflowed == 4


def test_the_sender_alone_does_not_know_what_arrived() -> None:
    whole = run(GO_BACK_4, ScriptedLink(lose=(2,)), 12)
    summary, full = summarise(seen_by(SENDER, whole)), summarise(whole)
    assert (summary.sent, summary.timeouts) == (full.sent, full.timeouts)
    assert (summary.lost_data, summary.mean_rtt) == (1, full.mean_rtt)
    assert summary.duration == pytest.approx(float(full.duration or 0) + 0.05)
    assert summary.delivered is summary.goodput is summary.lost_acks is None
    assert summary.vanished is summary.mean_delay is None
    acks = [m for m in transmissions(seen_by(SENDER, whole)) if m.kind == ACK]
    assert acks  # nobody saw them being sent
    assert {(move.host, move.sent_at) for move in acks} == {(RECEIVER, None)}


def test_coded_packets_explain_why_more_was_sent_than_payloads() -> None:
    summary = summarise(run(Setup("fast"), Link(0.01, loss=0.2, seed=1), 40))
    assert summary.coded
    assert summary.retransmitted is not None
    assert summary.sent == 40 + summary.retransmitted + summary.coded
    fountain = summarise(run(Setup("fountain"), Link(0.01, loss=0.2, seed=1), 40))
    assert fountain.sent == fountain.coded
    assert summarise(run(GO_BACK_4, Link(0.01, loss=0.2, seed=1), 12)).coded == 0


def test_two_halves_put_together_have_the_numbers_of_the_whole() -> None:
    whole = run(GO_BACK_4, Link(loss=0.2, seed=1), 40)
    merged = seen_by(SENDER, whole).merged(seen_by(RECEIVER, whole))
    assert summarise(merged) == summarise(whole)
    # what neither of them threw away, and nobody got, has vanished
    merged.rows.remove(next(row for row in merged if row.what == "arrive"))
    assert summarise(merged).vanished == 1


def test_an_empty_trace_has_no_numbers_and_no_error() -> None:
    summary = summarise(Trace(), rate=1e6)
    assert all(value is None for _, value, _ in summary.rows())
    assert "unknown" in str(summary)


def test_best_effort_has_numbers_only_of_what_arrived() -> None:
    summary = summarise(run(Setup("best_effort"), ScriptedLink(lose=(1, 3)), 4))
    assert (summary.sent, summary.lost_data, summary.delivered) == (4, 2, 2)
    assert summary.mean_delay == pytest.approx(0.05)
    summary = summarise(run(Setup("best_effort"), ScriptedLink(lose=(1, 2)), 2))
    assert (summary.delivered, summary.goodput, summary.duration) == (0, 0.0, None)


def test_every_transmission_is_matched_with_its_fate() -> None:
    trace = run(GO_BACK_4, ScriptedLink(lose=(4,), duplicate=(1,)), 10)
    data = [move for move in transmissions(trace) if move.kind == DATA]
    assert [move.payload for move in data[:8]] == [0, 1, 2, 3, 4, 5, 6, 3]
    assert [move.again for move in data[6:8]] == [False, True]
    assert (data[3].fate, data[3].arrived_at) == ("loss", None)
    assert [what for _, what in data[0].fates] == ["arrive", "duplicate"]
    assert data[1].arrived_at == pytest.approx(0.05)


def test_a_payload_keeps_its_place_when_numbers_on_the_wire_repeat() -> None:
    setup = Setup("stop_and_wait", timeout=0.25, seq_bits=1)
    trace = run(setup, ScriptedLink(lose=(3,)), 4)
    data = [m for m in transmissions(trace) if m.kind == DATA]
    assert [m.seq for m in data] == [0, 1, 0, 0, 1]
    assert [m.payload for m in data] == [0, 1, 2, 2, 3]
    assert summarise(trace).mean_delay == pytest.approx((3 * 0.05 + 0.30) / 4)


def test_a_round_trip_of_a_packet_sent_twice_is_marked() -> None:
    samples = rtt_samples(run(STOP_AND_WAIT, ScriptedLink(lose=(2,)), 3))
    assert [again for _, _, again in samples] == [False, True, False, False]
    assert [rtt for _, rtt, _ in samples] == pytest.approx([0.1] * 4)


@pytest.mark.parametrize("protocol", ["fast", "fountain"])
def test_a_payload_that_a_coded_packet_made_known_is_delivered_in_its_turn(
    protocol: str,
) -> None:
    if protocol == "fountain":
        pytest.importorskip("raptorq")
    setup = Setup(protocol, window=64)
    run = simulate(
        setup.sender(), setup.receiver(), [bytes(100)] * 60, Link(0.05, loss=0.2)
    )
    moves = transmissions(run.trace)
    assert any(move.seq < 0 for move in moves)
    assert [n for _, n in deliveries(run.trace.rows, moves)] == [*range(60)]
