"""Numbers as people write them, and as they read them."""

from __future__ import annotations

from numbers import Integral, Real


def number(name: str, value: object, example: float) -> None:
    """Raise ValueError, with an example, if it is no number; numpy's are numbers."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise ValueError(_wanted("a number", name, value, example))


def whole(name: str, value: object, example: int) -> None:
    """Raise ValueError, with an example, if it is no whole number."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise ValueError(_wanted("a whole number", name, value, example))


def count_of(number: int, thing: str) -> str:
    """Write how many there are: 1 timeout, 2,000 timeouts."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _wanted(what: str, name: str, value: object, example: float) -> str:
    quotes = ", without quotes" if isinstance(value, str) else ""
    return f"{name} is {what}, got {value!r}: write {name}={example}{quotes}"
