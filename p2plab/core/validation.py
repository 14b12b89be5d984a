"""Numbers as people write them, and as they read them."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any


def number(
    name: str,
    value: Any,
    example: float,
    interval: str = "(-inf, inf)",
    unit: str = "",
    *,
    whole: bool = False,
) -> None:
    """Raise ValueError, with an example, unless it is a number in an interval.

    interval: as in mathematics, such as "[0, 1)" for 0 <= value < 1.
    Numbers of numpy are numbers; True, text and not-a-number are none.
    """
    kind: Any
    kind, what = (Integral, "a whole number") if whole else (Real, "a number")
    if not isinstance(value, kind) or isinstance(value, bool):
        quotes = ", without quotes" if isinstance(value, str) else ""
        raise ValueError(
            f"{name} is {what}, got {value!r}: write {name}={example}{quotes}"
        )
    low, high = map(float, interval[1:-1].split(","))
    above = value >= low if interval[0] == "[" else value > low
    below = value <= high if interval[-1] == "]" else value < high
    if not (above and below):
        raise ValueError(f"{name} must be in {interval}{unit}, got {value}")


def may_have(own: float, used: float, total: float, more: float = 1) -> bool:
    """Say whether who has `own` of what is `used` of a total may have more of it.

    Everybody may have as much as stays free for others: alone one has half, two have a
    third each, and so on; nobody who comes later finds nothing left.
    Source: Choudhury and Hahne, Dynamic Queue Length Thresholds for Shared-Memory
    Packet Switches (1998), with alpha = 1.
    """
    return used + more <= total and own + more <= max(total - used, more)


def on_one_line(text: str) -> str:
    """Write text of others so that no terminal obeys it: on one line, nothing hidden.

    What cannot be printed is written as Python writes it in a string.
    """
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def count_of(number: int, thing: str) -> str:
    """Write how many there are: 1 timeout, 2,000 timeouts."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
