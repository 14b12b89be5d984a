"""A UDP socket and its many transfers, whoever writes to it, and whatever."""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loopback import (
    FAR,
    PARCEL,
    PATIENCE,
    SHORT,
    Stranger,
    Ways,
    eventually,
    needs_ipv6,
    of_kind,
    over,
    same_pixels,
    setup,
    twin,
    two_sockets,
)
from loopback import no_thread_stays as no_thread_stays  # for every test here

from p2plab.content.chunks import cut
from p2plab.content.content import Chunks
from p2plab.content.offer import ANSWER, Limits, Offer
from p2plab.content.transfer import State, Transfer
from p2plab.core.link import ScriptedLink
from p2plab.core.packet import ACK, DATA, FIN, Kind, Packet, encode
from p2plab.errors import (
    BadContent,
    P2PLabError,
    PeerUnreachable,
    PortInUse,
    TransferRefused,
    TransferStalled,
    TransferStopped,
)
from p2plab.net.udp import REMEMBERED, UdpSocket
from p2plab.protocols import PROTOCOLS, Setup
from p2plab.protocols.best_effort import BestEffortSender

OFFER = Offer("mallory", PARCEL.content, Setup())


def moves_a_picture(here: UdpSocket, there: UdpSocket) -> bool:
    """Say whether the two are still in order."""
    return same_pixels(here.send(there.address, PARCEL, setup()).wait(PATIENCE))


# Offers


@pytest.mark.parametrize(
    ("limits", "told"),
    [(Limits(max_bytes=100), "12,288 bytes"), (Limits(max_transfers=0), "limit")],
)
def test_an_offer_beyond_the_limits_is_refused_and_costs_nothing(
    limits: Limits, told: str
) -> None:
    with two_sockets(limits=limits) as (here, there):
        transfer = here.send(there.address, PARCEL)
        with pytest.raises(TransferRefused, match=told) as refusal:
            transfer.wait(PATIENCE)
        assert refusal.value.partial is transfer
        assert transfer.state is State.FAILED
        assert transfer.assembly is None
        assert there.transfers() == []


def test_the_owner_says_why_an_offer_is_refused() -> None:
    asked = []

    def on_offer(offer: Offer, address: tuple[str, int]) -> str | None:
        asked.append((offer.sender, offer.content.name, address))
        return None if offer.sender == "bob" else "no pictures from you, نه"

    with two_sockets(on_offer=on_offer) as (here, there):
        transfer = here.send(there.address, PARCEL, sender="ann")
        with pytest.raises(TransferRefused, match="no pictures from you, نه"):
            transfer.wait(PATIENCE)
        here.send(there.address, PARCEL, sender="bob").wait(PATIENCE)
        assert [each[0] for each in asked] == ["ann", "bob"]
        assert asked[0][2] == here.address


@pytest.mark.parametrize("words", ["x" * 100_000, "\ud800", "a\nb"])
def test_an_owner_may_refuse_in_any_words(words: str) -> None:
    with two_sockets(on_offer=lambda offer, address: words) as (here, there):
        with pytest.raises(TransferRefused) as refusal:
            here.send(there.address, PARCEL).wait(PATIENCE)
        assert str(refusal.value).isprintable()
        assert len(str(refusal.value)) < 1100


def test_an_owner_who_fails_to_answer_refuses_and_the_socket_lives() -> None:
    def on_offer(offer: Offer, address: tuple[str, int]) -> str | None:
        raise KeyError(offer.sender)

    with two_sockets(on_offer=on_offer) as (here, there):
        with pytest.raises(TransferRefused, match="failed to answer"):
            here.send(there.address, PARCEL).wait(PATIENCE)
        assert isinstance(there.callback_error, KeyError)
        assert moves_a_picture(there, here)


def a_bug(setup: Setup) -> Any:
    raise ZeroDivisionError(setup.protocol)


@pytest.mark.parametrize(
    ("build", "told"), [(lambda setup: object(), "object has no"), (a_bug, "ZeroDiv")]
)
def test_a_receiver_that_cannot_be_made_refuses_and_the_socket_lives(
    build: Any, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PROTOCOLS, "mine", (PROTOCOLS["go_back_n"][0], build))
    with two_sockets() as (here, there):
        with pytest.raises(TransferRefused, match=told):
            here.send(there.address, PARCEL, setup("mine")).wait(PATIENCE)
        assert moves_a_picture(here, there)


