"""Finding the address that works, in virtual time, with real seals."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2plab.core.packet import DATA, Kind, Packet, decode, encode
from p2plab.errors import Forged
from p2plab.net import paths
from p2plab.net.datagrams import Address
from p2plab.net.paths import (
    ANSWER,
    HEAR,
    HEARD,
    HOST,
    MOST,
    OBSERVED,
    PATIENCE,
    SETTLE,
    Path,
    Prober,
)
from p2plab.net.session import CALLEE, CALLER, Session

ALICE, BOB, CAROL = ("192.168.1.2", 1), ("192.168.1.3", 2), ("192.168.1.4", 3)
ALICE_SEEN, BOB_SEEN = ("203.0.113.1", 11), ("203.0.113.2", 12)
NOBODY = ("198.51.100.9", 9)
HOUR = 3_600.0


@dataclass
class World:
    """A network in virtual time. `where` says to whom an address leads, or to nobody;
    `source` what a receiver sees as the sender's address.
    """

    delay: float = 0.03
    loss: float = 0.0
    seed: int = 0
    where: Callable[[Address, Address], Address | None] = lambda to, sender: to
    source: Callable[[Address, Address], Address] = lambda sender, to: sender
    hosts: dict[Address, Host] = field(default_factory=dict)
    flying: list[tuple[float, int, Address, Address, bytes]] = field(
        default_factory=list
    )
    count: itertools.count[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.rng = Random(self.seed)

    def put(self, datagram: bytes, sender: Address, to: Address, now: float) -> None:
        place = self.where(to, sender)
        if self.rng.random() >= self.loss and place is not None:
            seen = self.source(sender, place)
            heapq.heappush(
                self.flying, (now + self.delay, next(self.count), seen, place, datagram)
            )

    def run(self, until: float) -> None:
        """Let everything happen that is due by then."""
        while True:
            times = [
                t for h in self.hosts.values() if (t := h.prober.wake_at) is not None
            ]
            now = min([*times, *(each[0] for each in self.flying[:1])], default=until)
            if now >= until:
                return
            while self.flying and self.flying[0][0] <= now:
                _, _, seen, place, datagram = heapq.heappop(self.flying)
                if place in self.hosts:
                    self.hosts[place].receive(datagram, seen, now)
            for host in self.hosts.values():
                host.pull(now)


class Host:
    """A peer on the network: its contact with the other one, which has seals."""

    def __init__(
        self,
        world: World,
        address: Address,
        session: Session,
        candidates: list[tuple[str, Address]],
        starts_at: float = 0.0,
    ) -> None:
        self.world, self.address, self.session = world, address, session
        self.prober = Prober(candidates, starts_at)
        self.starts_at = starts_at
        self.refused = 0
        world.hosts[address] = self

    def receive(self, sealed: bytes, sender: Address, now: float) -> None:
        if now < self.starts_at:
            return
        try:
            packet, _, _ = decode(self.session.open(sealed))
        except Forged:
            self.refused += 1
            return
        if (answer := self.prober.on_packet(packet, sender, now)) is not None:
            self.send(answer, sender, now)

    def pull(self, now: float) -> None:
        while due := self.prober.next_probe(now):
            self.send(*due, now)

    def send(self, packet: Packet, to: Address, now: float) -> None:
        self.world.put(self.session.seal(encode(packet)), self.address, to, now)

    @property
    def path(self) -> Path | None:
        return self.prober.path

    def when(self, what: str) -> list[float]:
        return [each.time for each in self.prober.events if each.what == what]

    def addresses(self, what: str) -> list[Address | None]:
        return [each.address for each in self.prober.events if each.what == what]


def introduced(
    world: World,
    to_bob: list[tuple[str, Address]],
    to_alice: list[tuple[str, Address]],
    late: float = 0.0,
) -> tuple[Host, Host]:
    id, key = bytes(8), bytes(range(32))
    return (
        Host(world, ALICE, Session(id, key, CALLER, "bob"), to_bob),
        Host(world, BOB, Session(id, key, CALLEE, "alice"), to_alice, late),
    )


def test_two_peers_that_begin_together_have_a_path_after_one_round_trip() -> None:
    alice, bob = introduced(world := World(), [(HOST, BOB)], [(HOST, ALICE)])
    world.run(HOUR)
    for host, other in ((alice, BOB), (bob, ALICE)):
        assert host.path is not None
        assert host.path[:2] == (HOST, other)
        assert host.path.rtt == pytest.approx(0.06, abs=2e-6)
        assert host.when(paths.CHOOSE) == [pytest.approx(0.06)]
        assert host.prober.wake_at is None, "nothing more to do until somebody asks"
    assert not world.flying


def test_probes_are_repeated_at_growing_pauses_until_patience_ends() -> None:
    alice, _ = introduced(world := World(), [(HOST, NOBODY)], [], late=HOUR)
    world.run(HOUR)
    sent = alice.when(paths.PROBE)
    pauses = [later - earlier for earlier, later in itertools.pairwise(sent)]
    assert pauses[:3] == [pytest.approx(each) for each in (0.02, 0.03, 0.045)]
    assert pauses[-1] == max(pauses) == pytest.approx(0.25)
    assert sent[-1] < PATIENCE
    assert alice.when(paths.FAIL) == [PATIENCE]
    assert "no answer within 3 s from host 198.51.100.9 port 9" in alice.prober.failure
    assert "no probe arrived" in alice.prober.failure
    alice, _ = introduced(world := World(), [], [], late=HOUR)
    world.run(HOUR)
    assert "has offered no address" in alice.prober.failure


@pytest.mark.parametrize("seed", range(20))
def test_a_fifth_of_all_packets_lost_still_finds_a_path_on_both_sides(
    seed: int,
) -> None:
    world = World(loss=0.2, seed=seed)
    alice, bob = introduced(world, [(HOST, BOB)], [(HOST, ALICE)])
    world.run(HOUR)
    assert alice.path is not None
    assert bob.path is not None


@pytest.mark.parametrize("late", [0.3, 1.0, 2.9])
def test_a_side_that_begins_late_is_found_and_finds(late: float) -> None:
    world = World()
    alice, bob = introduced(world, [(HOST, BOB)], [(HOST, ALICE)], late)
    world.run(HOUR)
    for host in (alice, bob):
        assert host.path is not None
        assert host.when(paths.CHOOSE)[0] <= late + 2 * 0.06 + 0.25


def test_after_failing_it_still_answers_and_a_late_path_ends_the_failure() -> None:
    world = World()
    alice, bob = introduced(world, [(HOST, BOB)], [(HOST, ALICE)], late=60.0)
    world.run(59.0)
    assert alice.prober.failure
    world.run(HOUR)
    assert bob.path is not None
    assert alice.path is not None
    assert not alice.prober.failure


def test_a_wrong_peer_at_the_address_stays_unheard() -> None:
    """A neighbour has the address that Bob has at home, and speaks our protocol."""
    world = World(where=lambda to, sender: {BOB: CAROL, BOB_SEEN: BOB}.get(to, to))
    to_bob = [(HOST, BOB), (OBSERVED, BOB_SEEN)]
    world.source = lambda sender, to: BOB_SEEN if sender == BOB else sender
    alice, bob = introduced(world, to_bob, [(HOST, ALICE)])
    stranger = Session(bytes(8), bytes(32), CALLEE, "alice")
    carol = Host(world, CAROL, stranger, [(HOST, ALICE)])
    world.run(HOUR)
    assert alice.path is not None
    assert alice.path.address == BOB_SEEN
    assert bob.path is not None
    assert carol.path is None
    assert carol.refused > 0
    assert alice.refused > 0
    assert set(alice.addresses(HEAR)) == {BOB_SEEN}


def test_a_path_at_home_that_answers_late_replaces_the_one_through_the_router() -> None:
    home = {BOB_SEEN: BOB, ALICE_SEEN: ALICE}
    world = World(where=lambda to, sender: home.get(to, to))
    to_bob, to_alice = [(OBSERVED, BOB_SEEN), (HOST, BOB)], [(HOST, ALICE)]
    alice, bob = introduced(world, to_bob, to_alice)
    put, asked = world.put, {"at": BOB}

    def router(datagram: bytes, sender: Address, to: Address, now: float) -> None:
        if sender == ALICE and (to == BOB_SEEN or now > 0.3):
            asked["at"] = to  # Bob's answers seem to come from where he was asked
            put(datagram, sender, to, now)
        if sender == BOB:
            put(datagram, sender, to, now)

    world.put = router  # type: ignore[method-assign]  # between two hosts
    world.source = lambda sender, to: asked["at"] if sender == BOB else sender
    world.run(HOUR)
    assert alice.addresses(paths.CHOOSE) == [BOB_SEEN, BOB]
    assert alice.path is not None
    assert alice.path[:2] == (HOST, BOB)
    assert bob.path is not None


def pulled(prober: Prober, now: float) -> dict[Address, Packet]:
    """Pull all probes that are due."""
    probes = {}
    while due := prober.next_probe(now):
        assert due[1] not in probes, "one address, one probe at a time"
        probes[due[1]] = due[0]
    return probes


def confirm(prober: Prober, probe: Packet, address: Address, now: float) -> None:
    answer = Packet(Kind.PROBED, probe.seq, ts_ecr=probe.ts_val)
    assert prober.on_packet(answer, address, now) is None


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
    prober = Prober([(OBSERVED, BOB_SEEN), second], 0.0)
    probes = pulled(prober, 0.0)
    confirm(prober, probes[BOB_SEEN], BOB_SEEN, 0.1)
    assert prober.path is not None
    assert prober.path[:2] == (OBSERVED, BOB_SEEN)
    assert prober.path.rtt == pytest.approx(0.1)
    confirm(prober, probes[second[1]], second[1], 0.1 + after)
    assert prober.path is not None
    assert (prober.path.address == second[1]) is wins


def test_once_a_path_is_found_only_better_ones_are_still_asked_and_not_for_long() -> (
    None
):
    prober = Prober([(OBSERVED, BOB_SEEN), (OBSERVED, NOBODY), (HOST, BOB)], 0.0)
    probe = pulled(prober, 0.0)[BOB_SEEN]
    confirm(prober, probe, BOB_SEEN, 0.01)
    asked: set[Address] = set()
    while (now := prober.wake_at) is not None:
        asked.update(pulled(prober, now))
        assert now < 0.01 + SETTLE
    assert asked == {BOB}


def test_ipv6_goes_before_ipv4_and_host_before_heard_before_observed() -> None:
    six = ("2001:db8::1", 6)
    prober = Prober([(OBSERVED, BOB_SEEN), (HOST, BOB), (HOST, six)], 0.0)
    prober.on_packet(Packet(Kind.PROBE, 0, ts_val=0.0), NOBODY, 0.0)
    probes = pulled(prober, 0.0)
    chosen = []
    for address in (BOB_SEEN, NOBODY, BOB, six, NOBODY):
        confirm(prober, probes[address], address, 0.1)
        assert prober.path is not None
        chosen.append(prober.path[:2])
    assert chosen == [
        (OBSERVED, BOB_SEEN),
        (HEARD, NOBODY),
        (HOST, BOB),
        (HOST, six),
        (HOST, six),
    ]


def test_an_address_that_the_rendezvous_never_saw_is_learnt_from_its_probe() -> None:
    """Bob's router gives him another port for each destination (symmetric NAT)."""
    outside = ("203.0.113.2", 40_000)
    world = World(
        where=lambda to, sender: {outside: BOB, BOB_SEEN: None}.get(to, to),
        source=lambda sender, to: outside if sender == BOB else sender,
    )
    alice, bob = introduced(world, [(OBSERVED, BOB_SEEN)], [(OBSERVED, ALICE)])
    world.run(HOUR)
    assert alice.path is not None
    assert alice.path[:2] == (HEARD, outside)
    assert bob.path is not None
    assert bob.path[:2] == (OBSERVED, ALICE)


