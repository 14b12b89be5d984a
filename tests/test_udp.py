"""A UDP socket and its many transfers, whoever writes to it, and whatever."""

from __future__ import annotations

import contextvars
import math
import random
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from loopback import (
    CHUNKS,
    FAR,
    PATIENCE,
    SHORT,
    Stranger,
    assembled,
    both_ends,
    eventually,
    needs_ipv6,
    of_kind,
    over,
    same_pixels,
    setup,
    twin,
    two_sockets,
    ways,
)
from loopback import no_thread_stays as no_thread_stays  # for every test here

from p2plab.content.chunks import cut
from p2plab.content.content import Chunks
from p2plab.content.offer import ANSWER, Limits, Offer
from p2plab.content.transfer import State, Transfer
from p2plab.core.link import AnyLink, ScriptedLink
from p2plab.core.packet import ACK, DATA, FIN, NAK, Kind, Packet, encode
from p2plab.core.trace import RECEIVER, SENDER
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

OFFER = Offer("mallory", CHUNKS.content, Setup())


def moves_a_picture(here: UdpSocket, there: UdpSocket) -> bool:
    """Say whether the two are still in order."""
    return same_pixels(here.send(there.address, CHUNKS, setup()).wait(PATIENCE))


def refused(here: UdpSocket, there: UdpSocket, setup: Setup | None = None) -> str:
    """Return the reason of a refusal."""
    with pytest.raises(TransferRefused) as refusal:
        here.send(there.address, CHUNKS, setup).wait(PATIENCE)
    return str(refusal.value)


def offering(
    stranger: Stranger, offer: bytes = OFFER.to_bytes(), id: int = 7
) -> Packet:
    """Let a stranger make an offer, and return the answer."""
    return stranger.say(Kind.OFFER, id, words=offer).hear()


def slow() -> AnyLink:
    """Return a link that lets the answers through, and the data much later."""
    late = dict.fromkeys(range(2, 99), FAR.delay)
    return ways(ScriptedLink(late=late, delay=0), ScriptedLink(delay=0))


# Offers


@pytest.mark.parametrize(
    ("limits", "told"),
    [(Limits(max_bytes=100), "12,288 bytes"), (Limits(max_transfers=0), "limit")],
)
def test_an_offer_beyond_the_limits_is_refused_and_costs_nothing(
    limits: Limits, told: str
) -> None:
    with two_sockets(limits=limits) as (here, there):
        transfers = [here.send(there.address, CHUNKS) for _ in range(3)]
        for each in transfers:
            with pytest.raises(TransferRefused, match=told) as refusal:
                each.wait(PATIENCE)
            assert refusal.value.partial is each
            assert each.state is State.FAILED
        assert there.transfers() == []
        assert len({each.id for each in transfers}) == 3


def test_the_owner_decides_about_offers_and_says_why() -> None:
    asked = []

    def on_offer(offer: Offer, address: tuple[str, int]) -> str | None:
        asked.append((offer.sender, address))
        return None if offer.sender == "bob" else "no pictures from you, نه"

    with two_sockets(on_offer=on_offer) as (here, there):
        assert "no pictures from you, نه" in refused(here, there)
        here.send(there.address, CHUNKS, sender="bob").wait(PATIENCE)
        assert asked == [("", here.address), ("bob", here.address)]


def test_callbacks_that_fail_are_kept_and_the_socket_lives() -> None:
    def on_offer(offer: Offer, address: tuple[str, int]) -> str | None:
        raise KeyError(offer.sender)

    def on_transfer(transfer: Transfer) -> None:
        raise SystemExit("cannot show it")

    with two_sockets(on_offer=on_offer) as (here, there):
        assert "failed to answer" in refused(here, there)
        assert isinstance(there.callback_error, KeyError)
        assert moves_a_picture(there, here)
    with two_sockets(on_transfer=on_transfer) as (here, there):
        assert moves_a_picture(here, there)
        assert isinstance(there.callback_error, SystemExit)


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
        assert told in refused(here, there, setup("mine"))
        assert moves_a_picture(here, there)


def test_a_malformed_offer_is_refused_in_words_and_the_socket_lives() -> None:
    offer = OFFER.to_bytes()
    with two_sockets() as (here, there), Stranger(there.address) as mallory:
        for each in (b"", b"null", offer[:-1], offer.replace(b"12288", b"1e400")):
            answer = offering(mallory, each)
            assert answer.kind == Kind.REFUSE
            assert len(answer.payload.decode()) > 20
        assert there.transfers() == []
        assert moves_a_picture(here, there)


