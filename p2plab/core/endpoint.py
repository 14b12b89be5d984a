"""What a protocol machine is, what it promises, and what its driver promises."""

from __future__ import annotations

import inspect
from difflib import get_close_matches
from typing import Any, Protocol

from p2plab.core.packet import Packet
from p2plab.errors import BrokenContract


class Endpoint(Protocol):
    """One side of a conversation: no sockets, no clock, no randomness.

    The machine promises its driver:
    1. Same inputs, same outputs: no clock, chance, thread or printing inside.
    2. `next_packet` says None in the end.
    3. After `on_timeout` and pulling until None, a packet has come out or `deadline`
       has moved or is None.
    4. A timer runs exactly while something is in flight: `done` means no deadline.
    5. It never raises because of what arrives.

    The driver promises the machine:
    1. `now` never decreases [s].
    2. After every input it pulls; it may stop early, or pull later (pacing, a full
       socket, packets that came in one batch), timers firing meanwhile. It may pull
       before anything was sent.
    3. `on_timeout` is never called before `deadline`.
    4. Bytes whose checksum does not fit never reach `on_packet`.
    5. At equal times a packet arrives before a timer fires.

    Three members are optional: `on_corrupt(now)` hears of damaged packets,
    `pacing_rate` (packets/s or None) asks the driver to space its pulls, and a sender's
    `expect_payloads(count)` may hear beforehand how many payloads will come. They may
    be queued bit by bit then, so that a long transfer begins at once; until all have
    come, it is not `done`.
    """

    @property
    def deadline(self) -> float | None:
        """When on_timeout must be called [s]; None while no timer runs."""

    def next_packet(self, now: float) -> Packet | None:
        """The next packet to put on the wire at `now`, or None when there is none."""

    def on_packet(self, packet: Packet, now: float) -> None:
        """A packet has arrived intact. Duplicates and reordering are normal."""

    def on_timeout(self, now: float) -> None:
        """The deadline has passed. Never called before it."""


class Sender(Endpoint, Protocol):
    """The side that has payloads to move."""

    def send(self, payload: bytes) -> None:
        """Queue a payload from the application, an empty one too."""

    @property
    def done(self) -> bool:
        """Whether nothing is queued or in flight."""


class Receiver(Endpoint, Protocol):
    """The side that hands payloads to its application."""

    def next_payload(self) -> bytes | None:
        """The next payload for the application, or None while there is none."""


class RttEstimator(Protocol):
    """How long to wait for an ACK: see rtt."""

    @property
    def rto(self) -> float:
        """The retransmission timeout [s]."""

    def on_send(self, seq: int, now: float) -> None:
        """Packet `seq` goes out, for the first time or again."""

    def on_ack(self, seq: int, now: float, ts_ecr: float | None = None) -> None:
        """Packet `seq` is acknowledged; `ts_ecr` is the ACK's echoed timestamp [s]."""

    def on_timeout(self) -> None:
        """The timer has fired."""


class Window(Protocol):
    """How many packets may be in flight: see congestion."""

    @property
    def size(self) -> int:
        """Packets that may be in flight, at least 1."""

    def on_ack(self, seq: int, now: float) -> None:
        """Packet `seq` is newly acknowledged."""

    def on_loss(self, in_flight: int, now: float) -> None:
        """A loss was inferred from what arrived, not from a timer."""

    def on_timeout(self, in_flight: int, now: float) -> None:
        """The retransmission timer has fired."""


# method -> how many arguments the driver calls it with
_ENDPOINT = {"next_packet": 1, "on_packet": 2, "on_timeout": 1}
_SENDER = {**_ENDPOINT, "send": 1}
_RECEIVER = {**_ENDPOINT, "next_payload": 0}
_OWN = ("send", "done", "next_payload")  # of one role only


def require_sender(machine: object) -> None:
    """Raise BrokenContract, in words, unless `machine` has a Sender's members."""
    _require(machine, "sender", _SENDER, ("deadline", "done"))


