"""What a machine was told and what it answered in a real run, to be played again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial, wraps
from typing import Any, Final, NamedTuple, cast

from p2plab.core.endpoint import RttEstimator
from p2plab.core.packet import Packet
from p2plab.core.trace import RECEIVER, SENDER
from p2plab.protocols.setup import PROTOCOLS, Setup, built

_PLAIN: Final = (type(None), bool, int, float, str, bytes)  # what a read can be about


class Raised(NamedTuple):
    """The answer of a call that raised."""

    error: str


class Call(NamedTuple):
    """One call of a driver, and its answer.

    arguments: None if it was not a call, but a value that was read, like `deadline`.
    """

    name: str
    arguments: tuple[Any, ...] | None
    answer: Any

    def __str__(self) -> str:
        given = "" if self.arguments is None else f"({_words(self.arguments)})"
        return f"{self.name}{given}"


@dataclass(slots=True, eq=False)
class Recording:
    """Everything that one machine was told, in order, and what it answered.

    role: SENDER or RECEIVER.
    make: builds a machine like the recorded one as it was at the beginning.
    """

    role: str
    make: Callable[[], Any] = field(repr=False)
    calls: list[Call] = field(default_factory=list, repr=False)

    @property
    def packets(self) -> list[Packet]:
        """What the machine put on the wire."""
        return [each for each in self._answers("next_packet") if each is not None]

    @property
    def payloads(self) -> list[bytes]:
        """What a sender was given, or what a receiver delivered."""
        if self.role == RECEIVER:
            return [each for each in self._answers("next_payload") if each is not None]
        given = [each.arguments for each in list(self.calls) if each.name == "send"]
        return [arguments[0] for arguments in given if arguments]

    def _answers(self, name: str) -> list[Any]:
        answers = [each.answer for each in list(self.calls) if each.name == name]
        return [each for each in answers if not isinstance(each, Raised)]


@dataclass(eq=False)
class Recorder:
    """A machine, and a note of every call that it gets: itself a machine.

    It has exactly the members that the machine has, so that nobody sees a difference.
    """

    machine: Any
    calls: list[Call] = field(repr=False)
    seen: dict[str, Any] = field(default_factory=dict, repr=False)  # since a call

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # Python's own questions are no driver's
            raise AttributeError(name)
        value = getattr(self.machine, name)
        if callable(value):
            return self._listening(name, value)
        if isinstance(value, _PLAIN):
            now = (type(value), value)
            if self.seen.get(name) != now:
                self.seen[name] = now
                self.calls.append(Call(name, None, value))
        return value

    def __dir__(self) -> list[str]:
        return dir(self.machine)  # where a misspelling is looked for

    def _listening(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def call(*arguments: Any) -> Any:
            self.seen.clear()
            try:
                answer = method(*arguments)
            except Exception as why:
                self.calls.append(Call(name, arguments, _raised(why)))
                raise
            self.calls.append(Call(name, arguments, answer))
            return answer

        return call


@dataclass(frozen=True, slots=True)
class Replay:
    """What came of feeding a recording to a fresh machine.

    machine: the fresh one, as it was at the end or at the first difference.
    calls: how many were answered in the same way; packets: among them, those sent.
    difference: the first one in words, empty if there is none.
    """

    machine: Any = field(repr=False)
    calls: int
    packets: int
    difference: str = ""

    @property
    def ok(self) -> bool:
        """Whether every answer was the recorded one."""
        return not self.difference

    def __str__(self) -> str:
        same = f"{self.calls} calls and {self.packets} packets were the same"
        return f"{same}. {self.difference}" if self.difference else f"{same}."


@contextmanager
def recording(protocol: str) -> Iterator[list[Recording]]:
    """Record every machine of a protocol that is built meanwhile in this process.

    Yields a list that gets one Recording for each machine: run transfers inside, real
    or simulated, and wait for their end there. Recorded is the protocol's own machine,
    not the Finish… around it. Nobody else notices, and nothing stays behind.
    Raises ValueError for a name that PROTOCOLS has not.
    """
    if protocol not in PROTOCOLS:
        names = ", ".join(PROTOCOLS)
        raise ValueError(f"there is no protocol {protocol!r}; choose one of {names}")
    usual = build_sender, build_receiver = PROTOCOLS[protocol]
    tape: list[Recording] = []

    def sender(setup: Setup, rtt: RttEstimator) -> Any:
        fresh = deepcopy(rtt)

        def make() -> Any:
            return built(build_sender, setup, deepcopy(fresh))

        return _recorded(built(build_sender, setup, rtt), Recording(SENDER, make), tape)

    def receiver(setup: Setup) -> Any:
        make = partial(built, build_receiver, setup)
        return _recorded(make(), Recording(RECEIVER, make), tape)

    PROTOCOLS[protocol] = (sender, receiver)
    try:
        yield tape
    finally:
        PROTOCOLS[protocol] = usual


def replay(recording: Recording, machine: object = None) -> Replay:
    """Ask a fresh machine what the recorded one was asked, and compare every answer.

    machine: None builds one like the recorded one.
    """
    fresh = recording.make() if machine is None else machine
    packets = 0
    for number, call in enumerate(list(recording.calls)):
        answer = _answer(fresh, call)
        if type(answer) is not type(call.answer) or answer != call.answer:
            words = (
                f"{type(fresh).__name__}: call {number + 1}, {call}, was answered with "
                f"{answer!r:.90} this time, and with {call.answer!r:.90} when it was "
                f"recorded. Same inputs, same outputs: look for chance, a clock, the "
                f"order of a set, or something that machines have in common."
            )
            return Replay(fresh, number, packets, words)
        packets += call.name == "next_packet" and answer is not None
    return Replay(fresh, len(recording.calls), packets)


def _recorded(machine: object, recording: Recording, tape: list[Recording]) -> Any:
    tape.append(recording)
    # Errors name a machine's class.
    kind = type(type(machine).__name__, (Recorder,), {})
    return cast(type[Recorder], kind)(machine, recording.calls)


def _answer(machine: Any, call: Call) -> Any:
    try:
        value = getattr(machine, call.name)
        return value if call.arguments is None else value(*call.arguments)
    except Exception as why:
        return _raised(why)


def _raised(why: Exception) -> Raised:
    return Raised(f"{type(why).__name__}: {why}")


def _words(arguments: tuple[Any, ...]) -> str:
    return ", ".join(f"{each!r:.60}" for each in arguments)