def test_an_offer_is_repeated_until_it_is_answered() -> None:
    with UdpSocket() as here, Stranger(here.address) as silent:
        transfer = here.send(silent.address, CHUNKS, setup(), patience=PATIENCE)
        first, second = silent.hear(), silent.hear()
        assert first.kind == second.kind == Kind.OFFER
        assert first.payload == second.payload
        assert transfer.state is State.OFFERED
        transfer.stop()
        assert isinstance(transfer.error, TransferStopped)


def test_the_same_offer_again_is_the_same_transfer_and_told_once() -> None:
    news: list[Transfer] = []
    with UdpSocket(on_transfer=news.append) as there, Stranger(there.address) as ann:
        assert [offering(ann).kind for _ in range(5)] == [Kind.ACCEPT] * 5
        assert there.transfers() == news
        (transfer,) = news
        transfer.stop()
        assert ann.hear().kind == Kind.STOP
        assert offering(ann).kind == Kind.STOP
        assert ann.say(DATA, words=CHUNKS.payloads[0]).hear().kind == Kind.STOP


def test_an_offer_to_a_port_where_nobody_listens_stalls_in_words() -> None:
    with UdpSocket() as here:
        with UdpSocket() as gone:
            nowhere = gone.address
        transfer = here.send(nowhere, CHUNKS, patience=SHORT)
        with pytest.raises(TransferStalled, match=r"nobody has answered .* 0\.3"):
            transfer.wait(PATIENCE)
        assert of_kind(transfer.trace, Kind.OFFER)


def test_a_receiver_gives_up_a_sender_that_has_fallen_silent() -> None:
    limits = Limits(patience=SHORT)
    with UdpSocket(limits=limits) as there, Stranger(there.address) as ann:
        offering(ann)
        ann.say(DATA, seq=0, number=1, words=CHUNKS.payloads[0]).hear()
        transfer = there.transfers()[0]
        with pytest.raises(TransferStalled, match=r"has said nothing for 0\.3"):
            transfer.wait(PATIENCE)
        assert assembled(transfer).received == 1, "what had come must stay"
        assert "has said nothing" in ann.hear().payload.decode()


# Strangers


def test_nobody_gets_an_answer_about_a_transfer_that_does_not_exist() -> None:
    with UdpSocket() as there, Stranger(there.address) as mallory:
        for kind in (DATA, ACK, FIN, NAK, Kind.ACCEPT, Kind.REFUSE, Kind.STOP):
            mallory.say(kind, words=b"x" * 1000)
        assert offering(mallory, b"").kind == Kind.REFUSE, "the first answer"
        assert mallory.hears_nothing_more()
        assert there.strays == 7


def test_a_running_transfer_completes_whatever_strangers_throw_at_both_ends() -> None:
    chance = random.Random(1)
    thrown = 0
    with (
        two_sockets() as (here, there),
        Stranger(there.address) as one,
        Stranger(here.address) as two,
    ):
        link = ScriptedLink(delay=0.005)
        transfer = here.send(there.address, CHUNKS, setup("stop_and_wait"), link=link)
        twin(there, transfer)
        while not transfer.ended:
            for datagram in forgeries(transfer, chance):
                one.throw(datagram)
                two.throw(datagram)
                thrown += 1
            for each in (one, two):  # the answer shows that all have been heard
                assert offering(each, b"", id=1).kind == Kind.REFUSE
        assert same_pixels(transfer.wait(PATIENCE))
        assert thrown > 100
        assert here.strays == there.strays == thrown
        assert len(there.transfers()) == 1


def forgeries(transfer: Transfer, chance: random.Random) -> list[bytes]:
    """Return what looks like the transfer's packets, whole, cut off and damaged."""
    lie = CHUNKS.payloads[0][:4] + bytes(len(CHUNKS.payloads[0]) - 4)
    whole = [
        encode(Packet(kind, 0, lie), id, 1)
        for kind in (DATA, ACK, FIN, Kind.ACCEPT, Kind.REFUSE, Kind.STOP)
        for id in (transfer.id, transfer.id | ANSWER)
    ]
    flipped = bytearray(whole[0])
    flipped[chance.randrange(len(flipped))] ^= 1 << chance.randrange(8)
    cut_off = whole[0][: chance.randrange(len(whole[0]))]
    noise = [chance.randbytes(chance.randrange(2000)), b"p2" + chance.randbytes(40)]
    return [*whole, bytes(flipped), cut_off, *noise]