def require_receiver(machine: object) -> None:
    """Raise BrokenContract, in words, unless `machine` has a Receiver's members."""
    _require(machine, "receiver", _RECEIVER, ("deadline",))


def _require(
    machine: object, role: str, methods: dict[str, int], values: tuple[str, ...]
) -> None:
    name = type(machine).__name__
    if isinstance(machine, type):
        raise BrokenContract(
            f"{machine.__name__} is a class: hand over a machine made of it, "
            f"{machine.__name__}()."
        )
    members = (*values, *methods)
    for member in members:
        if not hasattr(machine, member):
            spare = [each for each in dir(machine) if each not in members]
            if member in methods:
                spare = [each for each in spare if callable(getattr(machine, each))]
            raise BrokenContract(_missing(name, role, member, spare))
    for member in values:
        if inspect.ismethod(getattr(machine, member)):
            raise BrokenContract(
                f"{name}.{member} is a method, but the driver reads it as a value. "
                f"Write @property above it."
            )
    for member, arguments in methods.items():
        method = getattr(machine, member)
        if inspect.iscoroutinefunction(method):
            raise BrokenContract(
                f"{name}.{member} is `async`, and nobody awaits it: write `def`."
            )
        if not callable(method):
            raise BrokenContract(f"{name}.{member} is a value, but must be a method.")
        _require_arguments(f"{name}.{member}", method, arguments)


def _require_arguments(name: str, method: Any, arguments: int) -> None:
    if inspect.ismethod(method):  # nearly always plain, and to bind takes long
        code = getattr(method.__func__, "__code__", None)
        if code and (code.co_argcount, code.co_kwonlyargcount) == (1 + arguments, 0):
            return
        if code and not (code.co_argcount or code.co_flags & inspect.CO_VARARGS):
            raise BrokenContract(f"{name} is a method: write `self` as its first name.")
    try:
        inspect.signature(method).bind(*range(arguments))
    except ValueError:
        return  # built into Python, which does not say how it is called
    except TypeError as why:
        raise BrokenContract(
            f"{name} is called with {arguments} argument(s) after self, and cannot "
            f"be: {why}."
        ) from None


def _missing(name: str, role: str, member: str, spare: list[str]) -> str:
    names = [each for each in spare if not each.startswith("__")]
    close = get_close_matches(member, names, n=1, cutoff=0.6)
    hint = f" It has {close[0]}: is that a misspelling?" if close else ""
    if role == "receiver" and "send" in spare:
        hint = " Is it a sender?"
    where = role.capitalize() if member in _OWN else "Endpoint"
    return f"{name} has no {member}, which every {role} needs (see {where}).{hint}"


class Breach:
    """What a driver says when a machine of this name breaks a promise, `now` in s."""

    def __init__(self, name: str) -> None:
        self._name = name

    def odd_packet(self, now: float, answer: object) -> BrokenContract:
        """Say that next_packet has answered something else."""
        return BrokenContract(
            f"{self._name}: at t={now:.3f} next_packet returned {answer!r:.80}. "
            f"Return one Packet of kind DATA, ACK, NAK or FIN, or None."
        )

    def still_due(self, now: float, what: str, deadline: float) -> BrokenContract:
        """Say that after `what` the deadline has not moved."""
        return BrokenContract(
            f"{self._name}: at t={now:.3f} {what} and the deadline is still "
            f"{deadline:.3f}. Restart the timer (deadline = now + rto) or stop it "
            f"(deadline = None)."
        )

    def endless(self, now: float, method: str, times: int, more: str) -> BrokenContract:
        """Say that a method has answered so many times without a None."""
        return BrokenContract(
            f"{self._name}: at t={now:.3f} {method} had answered {times} times and "
            f"still did not say None. Return None once nothing more {more}."
        )

    def raised(self, now: float, method: str, why: Exception) -> BrokenContract:
        """Say that a method has raised."""
        return BrokenContract(
            f"{self._name}: at t={now:.3f} {method} raised {type(why).__name__}: "
            f"{why}. A machine must not raise because of what it is told."
        )