def test_a_way_that_works_in_one_direction_only_is_no_path() -> None:
    world = World(where=lambda to, sender: None if to == BOB else to)
    alice, bob = introduced(world, [(HOST, BOB)], [(HOST, ALICE)])
    world.run(HOUR)
    assert alice.path is None
    assert bob.path is None
    assert "its own probes arrived here" in alice.prober.failure


def test_an_answer_from_an_address_that_was_not_asked_proves_nothing() -> None:
    prober = Prober([(HOST, BOB), (OBSERVED, BOB_SEEN)], 0.0)
    probe = pulled(prober, 0.0)[BOB]
    for address in (BOB_SEEN, NOBODY):
        confirm(prober, probe, address, 0.1)
    early = Prober([(HOST, BOB)], 0.0)
    confirm(early, probe, BOB, 0.0)
    assert prober.path is early.path is None


def test_two_probers_do_not_answer_probes_with_probes_for_ever() -> None:
    """If only answers were lost, each heard probe must not cause another one."""
    world = World(delay=0.0001)
    alice, bob = introduced(world, [(HOST, BOB)], [(HOST, ALICE)])
    put = world.put

    def put_probes(datagram: bytes, sender: Address, to: Address, now: float) -> None:
        if datagram[18] == Kind.PROBE:  # behind the seal's header
            put(datagram, sender, to, now)

    world.put = put_probes  # type: ignore[method-assign]  # between two hosts
    world.run(HOUR)
    assert alice.path is bob.path is None
    assert len(alice.when(paths.PROBE)) < 60


