"""How long to wait for an ACK: a fixed timeout, or one that learns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from p2plab.core.validation import number


@dataclass(slots=True)
class FixedRto:
    """The same timeout for ever.

    rto: > 0 [s].
    """

    rto: float = 1.0

    def __post_init__(self) -> None:
        number("rto", self.rto, 0.2, "(0, inf)", " s")

    def on_send(self, seq: int, now: float) -> None: ...

    def on_ack(self, seq: int, now: float, ts_ecr: float | None = None) -> None: ...

    def on_timeout(self) -> None: ...


@dataclass(slots=True)
class Rfc6298:
    """A timeout that follows the round trips it sees (RFC 6298).

    min_rto: the floor; the RFC says 1 s (2.4), Linux uses 0.2 s, and on the links of
        a classroom every loss would cost that much [s].
    granularity: the clock's tick, G in the RFC [s].
    timestamps: believe an ACK's echo, so that also the ACK of a retransmission can be
        timed (RFC 7323, section 4); otherwise Karn's rule leaves those out.
    """

    rto: float = 1.0  # RFC 6298 (2.1)
    min_rto: Final[float] = 0.1
    max_rto: Final[float] = 60.0  # RFC 6298 (2.5)
    granularity: Final[float] = 0.001
    timestamps: Final[bool] = False
    srtt: float | None = None  # smoothed round-trip time [s]
    rttvar: float | None = None  # its mean deviation [s]
    sent_at: dict[int, float | None] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        number("rto", self.rto, 1.0, "(0, inf)", " s")
        number("granularity", self.granularity, 0.001, "[0, inf)", " s")
        number("max_rto", self.max_rto, 60.0, "[0, inf]", " s")
        number("min_rto", self.min_rto, 0.2, f"[0, {self.max_rto}]", " s")

    def on_send(self, seq: int, now: float) -> None:
        # Karn's rule, RFC 6298 (3): once sent twice, an ACK could answer either copy.
        self.sent_at[seq] = None if seq in self.sent_at else now

    def on_ack(self, seq: int, now: float, ts_ecr: float | None = None) -> None:
        sent_at = self.sent_at.pop(seq, None)
        if self.timestamps and ts_ecr is not None:
            sent_at = ts_ecr
        if sent_at is not None:
            self._sample(now - sent_at)

    def on_timeout(self) -> None:
        self.rto = min(2 * self.rto, self.max_rto)  # RFC 6298 (5.5)

    def _sample(self, rtt: float) -> None:
        if self.srtt is None or self.rttvar is None:
            self.srtt, self.rttvar = rtt, rtt / 2  # RFC 6298 (2.2)
        else:  # RFC 6298 (2.3): the deviation first, from the old mean
            self.rttvar = 0.75 * self.rttvar + 0.25 * abs(self.srtt - rtt)
            self.srtt = 0.875 * self.srtt + 0.125 * rtt
        rto = self.srtt + max(self.granularity, 4 * self.rttvar)
        self.rto = min(max(rto, self.min_rto), self.max_rto)
