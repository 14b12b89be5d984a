"""Coded packets: sums of many packets, from which a receiver finds what it lacks.

A packet is read as a number, so that adding is one exclusive or. A coded packet is the
sum of about half of the packets of a range, or of about a hundred if it is long; which
ones, its own number says. Who lacks m of them needs m coded packets and one or two
more, whichever m it is that are missing (random linear network coding; Luby et al.,
RFC 5053, section 5 has the sparse kind); a few of very many need more, 5 of 1,024 about
15.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from hashlib import shake_128
from itertools import islice
from math import ceil, log
from operator import xor
from typing import Final

_RANGE: Final = struct.Struct("!IH")
MAX_RANGE: Final = 1024  # packets in the range of a coded packet
HALF: Final = log(2)  # draws for each of a range, to have half of them once or more
MAX_DRAWS: Final = 128  # to add up more takes longer than to send the sum
SPARE: Final = 1.25  # of what is to be remembered, before some are forgotten

Equation = tuple[frozenset[int], int]  # these packets' numbers add up to that


def to_number(payload: bytes) -> int:
    """Read a payload as a number; a last byte of 1 keeps its length."""
    return int.from_bytes(payload + b"\1", "little")


def to_payload(number: int) -> bytes:
    """Return the payload that `to_number` has read."""
    return number.to_bytes((number.bit_length() + 7) // 8, "little")[:-1]


def members(coded: int, first: int, count: int) -> set[int]:
    """Return which packets of a range are in coded packet number `coded`."""
    draws = min(ceil(HALF * count), MAX_DRAWS)
    drawn = struct.unpack(f"<{draws}H", shake_128(b"%d" % coded).digest(2 * draws))
    return {first + each % count for each in drawn}


def encode(coded: int, first: int, count: int, numbers: Mapping[int, int]) -> bytes:
    """Return coded packet number `coded` of packets `first` to `first + count - 1`."""
    total = added(members(coded, first, count), numbers)
    size = (total.bit_length() + 7) // 8
    return _RANGE.pack(first, count) + total.to_bytes(size, "little")


def added(seqs: Iterable[int], numbers: Mapping[int, int], total: int = 0) -> int:
    """Add up the numbers of these packets."""
    return reduce(xor, map(numbers.__getitem__, seqs), total)


@dataclass(slots=True)
class Decoder:
    """Keeps what has arrived, and finds out what is missing from coded packets.

    keep: how many of the last packets are remembered at least, because a coded packet
        may have them.
    """

    keep: int
    payloads: dict[int, bytes] = field(default_factory=dict, repr=False)
    numbers: dict[int, int] = field(default_factory=dict, repr=False)
    # one of the packets that it is about -> equation; no other has that packet
    equations: dict[int, Equation] = field(default_factory=dict, repr=False)

    def add_packet(self, seq: int, payload: bytes) -> list[tuple[int, bytes]]:
        """Take a packet; return those that are known now because of it."""
        self.payloads[seq] = payload
        self._forget()
        if not self.equations:
            return []
        known = self._learn(frozenset([seq]), to_number(payload))
        return [each for each in known if each[0] != seq]

    def add_coded(self, coded: int, content: bytes) -> list[tuple[int, bytes]]:
        """Take a coded packet; return the packets that are known now because of it."""
        if len(content) < _RANGE.size:
            return []
        first, count = _RANGE.unpack_from(content)
        if not 0 < count <= MAX_RANGE:
            return []
        chosen = members(coded, first, count)
        missing = frozenset(chosen.difference(self.payloads))
        if not missing or len(missing) > self.keep:
            return []
        known = chosen - missing
        for seq in known.difference(self.numbers):
            self.numbers[seq] = to_number(self.payloads[seq])
        total = int.from_bytes(content[_RANGE.size :], "little")
        return self._learn(missing, added(known, self.numbers, total))

    def _learn(self, missing: frozenset[int], total: int) -> list[tuple[int, bytes]]:
        """Take an equation, and return what can be solved with it (Gauss-Jordan)."""
        for seq in missing & self.equations.keys():
            others, number = self.equations[seq]
            missing, total = missing ^ others, total ^ number
        if not missing:
            return []
        if len(self.equations) == self.keep:  # of a liar, or far too late
            self.equations.clear()
        chosen = min(missing)
        for seq, (others, number) in self.equations.items():
            if chosen in others:
                self.equations[seq] = others ^ missing, number ^ total
        self.equations[chosen] = missing, total
        solved = [seq for seq, (them, _) in self.equations.items() if len(them) == 1]
        known = [(seq, to_payload(self.equations.pop(seq)[1])) for seq in solved]
        self.payloads.update(known)
        self._forget()
        if not self.equations:
            self.numbers.clear()
        return known

    def _forget(self) -> None:
        """Forget the oldest, many at once: to find one takes as long as to find all."""
        if len(self.payloads) <= SPARE * self.keep:
            return
        for seq in list(islice(self.payloads, len(self.payloads) - self.keep)):
            del self.payloads[seq]
            self.numbers.pop(seq, None)