def test_the_same_address_twice_is_asked_once_and_too_many_are_left_out() -> None:
    prober = Prober([(OBSERVED, BOB), (HOST, BOB)], 0.0)
    assert list(pulled(prober, 0.0)) == [BOB]
    many = Prober([(HOST, ("192.0.2.1", port)) for port in range(1, 99)], 0.0)
    assert len(pulled(many, 0.0)) == MOST


def test_where_a_first_probe_comes_from_is_probed_at_once_and_only_so_many() -> None:
    prober = Prober([(HOST, BOB)], 0.0)
    while (now := prober.wake_at) is not None and now < 1.0:
        pulled(prober, now)
    assert now is not None
    assert now > 1.0, "its pause is long by now"
    prober.on_packet(Packet(Kind.PROBE, 0, ts_val=0.0), BOB, 1.0)
    assert list(pulled(prober, 1.0)) == [BOB]
    for port in range(1, 100):
        prober.on_packet(Packet(Kind.PROBE, 0, ts_val=0.0), ("192.0.2.7", port), 1.001)
    assert len(pulled(prober, 1.001)) == MOST


def test_the_clock_may_be_far_from_zero_where_stamps_have_wrapped() -> None:
    now = 1e6
    prober = Prober([(HOST, BOB)], now)
    probe = pulled(prober, now)[BOB]
    on_the_wire = decode(encode(probe))[0]
    confirm(prober, on_the_wire, BOB, now + 0.25)
    assert prober.path is not None
    assert prober.path.rtt == pytest.approx(0.25, abs=1e-5)


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
    prober, now = Prober([(HOST, BOB)], 0.0), 0.0
    probes = 0
    for packet, port, pause in said:
        now += pause
        answer = prober.on_packet(packet, ("192.0.2.7", port), now)
        assert (answer is not None) == (packet.kind == Kind.PROBE)
        if answer is not None:
            encode(answer)
        probes += len(pulled(prober, now))
    while (at := prober.wake_at) is not None:
        probes += len(pulled(prober, max(now, at)))
    assert probes < 17 * 17 * 4
    assert len(prober.events) <= paths.KEPT_EVENTS
    assert prober.path is None or prober.path.address[0] == "192.0.2.7"


def test_both_sides_know_a_probe_by_the_same_number() -> None:
    here = Prober([(HOST, ("10.0.0.2", 5000))], 3.0000004)
    there = Prober([], 100.0)
    due = here.next_probe(3.0000004)
    assert due is not None
    probe, _, _ = decode(encode(due[0]))
    answer = there.on_packet(probe, ("10.0.0.1", 4000), 100.1)
    assert answer is not None
    here.on_packet(decode(encode(answer))[0], ("10.0.0.2", 5000), 3.1)
    numbers = {each.probe for each in [*here.events, *there.events] if each.probe}
    assert numbers == {3_000_000}
    assert [each.what for each in there.events][:2] == [HEAR, ANSWER]
