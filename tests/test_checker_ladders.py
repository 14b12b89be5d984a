"""The ladder of a verdict: short, and it says what was wrong and where."""

from __future__ import annotations

import first_attempt
from first_attempt import Receiver

from p2plab.checker import check
from p2plab.checker.verdict import ladder
from p2plab.core.packet import ACK, Packet
from p2plab.core.trace import RETRANSMIT, SEND, TIMEOUT, Row, Trace


class Impatient(first_attempt.Sender):
    rto = 0.012


class Deaf(Receiver):
    def on_packet(self, packet: Packet, now: float) -> None:
        return


class Credulous(Receiver):
    """Hands over every copy."""

    def on_packet(self, packet: Packet, now: float) -> None:
        self.inbox.append(packet.payload)
        self.acks.append(Packet(ACK, packet.seq))


class Raising(Receiver):
    def on_packet(self, packet: Packet, now: float) -> None:
        raise KeyError(packet.seq)


def test_a_ladder_has_at_most_25_packets_and_says_where_it_was_cut() -> None:
    verdict = check(Impatient, Receiver)
    sends = [row for row in verdict.trace if row.what in (SEND, RETRANSMIT)]
    assert len(sends) == 25
    assert verdict.trace.about["cut"].startswith("the first 25 of ")


def test_of_what_goes_on_for_ever_there_are_three_rounds() -> None:
    verdict = check(first_attempt.Sender, Deaf)
    assert sum(row.what == TIMEOUT for row in verdict.trace) <= 5
    assert verdict.trace.about["cut"].startswith("… and so on, ")
    assert " times more)" in verdict._repr_html_()


def test_it_says_which_payload_was_delivered_and_that_it_was_not_the_next() -> None:
    page = check(first_attempt.Sender, Credulous)._repr_html_()
    assert page.count("delivers b&#x27;A&#x27;") == 2
    assert "✗ this was not next" in page


def test_a_packet_that_was_overtaken_is_called_late() -> None:
    page = check(first_attempt.Sender, Credulous, "late")._repr_html_()
    assert "delivers payload" not in page
    rows = [Row(0.0, "sender", SEND, 1, n, 1, n) for n in (0, 1)]
    rows += [Row(0.1, "receiver", "arrive", 1, n, 1, n) for n in (1, 0)]
    assert "DATA 0 late, 0.1 s" in ladder(Trace(rows=rows))


def test_it_shows_where_an_exception_was_raised() -> None:
    page = check(first_attempt.Sender, Raising)._repr_html_()
    assert "✗ raises an exception here" in page


def test_a_packet_under_way_is_the_beginning_of_an_arrow() -> None:
    trace = Trace(rows=[Row(0.0, "sender", SEND, 1, 0, 1, 0)])
    assert ladder(trace).count("<line") == 2 + 1
