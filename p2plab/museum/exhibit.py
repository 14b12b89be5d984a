"""An exhibit: a protocol on show, right or wrong; and the ones that are right."""

from __future__ import annotations

import inspect
import linecache
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from difflib import unified_diff
from functools import cache, partial
from textwrap import indent
from types import ModuleType
from typing import Any, Final, NamedTuple

from p2plab import protocols
from p2plab.core.endpoint import FixedWindow, Receiver, RttEstimator, Sender
from p2plab.core.rtt import FixedRto, Rfc6298
from p2plab.fast import fast as fast_page
from p2plab.fast.rate_control import RateController
from p2plab.museum import designs
from p2plab.protocols.modulo import ModuloReceiver, ModuloSender

Machines = tuple[Sender, Receiver]


class Page:
    """The source of a protocol's page, on which lines can be changed."""

    def __init__(self, module: ModuleType) -> None:
        self.name = module.__name__
        self.source = inspect.getsource(module)

    def change(self, old: str, *new: str) -> None:
        """Put the lines `new` in the place of some words, or take their lines out.

        old: words of one line, or of several; new: without the indentation of the line
        in which `old` begins.
        Raises ValueError unless `old` stands on the page exactly once.
        """
        words = r"\n *".join(map(re.escape, old.splitlines()))
        if (count := len(re.findall(words, self.source))) != 1:
            raise ValueError(
                f"{self.name} has these words {count} times, and a change needs them "
                f"exactly once: {old!r}"
            )
        lines = rf"^( *)(.*)({words})(.*\n)"
        space, before, _, after = re.findall(lines, self.source, re.MULTILINE)[0]
        text = indent(before + "\n".join(new) + after, space) if new else ""
        self.source = re.sub(lines, lambda _: text, self.source, flags=re.MULTILINE)

    def module(self, family: str, name: str, about: str) -> ModuleType:
        """Return the page as a module of its own, with its changes made."""
        module = ModuleType(f"{family}.{name}", about)
        module.__file__ = file = f"<museum: {name}>"
        # Without a time the entry stays for good: tracebacks and `inspect` read it.
        lines = self.source.splitlines(keepends=True)
        linecache.cache[file] = (len(self.source), None, lines, file)
        sys.modules[module.__name__] = module  # dataclasses and pickle look there
        exec(compile(self.source, file, "exec", dont_inherit=True), vars(module))
        return module


@dataclass(frozen=True, slots=True)
class Exhibit:
    """A protocol on show.

    mistake: the sentence that explains it; empty for a correct protocol.
    channel: fifo (packets are lost), dup (and doubled), late (and delayed, overtaken)
        or corrupt (lost or damaged). For a mistake the weakest of them in which it
        fails while both sides pull at once; for a correct protocol the strongest of
        the first three that it survives.
    page: the module with the correct protocol.
    build: builds both sides from the classes of that module, or of a changed one.
    edit: makes the mistake on the page, if it is not in how the sides are built.
    """

    name: str
    title: str
    mistake: str
    channel: str
    page: ModuleType
    build: Callable[[Any], Machines]
    edit: Callable[[Page], None] | None = None

    def make(self) -> Machines:
        """Build both sides anew."""
        return self.build(_changed(self))

    def sender(self) -> Sender:
        """Build the sending side."""
        return self.make()[0]

    def receiver(self) -> Receiver:
        """Build the receiving side."""
        return self.make()[1]

    def __reduce__(self) -> tuple[Callable[[str], Exhibit], tuple[str]]:
        return _find, (self.name,)  # another process has the same museum

    @property
    def pages(self) -> list[type]:
        """The classes of its two sides, for `p2plab.show`."""
        kinds = dict.fromkeys(
            type(part) for each in self.make() for part in _parts(each)
        )
        families = ("p2plab.museum", "p2plab.protocols", "p2plab.fast")
        return [kind for kind in kinds if kind.__module__.startswith(families)]

    def diff(self) -> str:
        """Return how its page differs from the correct one, in the words of `diff`.

        Empty where a parameter, or the choice of the two sides, is all the mistake.
        """
        before, after = map(inspect.getsource, (self.page, _changed(self)))
        names = self.page.__name__, self.name
        lines = before.splitlines(), after.splitlines()
        return "\n".join(unified_diff(*lines, *names, lineterm=""))


def label(function: Callable[..., object]) -> str:
    """Return a function's docstring as one line."""
    return " ".join((function.__doc__ or "").split())


def _find(name: str) -> Exhibit:
    from p2plab.museum import EXHIBITS, HEALTHY

    return (EXHIBITS if name in EXHIBITS else HEALTHY)[name]


def _parts(machine: object) -> Iterator[object]:
    yield machine
    for name in ("sender", "receiver", "rtt"):
        if hasattr(machine, name):
            yield from _parts(getattr(machine, name))


@cache
def _changed(exhibit: Exhibit) -> ModuleType:
    """Return the exhibit's page as a module, with its mistake made."""
    page = Page(exhibit.page)
    if exhibit.edit is not None:
        exhibit.edit(page)
    if page.source == inspect.getsource(exhibit.page):
        return exhibit.page
    return page.module(exhibit.edit.__module__, exhibit.name, exhibit.mistake)