def test_whoever_fails_to_hear_news_harms_no_transfer() -> None:
    def on_transfer(transfer: Transfer) -> None:
        raise RuntimeError("cannot show it")

    with two_sockets(on_transfer=on_transfer) as (here, there):
        assert moves_a_picture(here, there)
        assert str(there.callback_error) == "cannot show it"
        assert moves_a_picture(here, there)


@pytest.mark.parametrize(
    "offer",
    [
        b"",
        b"\x00" * 100,
        b"null",
        b"[" * 4000,
        b" " * 5000,
        OFFER.to_bytes()[:-1],
        OFFER.to_bytes().replace(b"selective_repeat", b"carrier_pigeon"),
        OFFER.to_bytes().replace(b'"size": 12288', b'"size": 1e400'),
        OFFER.to_bytes().replace(b'"size": 12288', b'"size": 12289'),
        OFFER.to_bytes().replace(b'"window": 16', b'"window": 99999999999'),
    ],
)
def test_a_malformed_offer_is_refused_in_words_and_the_socket_lives(
    offer: bytes,
) -> None:
    with two_sockets() as (here, there), Stranger(there.address) as mallory:
        answer = mallory.say(Kind.OFFER, words=offer).hear()
        assert answer.kind == Kind.REFUSE
        assert len(answer.payload.decode()) > 20
        assert there.transfers() == []
        assert moves_a_picture(here, there)


def test_an_offer_is_repeated_until_it_is_answered() -> None:
    with UdpSocket() as here, Stranger(here.address) as silent:
        transfer = here.send(silent.address, PARCEL, setup(), patience=PATIENCE)
        first, second = silent.hear(), silent.hear()
        assert first.kind == second.kind == Kind.OFFER
        assert first.payload == second.payload
        assert transfer.state == "offered"


def test_the_same_offer_five_times_is_one_transfer_and_five_answers() -> None:
    news: list[Transfer] = []
    with UdpSocket(on_transfer=news.append) as there, Stranger(there.address) as ann:
        for number in range(5):
            ann.say(Kind.OFFER, words=OFFER.to_bytes(), number=number)
        assert [ann.hear().kind for _ in range(5)] == [Kind.ACCEPT] * 5
        assert len(there.transfers()) == len(news) == 1


def test_an_offer_repeated_after_the_receiver_stopped_is_answered_with_stop() -> None:
    with UdpSocket() as there, Stranger(there.address) as ann:
        ann.say(Kind.OFFER, words=OFFER.to_bytes()).hear()
        there.transfers()[0].stop()
        assert ann.hear().kind == Kind.STOP
        assert ann.say(Kind.OFFER, words=OFFER.to_bytes()).hear().kind == Kind.STOP
        assert ann.say(DATA, words=PARCEL.payloads[0]).hear().kind == Kind.STOP


def test_an_offer_to_a_port_where_nobody_listens_stalls_in_words() -> None:
    with UdpSocket() as here:
        with UdpSocket() as gone:
            nowhere = gone.address
        transfer = here.send(nowhere, PARCEL, patience=SHORT)
        with pytest.raises(TransferStalled, match=r"nobody has answered .* 0\.3"):
            transfer.wait(PATIENCE)
        assert of_kind(transfer.trace, Kind.OFFER)


def test_patience_may_be_endless_at_both_ends() -> None:
    with two_sockets(limits=Limits(patience=math.inf)) as (here, there):
        for _ in range(2):
            transfer = here.send(there.address, PARCEL, patience=math.inf)
            assert same_pixels(transfer.wait(PATIENCE))
        with Stranger(there.address) as ann:
            ann.say(Kind.OFFER, words=OFFER.to_bytes()).hear()
            assert moves_a_picture(there, here)


def test_a_receiver_gives_up_a_sender_that_has_fallen_silent() -> None:
    limits = Limits(patience=SHORT)
    with UdpSocket(limits=limits) as there, Stranger(there.address) as ann:
        ann.say(Kind.OFFER, words=OFFER.to_bytes()).hear()
        ann.say(DATA, seq=0, number=1, words=PARCEL.payloads[0]).hear()
        transfer = there.transfers()[0]
        with pytest.raises(TransferStalled, match=r"has said nothing for 0\.3"):
            transfer.wait(PATIENCE)
        assert transfer.assembly is not None
        assert transfer.assembly.received == 1, "what had come must stay"
        assert "has said nothing" in ann.hear().payload.decode()