def test_two_senders_may_have_the_same_number_for_their_transfers() -> None:
    other = cut(b"another one's")
    with (
        UdpSocket() as there,
        Stranger(there.address) as ann,
        Stranger(there.address) as bob,
    ):
        offering(ann)
        offering(bob, Offer("bob", other.content, Setup()).to_bytes())
        bob.say(DATA, words=other.payloads[0], number=1).hear()
        bob.say(FIN, seq=1, number=2).hear()
        of_ann, of_bob = there.transfers()
        assert assembled(of_bob.wait(PATIENCE)).data() == b"another one's"
        assert of_ann.state is State.RUNNING
        assert of_ann.progress == 0


def test_a_copy_of_an_offer_from_elsewhere_is_not_taken_for_the_receiver() -> None:
    with (
        two_sockets() as (here, there),
        Stranger(there.address) as mallory,
        Stranger(here.address) as silent,
    ):
        transfer = here.send(silent.address, CHUNKS, setup())
        offering(mallory, id=transfer.id)
        assert transfer.assembly is None, "that one is not our receiver"
        assert not of_kind(transfer.trace, Kind.ACCEPT)
        transfer = here.send(there.address, CHUNKS, setup(), link=slow())
        received = twin(there, transfer)
        offering(mallory, transfer.offer.to_bytes(), id=transfer.id)
        assert transfer.assembly is received.assembly, "whoever was first is"


def test_a_liar_with_a_huge_window_gets_no_room_beyond_the_content() -> None:
    lying = Setup("selective_repeat", window=100_000)
    count = CHUNKS.content.count
    with UdpSocket() as there, Stranger(there.address) as mallory:
        offering(mallory, Offer("mallory", CHUNKS.content, lying).to_bytes())
        seqs = [count, count + 1, 99_999, 2**31 - 1, -(2**31)]
        for number, seq in enumerate(seqs, start=1):
            mallory.say(DATA, seq=seq, number=number, words=CHUNKS.payloads[0])
            mallory.say(DATA, seq=1, number=10 + number, words=bytes(60_000))
        mallory.say(DATA, seq=count - 1, number=99, words=CHUNKS.payloads[-1])
        answers = [mallory.hear()[:2]]
        if answers == [(ACK, -(2**31))]:  # before the window: an old one, it thinks
            answers = [mallory.hear()[:2]]
        assert answers == [(ACK, count - 1)]
        assert mallory.hears_nothing_more()
        assert mallory.say(FIN, seq=10**6, number=100).hear()[:2] == (ACK, 10**6)
        (transfer,) = there.transfers()
        assert transfer.ended, "who says finish at once leaves holes"
        assert len(assembled(transfer).missing) >= count - 2


def test_content_that_is_not_what_was_offered_fails_at_both_ends() -> None:
    last = CHUNKS.payloads[-1]
    chunks = Chunks(CHUNKS.content, [*CHUNKS.payloads[:-1], last[:-1] + b"?"])
    with both_ends(setup(), chunks=chunks) as (transfer, received):
        with pytest.raises(BadContent, match="fingerprint"):
            received.wait(PATIENCE)
        with pytest.raises(TransferStopped, match="fingerprint"):
            transfer.wait(PATIENCE)
        assert received.picture().size == (64, 64), "what came can be looked at"


@pytest.mark.parametrize("kind", [ACK, NAK, FIN, DATA, Kind.OFFER])
def test_a_receiver_that_answers_nonsense_harms_only_its_own_transfer(
    kind: Kind,
) -> None:
    with two_sockets() as (here, there), Stranger(here.address) as mallory:
        transfer = here.send(mallory.address, CHUNKS, setup(), patience=PATIENCE)
        assert mallory.hear().kind == Kind.OFFER
        answer = transfer.id | ANSWER
        for number in range(3):
            mallory.say(Kind.ACCEPT, answer, number=number)
        for seq in (-1, -(2**31), 2**31 - 1, 5):
            mallory.say(kind, answer, seq=seq, number=2**32 - 1, words=b"?" * 999)
        assert moves_a_picture(here, there)
        mallory.say(Kind.STOP, answer, words=b"I\x1b[2Jlied\xff")
        with pytest.raises(TransferStopped, match=r"transfer: I\\x1b\[2Jlied"):
            transfer.wait(PATIENCE)


# Many at once, and what stays of them


def test_many_transfers_at_once_in_both_directions_over_one_socket() -> None:
    link, endless = ScriptedLink(delay=0.003), math.inf
    with two_sockets(limits=Limits(patience=endless)) as (here, there):
        transfers = [
            one.send(other.address, CHUNKS, setup(), link=link, patience=endless)
            for one, other in [(here, there), (there, here)] * 8
        ]
        assert all(same_pixels(each.wait(PATIENCE)) for each in transfers)


