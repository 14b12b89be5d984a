"""Finding the address that works, in virtual time, with real seals."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2plab.core.meeting import CHOOSE, FAIL, HEAR, PROBE
from p2plab.core.packet import DATA, Kind, Packet, decode, encode
from p2plab.errors import Forged
from p2plab.net.datagrams import Address
from p2plab.net.paths import (
    HEARD,
    HOST,
    KEPT_EVENTS,
    MOST,
    OBSERVED,
    PATIENCE,
    SETTLE,
    Contact,
)
from p2plab.net.session import CALLEE, CALLER, Session

ALICE, BOB, CAROL = ("192.168.1.2", 1), ("192.168.1.3", 2), ("192.168.1.4", 3)
ALICE_SEEN, BOB_SEEN = ("203.0.113.1", 11), ("203.0.113.2", 12)
NOBODY = ("198.51.100.9", 9)
HOUR = 3_600.0
Candidates = list[tuple[str, Address]]


def sessions() -> tuple[Session, Session]:
    """Alice's, who has called, and Bob's."""
    id, key = bytes(8), bytes(range(32))
    return Session(id, key, CALLER, "bob"), Session(id, key, CALLEE, "alice")


class World:
    """A network in virtual time. `where` says to whom an address leads, or to nobody;
    `source` what a receiver sees as the sender's address.
    """

    def __init__(self, delay: float = 0.03, loss: float = 0.0, seed: int = 0) -> None:
        self.delay, self.loss, self.rng = delay, loss, Random(seed)
        self.where: Callable[[Address], Address | None] = lambda to: to
        self.source: Callable[[Address], Address] = lambda sender: sender
        self.now = 0.0
        self.peers: dict[Address, tuple[Contact, float]] = {}  # and since when
        self.flying: list[tuple[float, int, Address, Address, bytes]] = []
        self.count = itertools.count()

    def peer(
        self, at: Address, session: Session, to: Candidates, since: float = 0.0
    ) -> Contact:
        contact = Contact(session, to, since, lambda *sent: self.put(at, *sent))
        self.peers[at] = contact, since
        return contact

    def introduce(
        self, to_bob: Candidates, to_alice: Candidates, late: float = 0.0
    ) -> tuple[Contact, Contact]:
        alice, bob = sessions()
        return self.peer(ALICE, alice, to_bob), self.peer(BOB, bob, to_alice, late)

    def put(self, sender: Address, datagram: bytes, to: Address) -> None:
        place, lost = self.where(to), self.rng.random() < self.loss
        if place is not None and not lost:
            at, order = self.now + self.delay, next(self.count)
            entry = at, order, self.source(sender), place, datagram
            heapq.heappush(self.flying, entry)

    def run(self, until: float = HOUR) -> None:
        """Let everything happen that is due by then."""
        while True:
            times = [contact.wake_at for contact, _ in self.peers.values()]
            times += [each[0] for each in self.flying[:1]]
            self.now = min([at for at in times if at is not None], default=until)
            if self.now >= until:
                return
            while self.flying and self.flying[0][0] <= self.now:
                _, _, sender, place, datagram = heapq.heappop(self.flying)
                contact, since = self.peers.get(place, (None, HOUR))
                if contact is not None and self.now >= since:
                    self.receive(contact, datagram, sender)
            for contact, _ in self.peers.values():
                contact.tick(self.now)

    def receive(self, contact: Contact, sealed: bytes, sender: Address) -> None:
        try:
            packet, _, _ = decode(contact.open(sealed, sender))
        except Forged:
            return
        contact.hear(packet, sender, self.now)


def when(contact: Contact, what: str) -> list[float]:
    return [each.time for each in contact.events if each.what == what]


def addresses(contact: Contact, what: str) -> list[Address | None]:
    return [each.address for each in contact.events if each.what == what]


def found(contact: Contact) -> tuple[str, Address]:
    assert contact.path is not None
    return contact.path[:2]


def test_two_peers_that_begin_together_have_a_path_after_one_round_trip() -> None:
    world = World()
    alice, bob = world.introduce([(HOST, BOB)], [(HOST, ALICE)])
    world.run()
    for contact, other in ((alice, BOB), (bob, ALICE)):
        assert found(contact) == (HOST, other)
        assert contact.wait().rtt == pytest.approx(0.06, abs=2e-6)
        assert when(contact, CHOOSE) == [pytest.approx(0.06)]
        assert contact.wake_at is None, "nothing more to do until somebody asks"
    numbers = {event.probe for event in alice.events if event.probe}
    assert numbers == {event.probe for event in bob.events if event.probe}
    assert not world.flying


def test_probes_are_repeated_at_growing_pauses_until_patience_ends() -> None:
    alice, _ = (world := World()).introduce([(HOST, NOBODY)], [], late=HOUR)
    world.run()
    sent = when(alice, PROBE)
    pauses = [later - earlier for earlier, later in itertools.pairwise(sent)]
    assert pauses[:3] == [pytest.approx(each) for each in (0.02, 0.03, 0.045)]
    assert pauses[-1] == max(pauses) == pytest.approx(0.25)
    assert sent[-1] < PATIENCE
    assert when(alice, FAIL) == [PATIENCE]
    assert "from host 198.51.100.9 port 9, and no probe arrived" in alice.failure
    alice, _ = (world := World()).introduce([], [], late=HOUR)
    world.run()
    assert "has offered no address" in alice.failure


def test_a_fifth_of_all_packets_lost_still_finds_a_path_on_both_sides() -> None:
    for seed in range(20):
        world = World(loss=0.2, seed=seed)
        both = world.introduce([(HOST, BOB)], [(HOST, ALICE)])
        world.run()
        assert all(contact.path for contact in both)


@pytest.mark.parametrize("late", [0.3, 1.0, 2.9, 60.0])
def test_a_side_that_begins_late_is_found_and_finds_even_after_a_failure(
    late: float,
) -> None:
    world = World()
    both = world.introduce([(HOST, BOB)], [(HOST, ALICE)], late)
    world.run(late)
    assert bool(both[0].failure) == (late > PATIENCE)
    world.run()
    for contact in both:
        assert when(contact, CHOOSE)[0] <= late + 2 * 0.06 + 0.25
        assert contact.path
        assert not contact.failure


def test_a_wrong_peer_at_the_address_stays_unheard() -> None:
    """A neighbour has the address that Bob has at home, and speaks our protocol."""
    world = World()
    world.where = lambda to: {BOB: CAROL, BOB_SEEN: BOB}.get(to, to)
    world.source = lambda sender: BOB_SEEN if sender == BOB else sender
    to_bob = [(HOST, BOB), (OBSERVED, BOB_SEEN)]
    alice, bob = world.introduce(to_bob, [(HOST, ALICE)])
    stranger = Session(bytes(8), bytes(32), CALLEE, "alice")
    carol = world.peer(CAROL, stranger, [(HOST, ALICE)])
    world.run()
    assert found(alice)[1] == BOB_SEEN
    assert bob.path is not None
    assert carol.path is None
    assert carol.session.forged > 0
    assert alice.session.forged > 0
    assert set(addresses(alice, HEAR)) == {BOB_SEEN}


def test_a_path_at_home_that_answers_late_replaces_the_one_through_the_router() -> None:
    world, asked = World(), {"at": BOB}
    world.where = lambda to: {BOB_SEEN: BOB, ALICE_SEEN: ALICE}.get(to, to)
    world.source = lambda sender: asked["at"] if sender == BOB else sender
    put = world.put

    def router(sender: Address, datagram: bytes, to: Address) -> None:
        if sender == ALICE and (to == BOB_SEEN or world.now > 0.3):
            asked["at"] = to  # Bob's answers seem to come from where he was asked
            put(sender, datagram, to)
        if sender == BOB:
            put(sender, datagram, to)

    world.put = router  # type: ignore[method-assign]  # between two hosts
    to_bob = [(OBSERVED, BOB_SEEN), (HOST, BOB)]
    alice, bob = world.introduce(to_bob, [(HOST, ALICE)])
    world.run()
    assert addresses(alice, CHOOSE) == [BOB_SEEN, BOB]
    assert found(alice) == (HOST, BOB)
    assert bob.path is not None


def test_an_address_that_the_rendezvous_never_saw_is_learnt_from_its_probe() -> None:
    """Bob's router gives him another port for each destination (symmetric NAT)."""
    outside, world = ("203.0.113.2", 40_000), World()
    world.where = lambda to: {outside: BOB, BOB_SEEN: None}.get(to, to)
    world.source = lambda sender: outside if sender == BOB else sender
    alice, bob = world.introduce([(OBSERVED, BOB_SEEN)], [(OBSERVED, ALICE)])
    world.run()
    assert found(alice) == (HEARD, outside)
    assert found(bob) == (OBSERVED, ALICE)