# Strangers


def test_nobody_gets_an_answer_about_a_transfer_that_does_not_exist() -> None:
    with UdpSocket() as there, Stranger(there.address) as mallory:
        for kind in (DATA, ACK, FIN, Kind.NAK, Kind.ACCEPT, Kind.REFUSE, Kind.STOP):
            mallory.say(kind, words=b"x" * 1000)
        assert mallory.say(Kind.OFFER).hear().kind == Kind.REFUSE, "the first answer"
        assert mallory.hears_nothing_more()
        assert there.strays == 7


def test_random_bytes_are_counted_and_not_answered() -> None:
    with UdpSocket() as there, Stranger(there.address) as mallory:

        @settings(max_examples=200, deadline=None)
        @given(st.lists(st.binary(max_size=2000), max_size=20), st.booleans())
        def throw(data: list[bytes], like_ours: bool) -> None:
            before = there.strays
            for each in data:
                mallory.throw(b"p2" + each if like_ours else each)
            assert mallory.say(Kind.OFFER).hear().kind == Kind.REFUSE
            assert mallory.hears_nothing_more()
            assert there.strays == before + len(data)

        throw()


def test_a_running_transfer_completes_whatever_strangers_throw_at_both_ends() -> None:
    chance = random.Random(1)
    thrown = 0
    with (
        two_sockets() as (here, there),
        Stranger(there.address) as one,
        Stranger(here.address) as two,
    ):
        link = ScriptedLink(delay=0.005)
        transfer = here.send(there.address, PARCEL, setup("stop_and_wait"), link=link)
        twin(there, transfer)
        while not transfer.ended:
            for datagram in forgeries(transfer, chance):
                one.throw(datagram)
                two.throw(datagram)
                thrown += 1
            for each in (one, two):  # the answer shows that all have been heard
                assert each.say(Kind.OFFER, id=1).hear().kind == Kind.REFUSE
        assert same_pixels(transfer.wait(PATIENCE))
        assert thrown > 100
        assert here.strays == there.strays == thrown
        assert len(there.transfers()) == 1


def forgeries(transfer: Transfer, chance: random.Random) -> list[bytes]:
    """Return what looks like the transfer's packets, whole, cut off and damaged."""
    lie = PARCEL.payloads[0][:4] + bytes(len(PARCEL.payloads[0]) - 4)
    kinds = (DATA, ACK, FIN, Kind.ACCEPT, Kind.REFUSE, Kind.STOP)
    whole = [
        encode(Packet(kind, 0, lie), id, 1)
        for kind in kinds
        for id in (transfer.id, transfer.id | ANSWER)
    ]
    flipped = bytearray(whole[0])
    flipped[chance.randrange(len(flipped))] ^= 1 << chance.randrange(8)
    cut_off = whole[0][: chance.randrange(len(whole[0]))]
    return [*whole, bytes(flipped), cut_off, chance.randbytes(chance.randrange(99))]


