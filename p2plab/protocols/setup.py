"""Setup: which protocol, with which parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from importlib.util import find_spec
from inspect import signature
from operator import index
from typing import Any, Final, cast

from p2plab.core.endpoint import FixedWindow, Receiver, RttEstimator, Sender
from p2plab.core.rtt import FixedRto, Rfc6298
from p2plab.core.validation import number
from p2plab.fast.fast import FastReceiver, FastSender
from p2plab.fast.fountain import NEEDS_RAPTORQ, FountainReceiver, FountainSender
from p2plab.fast.rate_control import RateController
from p2plab.protocols.best_effort import BestEffortReceiver, BestEffortSender
from p2plab.protocols.finish import FinishReceiver, FinishSender
from p2plab.protocols.go_back_n import GoBackNReceiver, GoBackNSender
from p2plab.protocols.modulo import ModuloReceiver, ModuloSender
from p2plab.protocols.selective_repeat import (
    SelectiveRepeatReceiver,
    SelectiveRepeatSender,
)
from p2plab.protocols.stop_and_wait import StopAndWaitReceiver, StopAndWaitSender

WINDOWLESS: Final = ("best_effort", "stop_and_wait")  # to which a window means nothing
AT_ONCE: Final = ("fast", "fountain")  # their first packets follow an offer directly
WINDOW: Final = 16  # packets
WIDE: Final = 8192  # packets: with 1,200 bytes each, 1 Gbit/s and 80 ms there and back
MAX_WINDOW: Final = 100_000  # packets; a receiver's memory is bounded by its window


@dataclass(frozen=True, slots=True)
class Setup:
    """Which protocol, with which parameters: enough to build both of its sides.

    protocol: a name in PROTOCOLS.
    window: packets in flight, 1 to MAX_WINDOW; stop-and-wait and best effort have none,
        and fast and fountain find out by themselves how many the path holds: to them
        it is the receiver's buffer, or a block. By default WINDOW, or WIDE for them.
    timeout: a fixed retransmission timeout, > 0 [s]; None learns it (RFC 6298).
    timestamps: let the learning timeout time retransmissions, too (RFC 7323). Without,
        a go-back-N that loses a packet of every window never gets a sample, and its
        timeout doubles to a minute.
    seq_bits: bits that a number has on the wire, 1 to 31, for stop-and-wait, go-back-N
        and selective repeat; None, and all others, give every packet its own number.
    rate: of the link, headers included, if you know it, for fast and fountain: they
        start at once with this rate and never exceed it; None learns it [bit/s].
    polite: fast and fountain give way to others on the path. False is aggressive: they
        keep to their rate whoever else is there, and TCP beside them may starve.
    Raises ValueError outside these ranges.
    """

    protocol: str = "selective_repeat"
    window: int = cast(int, None)  # what is left out becomes a number at once
    timeout: float | None = None
    timestamps: bool = True
    seq_bits: int | None = None
    rate: float | None = None
    polite: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.protocol, str):
            raise ValueError(
                f"protocol is a name, got {self.protocol!r}; write PROTOCOLS['mine'] = "
                f"(MySender, MyReceiver), then Setup('mine')"
            )
        if self.protocol not in PROTOCOLS:
            raise ValueError(
                f"there is no protocol {self.protocol!r}; choose one of "
                f"{', '.join(PROTOCOLS)}" + MISSING.get(self.protocol, "")
            )
        if self.window is None:
            usual = WIDE if self.protocol in AT_ONCE else WINDOW
            object.__setattr__(self, "window", usual)
        for name, example, most in (("window", 16, MAX_WINDOW), ("seq_bits", 2, 31)):
            if (value := getattr(self, name)) is not None:
                number(name, value, example, f"[1, {most}]", whole=True)
                object.__setattr__(self, name, index(value))  # of numpy's, too
        if self.timeout is not None:
            number("timeout", self.timeout, 0.2, "(0, 3600)", " s")
        if self.rate is not None:
            number("rate", self.rate, 1_000_000, "[1e3, 1e12]", " bit/s")
        for name in ("timestamps", "polite"):
            if not isinstance(value := getattr(self, name), bool):
                raise ValueError(f"{name} is True or False, got {value!r}")

    def sender(self) -> FinishSender:
        """Build the sending side."""
        rtt: RttEstimator = Rfc6298(timestamps=self.timestamps)
        if self.timeout is not None:
            rtt = FixedRto(self.timeout)
        sender: Sender = built(PROTOCOLS[self.protocol][0], self, rtt)
        if self.seq_bits is not None and self.protocol in NUMBERED:
            sender = ModuloSender(sender, self.seq_bits)
        return FinishSender(sender, rtt)

    def receiver(self) -> FinishReceiver:
        """Build the receiving side."""
        receiver: Receiver = built(PROTOCOLS[self.protocol][1], self)
        if self.seq_bits is not None and self.protocol in NUMBERED:
            window = self.window if self.protocol == "selective_repeat" else 1
            receiver = ModuloReceiver(receiver, self.seq_bits, window)
        return FinishReceiver(receiver)

    def to_dict(self) -> dict[str, Any]:
        """Return the parameters as JSON can carry them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Setup:
        """Return the setup that `to_dict` described.

        Raises ValueError for unknown names, wrong types and impossible values.
        """
        if unknown := set(given) - {field.name for field in fields(cls)}:
            raise ValueError(f"a setup has no {', '.join(sorted(map(str, unknown)))}")
        return cls(**given)


_Build = tuple[
    Callable[[Setup, RttEstimator], Sender] | type[Sender],
    Callable[[Setup], Receiver] | type[Receiver],
]


def built(build: Callable[..., Any], *given: object) -> Any:
    """Build a side; a class that needs no arguments gets none, as `check` does it."""
    if isinstance(build, type):
        with suppress(TypeError, ValueError):
            signature(build).bind()
            given = ()
    return build(*given)


# name -> how to build its two sides, by functions of the setup or by classes that need
# no arguments; add yours to run it everywhere by its name
PROTOCOLS: Final[dict[str, _Build]] = {
    "best_effort": (
        lambda setup, rtt: BestEffortSender(),
        lambda setup: BestEffortReceiver(),
    ),
    "stop_and_wait": (
        lambda setup, rtt: StopAndWaitSender(rtt),
        lambda setup: StopAndWaitReceiver(),
    ),
    "go_back_n": (
        lambda setup, rtt: GoBackNSender(rtt, FixedWindow(setup.window)),
        lambda setup: GoBackNReceiver(),
    ),
    "selective_repeat": (
        lambda setup, rtt: SelectiveRepeatSender(rtt, FixedWindow(setup.window)),
        lambda setup: SelectiveRepeatReceiver(setup.window),
    ),
    "fast": (
        lambda setup, rtt: FastSender(
            rtt, RateController(setup.rate, setup.polite), setup.window
        ),
        lambda setup: FastReceiver(setup.window),
    ),
}
NUMBERED: Final = ("stop_and_wait", "go_back_n", "selective_repeat")  # see seq_bits
MISSING: Final[dict[str, str]] = {}  # protocol -> what it needs to be one of them

if find_spec("raptorq") is not None:
    PROTOCOLS["fountain"] = (
        lambda setup, rtt: FountainSender(
            rtt, RateController(setup.rate, setup.polite), setup.window
        ),
        lambda setup: FountainReceiver(setup.window),
    )
else:
    MISSING["fountain"] = f". {NEEDS_RAPTORQ}"