# The correct protocols: how they are built, and the network that each survives

Timer = Callable[[], RttEstimator]
LEARNING: Final = partial(Rfc6298, timestamps=True)
HEALTHY: Final[dict[str, Exhibit]] = {}


class Design(NamedTuple):
    """A page, and what builds both sides from its classes, or from changed ones."""

    page: ModuleType
    build: Callable[..., Machines]


def correct(
    page: ModuleType, channel: str = "late", **how: Any
) -> Callable[[Callable[..., Machines]], Design]:
    """Make an exhibit of what a function builds, with its name and its docstring.

    how: arguments of the function, beside the page.
    """

    def enter(build: Callable[..., Machines]) -> Design:
        name, title = build.__name__, label(build)
        HEALTHY[name] = Exhibit(name, title, "", channel, page, partial(build, **how))
        return Design(page, build)

    return enter


def numbered(
    sender: Sender, receiver: Receiver, bits: int | None, window: int = 1
) -> Machines:
    """Give the numbers on the wire so many bits; None leaves them as they are."""
    if bits is None:
        return sender, receiver
    return ModuloSender(sender, bits), ModuloReceiver(receiver, bits, window)


@correct(protocols.stop_and_wait)
def stop_and_wait(
    page: Any, rtt: Timer = FixedRto, bits: int | None = None
) -> Machines:
    """Stop-and-wait, every packet with a number of its own"""
    sender, receiver = page.StopAndWaitSender(rtt()), page.StopAndWaitReceiver()
    return numbered(sender, receiver, bits)


@correct(protocols.go_back_n, rtt=LEARNING)
def go_back_n(
    page: Any, rtt: Timer = FixedRto, window: int = 4, bits: int | None = None
) -> Machines:
    """Go-back-N, with a timeout that learns"""
    sender = page.GoBackNSender(rtt(), FixedWindow(window))
    return numbered(sender, page.GoBackNReceiver(), bits)


@correct(protocols.selective_repeat, rtt=LEARNING)
def selective_repeat(
    page: Any, rtt: Timer = FixedRto, window: int = 4, bits: int | None = None
) -> Machines:
    """Selective repeat, with a timeout that learns"""
    sender = page.SelectiveRepeatSender(rtt(), FixedWindow(window))
    receiver = page.SelectiveRepeatReceiver(window)
    return numbered(sender, receiver, bits, window)


@correct(designs, "dup")
def alternating_bit(page: Any) -> Machines:
    """The alternating bit: a copy is harmless unless it comes late"""
    return page.AlternatingBitSender(FixedRto()), page.AlternatingBitReceiver()


@correct(protocols.go_back_n, "dup")
def go_back_n_two_bits(page: Any) -> Machines:
    """Go-back-N with two bits and a window of three"""
    return go_back_n.build(page, window=3, bits=2)


@correct(protocols.selective_repeat, "dup")
def selective_repeat_two_bits(page: Any) -> Machines:
    """Selective repeat with two bits and a window of two"""
    return selective_repeat.build(page, window=2, bits=2)


@correct(designs)
def negative_ack(page: Any) -> Machines:
    """Negative ACKs: damage is reported, loss is waited for"""
    return page.NegativeAckSender(FixedRto()), page.NegativeAckReceiver()


@correct(designs)
def fast_retransmit(page: Any) -> Machines:
    """Go-back-N that goes back at the third duplicate ACK"""
    sender = page.FastRetransmitSender(FixedRto(), FixedWindow(8))
    return sender, page.GoBackNReceiver()


@correct(designs)
def bitmap(page: Any) -> Machines:
    """Selective repeat with a map of what has arrived in every ACK"""
    return page.BitmapSender(FixedRto(), FixedWindow(8)), page.BitmapReceiver(8)


@correct(designs)
def parity(page: Any) -> Machines:
    """A parity packet after every three; what it cannot mend is sent again"""
    return page.ParitySender(FixedRto(), FixedWindow(6)), page.ParityReceiver(6)


@correct(fast_page)
def fast(page: Any) -> Machines:
    """Ranges in the ACKs, a learned pace, and coded packets of all that is in flight"""
    return page.FastSender(LEARNING(), RateController(), 3), page.FastReceiver(3)


@correct(designs)
def duplex(page: Any, answers: Iterable[bytes] = (b"yes", b"", b"no")) -> Machines:
    """Both sides send, and ACKs ride along"""
    ours, theirs = (
        page.DuplexPeer(page.StopAndWaitSender(FixedRto())) for _ in range(2)
    )
    for answer in answers:
        theirs.send(answer)
    return ours, theirs


@correct(designs)
def delayed_ack(page: Any) -> Machines:
    """Go-back-N with an ACK for every second packet, or after a tenth of a second"""
    return page.GoBackNSender(FixedRto(), FixedWindow(4)), page.DelayedAckReceiver()


@correct(protocols.finish)
def finish(page: Any, tries: int = 10) -> Machines:
    """Stop-and-wait that says when it is over"""
    rtt = FixedRto()
    sender = protocols.FinishSender(protocols.StopAndWaitSender(rtt), rtt, tries)
    return sender, page.FinishReceiver(protocols.StopAndWaitReceiver())