def test_who_has_a_share_of_the_transfers_waits_for_its_turn_in_words() -> None:
    with two_sockets() as (here, there):
        running = [here.send(there.address, CHUNKS, link=slow()) for _ in range(8)]
        for each in running:
            twin(there, each)
        assert "try again when one of them has ended" in refused(here, there)
        running[0].stop()
        over(twin(there, running[0]))
        here.send(there.address, CHUNKS).wait(PATIENCE)


def test_a_socket_forgets_what_is_long_over_however_it_ended() -> None:
    with two_sockets() as (here, there):
        for number in range(REMEMBERED + 20):
            lone = Setup("stop_and_wait")
            transfer = here.send(there.address, CHUNKS, lone, link=slow())
            ends = [transfer, twin(there, transfer)]
            ends[number % 2].stop()
            over(ends[1 - number % 2])
        for each in (here, there):
            assert len(each.transfers()) <= REMEMBERED + 1


@pytest.mark.parametrize("side", [SENDER, RECEIVER])
def test_both_ends_of_a_transfer_may_be_on_one_socket(side: str) -> None:
    with UdpSocket() as here:
        assert moves_a_picture(here, here)
        assert len(here.transfers()) == 2
        transfer = here.send(here.address, CHUNKS, link=slow())
        eventually(lambda: len(here.transfers()) == 4, "it has come back to us")
        both = here.transfers()[2:]
        next(each for each in both if each.role == side).stop()
        assert all(isinstance(over(each).error, TransferStopped) for each in both)
        assert transfer in both


def test_news_come_when_a_transfer_begins_and_ends_in_the_cell_of_its_socket() -> None:
    cell = contextvars.ContextVar("cell", default="first")
    news: list[tuple[str, bool, str]] = []

    def on_transfer(transfer: Transfer) -> None:
        news.append((transfer.role, transfer.ended, cell.get()))

    with two_sockets(on_transfer=on_transfer) as (here, there):
        cell.set("second")
        for stopped_by in (0, 1, 2):
            link = None if stopped_by == 2 else slow()
            transfer = here.send(there.address, CHUNKS, link=link)
            if stopped_by < 2:
                (transfer, twin(there, transfer))[stopped_by].stop()
            eventually(lambda: len(news) == 2, "both news have come")
            assert news == [(RECEIVER, False, "first"), (RECEIVER, True, "first")]
            news.clear()


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
        transfer = here.send(there.address, CHUNKS, link=slow())
        with pytest.raises(TransferStopped):
            transfer.wait(PATIENCE)
        assert there.callback_error is None


# Ports, addresses, closing


@pytest.mark.parametrize(
    ("host", "port", "told"),
    [("127.0.0.1", 65_536, "65535"), ("127.0.0.1", -1, "-1"), ("192.0.2.1", 0, "host")],
)
def test_a_host_or_port_that_cannot_be_ours_is_refused_with_what_to_do(
    host: str, port: int, told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        UdpSocket(host, port)
    with UdpSocket() as first, pytest.raises(PortInUse, match="port 0"):
        UdpSocket(port=first.address[1])


def test_an_address_that_cannot_exist_is_refused_before_anything_is_sent() -> None:
    with UdpSocket() as here:
        for address in (("127.0.0.1", 0), ("127.0.0.1", 65_536), ("no such host!", 9)):
            with pytest.raises(PeerUnreachable):
                here.send(address, CHUNKS)
        assert here.transfers() == []


def test_closing_twice_is_fine_frees_the_port_and_sending_says_so() -> None:
    here = UdpSocket()
    address = here.address
    here.close()
    here.close()
    assert here.address == address, "it can still say where it was"
    with UdpSocket(port=address[1]), pytest.raises(P2PLabError, match="closed"):
        here.send(address, CHUNKS)


@pytest.mark.parametrize("again", range(20))
def test_transfers_offered_while_the_socket_closes_all_end(again: int) -> None:
    transfers: list[Transfer] = []

    def offer() -> None:
        with suppress(P2PLabError):
            while True:
                transfers.append(here.send(there.address, CHUNKS, link=FAR))

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
    with UdpSocket("::1") as here, UdpSocket("::1") as there, UdpSocket() as old:
        assert here.address[0] == "::1"
        same = ("0:0::1", there.address[1])
        assert same_pixels(here.send(same, CHUNKS, setup()).wait(PATIENCE))
        with pytest.raises(PeerUnreachable, match="no address"):
            old.send(there.address, CHUNKS)


# Protocols that go wrong


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
        transfer = here.send(there.address, CHUNKS, Setup("odd"))
        with pytest.raises(P2PLabError, match=why):
            transfer.wait(PATIENCE)
        assert moves_a_picture(here, there)