def test_damaged_packets_of_the_two_themselves_do_no_harm() -> None:
    with UdpSocket() as there, Stranger(there.address) as ann:
        ann.say(Kind.OFFER, words=OFFER.to_bytes()).hear()
        datagram = encode(Packet(DATA, 0, PARCEL.payloads[0]), 7, 1)
        for bit in range(0, 8 * len(datagram), 97):
            damaged = bytearray(datagram)
            damaged[bit // 8] ^= 1 << bit % 8
            ann.throw(bytes(damaged))
            ann.throw(datagram[: bit // 8])
        ann.throw(datagram)
        assert ann.hear()[:2] == (ACK, 0)
        transfer = there.transfers()[0]
        assert transfer.assembly is not None
        assert transfer.assembly.received == 1
        assert transfer.assembly.ignored == 0
        assert there.strays > 100


def test_two_senders_may_have_the_same_number_for_their_transfers() -> None:
    other = cut(b"another one's")
    offers = {"ann": OFFER, "bob": Offer("bob", other.content, Setup())}
    with (
        UdpSocket() as there,
        Stranger(there.address) as ann,
        Stranger(there.address) as bob,
    ):
        ann.say(Kind.OFFER, words=offers["ann"].to_bytes()).hear()
        bob.say(Kind.OFFER, words=offers["bob"].to_bytes()).hear()
        bob.say(DATA, words=other.payloads[0], number=1).hear()
        bob.say(FIN, seq=1, number=2).hear()
        of_ann, of_bob = there.transfers()
        assert of_bob.wait(PATIENCE).state is State.DONE
        assert of_bob.assembly is not None
        assert of_bob.assembly.data() == b"another one's"
        assert of_ann.state is State.RUNNING
        assert of_ann.progress == 0


def test_a_copy_of_an_offer_from_elsewhere_is_not_taken_for_the_receiver() -> None:
    with (
        two_sockets() as (here, there),
        Stranger(there.address) as mallory,
        Stranger(here.address) as silent,
    ):
        transfer = here.send(silent.address, PARCEL, setup())
        mallory.say(Kind.OFFER, id=transfer.id, words=OFFER.to_bytes()).hear()
        assert transfer.assembly is None, "that one is not our receiver"
        assert not of_kind(transfer.trace, Kind.ACCEPT)
        transfer = here.send(there.address, PARCEL, setup(), link=slow())
        received = twin(there, transfer)
        mallory.say(Kind.OFFER, id=transfer.id, words=transfer.offer.to_bytes()).hear()
        assert transfer.assembly is received.assembly, "whoever was first is"


def test_a_liar_with_a_huge_window_gets_no_room_beyond_the_content() -> None:
    lying = Setup("selective_repeat", window=100_000)
    offer = Offer("mallory", PARCEL.content, lying)
    count = PARCEL.content.count
    with UdpSocket() as there, Stranger(there.address) as mallory:
        mallory.say(Kind.OFFER, words=offer.to_bytes()).hear()
        seqs = [count, count + 1, 99_999, 2**31 - 1, -(2**31)]
        for number, seq in enumerate(seqs, start=1):
            mallory.say(DATA, seq=seq, number=number, words=PARCEL.payloads[0])
            mallory.say(DATA, seq=1, number=10 + number, words=bytes(60_000))
        mallory.say(DATA, seq=count - 1, number=99, words=PARCEL.payloads[-1])
        answers = [mallory.hear()[:2]]
        if answers == [(ACK, -(2**31))]:  # before the window: an old one, it thinks
            answers = [mallory.hear()[:2]]
        assert answers == [(ACK, count - 1)]
        assert mallory.hears_nothing_more()


def test_content_that_is_not_what_was_offered_fails_at_both_ends() -> None:
    payloads = [*PARCEL.payloads[:-1], bytes(len(PARCEL.payloads[-1]))]
    lie = payloads[-1][:3] + PARCEL.payloads[-1][3:4] + payloads[-1][4:]
    with two_sockets() as (here, there):
        parcel = Chunks(PARCEL.content, [*payloads[:-1], lie])
        transfer = here.send(there.address, parcel, setup())
        received = twin(there, transfer)
        with pytest.raises(BadContent, match="fingerprint"):
            received.wait(PATIENCE)
        with pytest.raises(TransferStopped, match="fingerprint"):
            transfer.wait(PATIENCE)
        assert received.picture().size == (64, 64), "what came can be looked at"


def test_a_liar_who_says_finish_at_once_ends_a_transfer_with_holes() -> None:
    with UdpSocket() as there, Stranger(there.address) as mallory:
        mallory.say(Kind.OFFER, words=OFFER.to_bytes()).hear()
        assert mallory.say(FIN, seq=10**6, number=1).hear()[:2] == (ACK, 10**6)
        transfer = there.transfers()[0]
        assert transfer.ended
        assert transfer.assembly is not None
        assert len(transfer.assembly.missing) == PARCEL.content.count


@pytest.mark.parametrize("kind", [ACK, Kind.NAK, FIN, DATA, Kind.OFFER])
@pytest.mark.parametrize("seq", [-1, -(2**31), 2**31 - 1, 5])
def test_a_receiver_that_answers_nonsense_harms_only_its_own_transfer(
    kind: Kind, seq: int
) -> None:
    with two_sockets() as (here, there), Stranger(here.address) as mallory:
        transfer = here.send(mallory.address, PARCEL, setup(), patience=PATIENCE)
        assert mallory.hear().kind == Kind.OFFER
        for number in range(3):
            mallory.say(Kind.ACCEPT, transfer.id | ANSWER, number=number)
        mallory.say(
            kind, transfer.id | ANSWER, seq=seq, number=2**32 - 1, words=b"?" * 999
        )
        assert moves_a_picture(here, there)
        mallory.say(Kind.STOP, transfer.id | ANSWER, words=b"I\x1b[2Jlied\xff")
        with pytest.raises(TransferStopped, match=r"stopped the transfer: I \[2Jlied"):
            transfer.wait(PATIENCE)


# Many at once, and what stays of them


def test_many_transfers_at_once_in_both_directions_over_one_socket() -> None:
    link = ScriptedLink(delay=0.003)
    with two_sockets() as (here, there):
        there_and_back = [(here, there), (there, here)] * 8
        transfers = [
            one.send(other.address, PARCEL, setup(timeout=1.0), link=link)
            for one, other in there_and_back
        ]
        assert all(same_pixels(each.wait(PATIENCE)) for each in transfers)


def test_the_ninth_transfer_waits_for_its_turn_in_words() -> None:
    with two_sockets() as (here, there):
        running = [here.send(there.address, PARCEL, link=slow()) for _ in range(8)]
        for each in running:
            twin(there, each)
        with pytest.raises(
            TransferRefused, match="try again when one of them has ended"
        ):
            here.send(there.address, PARCEL).wait(PATIENCE)
        running[0].stop()
        over(twin(there, running[0]))
        here.send(there.address, PARCEL).wait(PATIENCE)


def slow() -> Ways:
    """Return a link that lets the answers through, and the data much later."""
    late = dict.fromkeys(range(2, 99), FAR.delay)
    return Ways(ScriptedLink(late=late, delay=0), ScriptedLink(delay=0))


def test_a_socket_forgets_what_is_long_over_however_it_ended() -> None:
    with two_sockets() as (here, there):
        for number in range(REMEMBERED + 20):
            transfer = here.send(
                there.address, PARCEL, Setup("stop_and_wait"), link=slow()
            )
            if number % 2:
                received = twin(there, transfer)
                transfer.stop()
                over(received)
            else:
                twin(there, transfer).stop()
                over(transfer)
        for each in (here, there):
            assert len(each.transfers()) <= REMEMBERED + 1


@pytest.mark.parametrize("side", ["sender", "receiver"])
def test_both_ends_of_a_transfer_may_be_on_one_socket(side: str) -> None:
    with UdpSocket() as here:
        assert moves_a_picture(here, here)
        assert len(here.transfers()) == 2
        transfer = here.send(here.address, PARCEL, link=slow())
        eventually(lambda: len(here.transfers()) == 4, "it has come back to us")
        both = here.transfers()[2:]
        next(each for each in both if each.role == side).stop()
        assert all(isinstance(over(each).error, TransferStopped) for each in both)
        assert transfer in both


def test_ids_of_transfers_differ() -> None:
    with two_sockets(limits=Limits(max_transfers=0)) as (here, there):
        transfers = [here.send(there.address, PARCEL) for _ in range(50)]
        assert len({each.id for each in transfers}) == 50
        assert all(0 < each.id < 2**32 for each in transfers)


def test_news_come_when_a_transfer_begins_and_when_it_ends_also_by_stop() -> None:
    news: list[tuple[str, bool]] = []

    def on_transfer(transfer: Transfer) -> None:
        news.append((transfer.role, transfer.ended))

    with two_sockets(on_transfer=on_transfer) as (here, there):
        for stopped_by in ("sender", "receiver"):
            transfer = here.send(there.address, PARCEL, link=slow())
            received = twin(there, transfer)
            (received if stopped_by == "receiver" else transfer).stop()
            eventually(lambda: len(news) == 2, "both news have come")
            assert news == [("receiver", False), ("receiver", True)]
            news.clear()
        here.send(there.address, PARCEL).wait(PATIENCE)
        eventually(lambda: len(news) == 2, "both news have come")


@pytest.mark.parametrize("act", [Transfer.stop, None])
def test_whoever_hears_the_news_may_stop_the_transfer_or_close_the_socket(
    act: Callable[[Transfer], None] | None,
) -> None:
    sockets: list[UdpSocket] = []

    def on_transfer(transfer: Transfer) -> None:
        if act is None:
            sockets[0].close()
        else:
            act(transfer)

    with two_sockets(on_transfer=on_transfer) as (here, there):
        sockets.append(there)
        transfer = here.send(there.address, PARCEL, link=slow())
        with pytest.raises(TransferStopped):
            transfer.wait(PATIENCE)
        assert there.callback_error is None


# Ports, addresses, closing


def test_a_port_in_use_is_refused_with_what_to_do() -> None:
    with UdpSocket() as first, pytest.raises(PortInUse, match="port 0"):
        UdpSocket(port=first.address[1])


@pytest.mark.parametrize(
    ("host", "port", "told"),
    [("127.0.0.1", 65_536, "65535"), ("127.0.0.1", -1, "-1"), ("192.0.2.1", 0, "host")],
)
def test_a_host_or_port_that_cannot_be_ours_is_refused(
    host: str, port: int, told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        UdpSocket(host, port)


@pytest.mark.parametrize(
    "address",
    [("127.0.0.1", 0), ("127.0.0.1", 65_536), ("127.0.0.1", -1), ("no such host!", 9)],
)
def test_an_address_that_cannot_exist_is_refused_before_anything_is_sent(
    address: tuple[str, int],
) -> None:
    with UdpSocket() as here:
        with pytest.raises(PeerUnreachable):
            here.send(address, PARCEL)
        assert here.transfers() == []


def test_closing_twice_is_fine_and_leaves_no_thread() -> None:
    here = UdpSocket()
    address = here.address
    here.close()
    here.close()
    assert here.address == address, "it can still say where it was"
    UdpSocket(port=address[1]).close()  # the port is free again


def test_a_closed_socket_says_so_instead_of_sending() -> None:
    with UdpSocket() as there:
        here = UdpSocket()
        here.close()
        with pytest.raises(P2PLabError, match="closed"):
            here.send(there.address, PARCEL)


@pytest.mark.parametrize("again", range(20))
def test_transfers_offered_while_the_socket_closes_all_end(again: int) -> None:
    transfers: list[Transfer] = []

    def offer() -> None:
        with suppress(P2PLabError):
            while True:
                transfers.append(here.send(there.address, PARCEL, link=FAR))

    many = Limits(max_transfers=1_000_000)
    with UdpSocket(limits=many) as there, UdpSocket() as here:
        thread = threading.Thread(target=offer)
        thread.start()
        eventually(lambda: transfers, "the first one is offered")
        here.close()
        thread.join(PATIENCE)
        for each in transfers:
            with pytest.raises(P2PLabError, match="closed"):
                each.wait(PATIENCE)


def test_two_hosts_may_speak_ipv6() -> None:
    needs_ipv6()
    with UdpSocket("::1") as here, UdpSocket("::1") as there:
        assert here.address[0] == "::1"
        assert moves_a_picture(here, there)
        assert same_pixels(
            here.send(("0:0::1", there.address[1]), PARCEL, setup()).wait(PATIENCE)
        )
        with UdpSocket() as old, pytest.raises(PeerUnreachable, match="no address"):
            old.send(there.address, PARCEL)


def test_a_window_that_is_too_large_for_the_numbers_ends_one_way_or_another() -> None:
    lesson = replace(setup(), window=100, seq_bits=1)
    with two_sockets() as (here, there):
        transfer = here.send(there.address, PARCEL, lesson, patience=SHORT)
        assert over(transfer).ended
        assert moves_a_picture(here, there)


class Leaving(BestEffortSender):
    def next_packet(self, now: float) -> Packet | None:
        raise SystemExit


class Timeless(BestEffortSender):
    @property
    def deadline(self) -> float | None:
        if self.payloads:
            raise RuntimeError("no clock")
        return None

    @deadline.setter
    def deadline(self, value: float | None) -> None: ...


@pytest.mark.parametrize(("sender", "why"), [(Leaving, "Exit"), (Timeless, "no clock")])
def test_a_machine_that_calls_exit_or_has_no_deadline_harms_no_other_transfer(
    monkeypatch: pytest.MonkeyPatch, sender: type[BestEffortSender], why: str
) -> None:
    _, receiver = PROTOCOLS["best_effort"]
    monkeypatch.setitem(PROTOCOLS, "odd", (lambda setup, rtt: sender(), receiver))
    with two_sockets() as (here, there):
        transfer = here.send(there.address, PARCEL, Setup("odd"))
        with pytest.raises(P2PLabError, match=why):
            transfer.wait(PATIENCE)
        assert moves_a_picture(here, there)