def test_a_way_that_works_in_one_direction_only_is_no_path() -> None:
    world = World()
    world.where = lambda to: None if to == BOB else to
    alice, bob = world.introduce([(HOST, BOB)], [(HOST, ALICE)])
    world.run()
    assert alice.path is bob.path is None
    assert "its own probes arrived here" in alice.failure


def test_two_peers_do_not_answer_probes_with_probes_for_ever() -> None:
    """If only answers were lost, each heard probe must not cause another one."""
    world = World(delay=0.0001)
    put = world.put

    def put_probes(sender: Address, datagram: bytes, to: Address) -> None:
        if datagram[18] == Kind.PROBE:  # behind the seal's header
            put(sender, datagram, to)

    world.put = put_probes  # type: ignore[method-assign]  # between two hosts
    alice, bob = world.introduce([(HOST, BOB)], [(HOST, ALICE)])
    world.run()
    assert alice.path is bob.path is None
    assert len(when(alice, PROBE)) < 60


# One side alone


class Alone(Contact):
    """A contact whose other side is this test."""

    def __init__(self, *candidates: tuple[str, Address], now: float = 0.0) -> None:
        self.sent: list[tuple[bytes, Address]] = []
        here, self.there = sessions()
        super().__init__(here, candidates, now, lambda *sent: self.sent.append(sent))

    def emitted(self) -> list[tuple[Packet, Address]]:
        sent, self.sent[:] = list(self.sent), []
        return [(decode(self.there.open(sealed))[0], to) for sealed, to in sent]

    def probes(self, now: float) -> dict[Address, Packet]:
        """Those that are due."""
        self.tick(now)
        due = [each for each in self.emitted() if each[0].kind == Kind.PROBE]
        probes = {to: packet for packet, to in due}
        assert len(probes) == len(due), "one address, one probe at a time"
        return probes

    def confirm(self, probe: Packet, address: Address, now: float) -> None:
        self.hear(Packet(Kind.PROBED, probe.seq, ts_ecr=probe.ts_val), address, now)
        assert not self.emitted()


