"""How much a machine holds: the items in its own containers, wherever they are."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from typing import Any, Final

CONTAINERS: Final = (list, set, deque, dict, bytearray)
_MANY: Final = (list, tuple, set, frozenset, deque)
_TEXT: Final = (bytes, bytearray, str)
ITEM: Final = 16  # so many bytes count as one


def held(machine: object) -> Counter[str]:
    """Return how many items each of a machine's own containers holds, by its name.

    Items of inner containers count, too, and long bytes as many small ones.
    """
    found: Counter[str] = Counter()
    for name, value in attributes(machine):
        _count(value, name, found, {id(machine)})
    return found


def attributes(thing: object) -> Iterator[tuple[str, Any]]:
    """Yield the names and values that an object has of its own."""
    yield from getattr(thing, "__dict__", {}).items()
    for kind in type(thing).__mro__:
        slots = vars(kind).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(thing, name):
                yield name, getattr(thing, name)


def _count(value: Any, name: str, found: Counter[str], seen: set[int]) -> None:
    if isinstance(value, _TEXT):
        found[name] += len(value) // ITEM
        return
    if value is None or isinstance(value, int | float | type) or id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Mapping):
        found[name] += len(value)
        for each in list(value.values()):
            _count(each, name, found, seen)
    elif isinstance(value, _MANY):
        found[name] += len(value)
        for each in list(value):
            _count(each, name, found, seen)
    elif type(value).__module__ not in ("builtins", "types", "functools"):
        for inner, each in attributes(value):
            _count(each, f"{name}.{inner}", found, seen)


def shared(one: object, other: object) -> dict[str, Any]:
    """Return what two machines of one class have in common, by name.

    Class attributes count only while the machine has none of its own.
    """
    ours, theirs = dict(attributes(one)), dict(attributes(other))
    of_class = {
        name: value
        for each in reversed(type(one).__mro__)
        for name, value in vars(each).items()
        if not name.startswith("__") and name not in ours and changeable(value)
    }
    same = {
        name: value
        for name, value in ours.items()
        if isinstance(value, CONTAINERS) and theirs.get(name) is value
    }
    return of_class | same


def changeable(value: object) -> bool:
    """Whether what machines leave in a common value can be seen."""
    return isinstance(value, (*CONTAINERS, int, float))
