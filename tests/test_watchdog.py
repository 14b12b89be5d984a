"""A call that never comes back is interrupted, and no other."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

import pytest
from loopback import CHUNKS, PATIENCE, setup, two_sockets
from loopback import no_thread_stays as no_thread_stays  # for every test here

from p2plab import Setup
from p2plab.core.packet import Packet
from p2plab.errors import TransferError
from p2plab.protocols import PROTOCOLS
from p2plab.protocols.stop_and_wait import StopAndWaitReceiver, StopAndWaitSender
from p2plab.sim.watchdog import Stuck, Watchdog

LIMIT = 0.05  # [s]


def long_enough(every: Callable[[], None] = lambda: None) -> None:
    """Compute for longer than one call may."""
    begun = time.thread_time()
    while time.thread_time() < begun + 3 * LIMIT:
        every()


def never_back() -> None:
    while True:
        pass


def test_who_computes_in_one_call_for_ever_is_interrupted_and_its_line_is_told() -> (
    None
):
    with Watchdog(LIMIT) as watchdog:
        watchdog.begin()
        with pytest.raises(Stuck) as raised:
            never_back()
    line = raised.value.line
    assert line is not None
    assert line.function == "never_back"
    assert line.file == __file__
    assert line.number > never_back.__code__.co_firstlineno
    assert sum(raised.value.seen.values()) > len(raised.value.stack)


def test_who_swallows_it_is_interrupted_again() -> None:
    def swallows() -> None:
        with contextlib.suppress(BaseException):
            never_back()
        never_back()

    with Watchdog(LIMIT) as watchdog:
        watchdog.begin()
        with pytest.raises(Stuck):
            swallows()


def test_who_waits_without_computing_is_left_alone_unless_waiting_has_a_limit() -> None:
    with Watchdog(LIMIT) as watchdog:
        watchdog.begin()
        threading.Event().wait(3 * LIMIT)

    def waits() -> None:
        while True:
            time.sleep(0.001)

    with Watchdog(LIMIT, 2 * LIMIT) as watchdog:
        watchdog.begin()
        with pytest.raises(Stuck):
            waits()


@pytest.mark.skipif(
    not hasattr(time, "pthread_getcpuclockid"),
    reason="this system does not tell how long a single thread has computed",
)
def test_who_waits_while_others_compute_is_left_alone() -> None:
    other = threading.Thread(target=long_enough)
    with Watchdog(LIMIT) as watchdog:
        watchdog.begin()
        other.start()
        other.join()


def test_who_computes_in_many_calls_or_between_two_is_left_alone() -> None:
    with Watchdog(LIMIT) as watchdog:
        long_enough(every=watchdog.begin)
        watchdog.end()
        long_enough()


class Loop(StopAndWaitReceiver):
    """Never comes back from its third packet."""

    def on_packet(self, packet: Packet, now: float) -> None:
        while packet.seq == 2:
            pass
        super().on_packet(packet, now)


class NeverMade(StopAndWaitReceiver):
    """Never comes back from being made."""

    def __init__(self) -> None:
        never_back()


@pytest.mark.parametrize(
    ("receiver", "line"), [(Loop, "Loop.on_packet"), (NeverMade, "never_back")]
)
def test_a_loop_on_a_socket_ends_its_own_transfer_with_its_line_and_no_other(
    monkeypatch: pytest.MonkeyPatch, receiver: type[StopAndWaitReceiver], line: str
) -> None:
    monkeypatch.setattr("p2plab.net.threads.LIMIT", LIMIT)
    build = (lambda setup, rtt: StopAndWaitSender(rtt)), (lambda setup: receiver())
    monkeypatch.setitem(PROTOCOLS, "loop", build)
    with two_sockets() as (here, there):
        looping = here.send(there.address, CHUNKS, Setup("loop"))
        with pytest.raises(TransferError, match=rf"{line} \(line \d+ of ") as raised:
            looping.wait(PATIENCE)
        assert __file__ in str(raised.value)
        assert here.send(there.address, CHUNKS, setup()).wait(PATIENCE).progress == 1


def test_where_no_thread_starts_nothing_is_watched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_thread(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    with Watchdog(LIMIT) as watchdog:
        watchdog.begin()
        watchdog.end()