@pytest.mark.parametrize(
    ("second", "after", "wins"),
    [
        ((HOST, BOB), SETTLE / 2, True),
        ((HOST, BOB), SETTLE + 0.01, False),
        ((OBSERVED, NOBODY), SETTLE / 2, False),
    ],
)
def test_only_a_better_path_replaces_the_first_and_only_soon(
    second: tuple[str, Address], after: float, wins: bool
) -> None:
    contact = Alone((OBSERVED, BOB_SEEN), second)
    probes = contact.probes(0.0)
    contact.confirm(probes[BOB_SEEN], BOB_SEEN, 0.1)
    assert found(contact) == (OBSERVED, BOB_SEEN)
    contact.confirm(probes[second[1]], second[1], 0.1 + after)
    assert (found(contact) == second) is wins


def test_once_a_path_is_found_only_better_ones_are_still_asked_and_not_for_long() -> (
    None
):
    contact = Alone((OBSERVED, BOB_SEEN), (OBSERVED, NOBODY), (HOST, BOB))
    contact.confirm(contact.probes(0.0)[BOB_SEEN], BOB_SEEN, 0.01)
    asked: set[Address] = set()
    while (now := contact.wake_at) is not None:
        asked.update(contact.probes(now))
        assert now < 0.01 + SETTLE
    assert asked == {BOB}


def test_ipv6_goes_before_ipv4_and_host_before_heard_before_observed() -> None:
    six = ("2001:db8::1", 6)
    contact = Alone((OBSERVED, BOB_SEEN), (HOST, BOB), (HOST, six))
    contact.hear(Packet(Kind.PROBE, 0, ts_val=0.0), NOBODY, 0.0)
    probes = contact.probes(0.0)
    chosen = []
    for address in (BOB_SEEN, NOBODY, BOB, six, NOBODY):
        contact.confirm(probes[address], address, 0.1)
        chosen.append(found(contact))
    best = [(OBSERVED, BOB_SEEN), (HEARD, NOBODY), (HOST, BOB), (HOST, six)]
    assert chosen == [*best, best[-1]]


def test_an_answer_from_an_address_that_was_not_asked_proves_nothing() -> None:
    contact = Alone((HOST, BOB), (OBSERVED, BOB_SEEN))
    probe = contact.probes(0.0)[BOB]
    for address in (BOB_SEEN, NOBODY):
        contact.confirm(probe, address, 0.1)
    early = Alone((HOST, BOB))
    early.confirm(probe, BOB, 0.0)
    assert contact.path is early.path is None


def test_the_same_address_twice_is_asked_once_and_too_many_are_left_out() -> None:
    assert list(Alone((OBSERVED, BOB), (HOST, BOB)).probes(0.0)) == [BOB]
    many = Alone(*((HOST, ("192.0.2.1", port)) for port in range(1, 99)))
    assert len(many.probes(0.0)) == MOST


def test_where_a_first_probe_comes_from_is_probed_at_once_and_only_so_many() -> None:
    contact = Alone((HOST, BOB))
    while (now := contact.wake_at) is not None and now < 1.0:
        contact.probes(now)
    assert now is not None
    assert now > 1.0, "its pause is long by now"
    contact.hear(Packet(Kind.PROBE, 0, ts_val=0.0), BOB, 1.0)
    assert list(contact.probes(1.0)) == [BOB]
    for port in range(1, 100):
        contact.hear(Packet(Kind.PROBE, 0, ts_val=0.0), ("192.0.2.7", port), 1.001)
    assert len(contact.probes(1.001)) == 2 * MOST - 1


def test_the_clock_may_be_far_from_zero_where_stamps_have_wrapped() -> None:
    now = 1e6
    contact = Alone((HOST, BOB), now=now)
    contact.confirm(contact.probes(now)[BOB], BOB, now + 0.25)
    assert contact.wait().rtt == pytest.approx(0.25, abs=1e-5)


@settings(derandomize=True, deadline=None, database=None, max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.builds(
                Packet,
                st.sampled_from([Kind.PROBE, Kind.PROBED, DATA]),
                st.integers(-(2**31), 2**31 - 1),
                st.binary(max_size=9),
                st.none() | st.floats(0, 4294),
                st.none() | st.floats(0, 4294),
            ),
            st.integers(1, 400),
            st.floats(0, 0.1),
        ),
        max_size=400,
    )
)
def test_whatever_an_introduced_peer_says_costs_little_and_breaks_nothing(
    said: list[tuple[Packet, int, float]],
) -> None:
    contact, now, probes = Alone((HOST, BOB)), 0.0, 0
    for packet, port, pause in said:
        now += pause
        contact.hear(decode(encode(packet))[0], ("192.0.2.7", port), now)
        answers = [answer.kind for answer, _ in contact.emitted()]
        assert answers == [Kind.PROBED] * (packet.kind == Kind.PROBE)
        probes += len(contact.probes(now))
    while (at := contact.wake_at) is not None:
        probes += len(contact.probes(max(now, at)))
    assert probes < 17 * 17 * 4
    assert len(contact.events) <= KEPT_EVENTS
    assert contact.path is None or contact.path.address[0] == "192.0.2.7"
