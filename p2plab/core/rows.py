"""What a trace keeps, kept flat: rows and states without a tuple for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeVar, cast, get_args, overload

# time, host, what, kind, seq, size, number: see trace.Event
Row = tuple[float, str, str, int, int, int, int]
# time, host, values
State = tuple[float, str, tuple[Any, ...]]

_WIDTH: Final = len(get_args(Row))
T = TypeVar("T", bound=tuple[Any, ...])


class _Flat(Sequence[T]):
    """What was appended, in order: reads like a list of tuples.

    Inside, their fields lie flat in long lists. A million tuples that live on would
    take twice the memory, and more time than all else while a run makes them.
    """

    __slots__ = ()

    @overload
    def __getitem__(self, at: int) -> T: ...
    @overload
    def __getitem__(self, at: slice) -> list[T]: ...
    def __getitem__(self, at: int | slice) -> T | list[T]:
        return list(self)[at]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Flat | list) and list(self) == list(other)

    def __repr__(self) -> str:
        return repr(list(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (list(self),)


class Columns(NamedTuple):
    """The fields of all rows, a list for each field."""

    times: list[float]
    hosts: list[str]
    whats: list[str]
    kinds: list[int]
    seqs: list[int]
    sizes: list[int]
    numbers: list[int]


class Rows(_Flat[Row]):
    """The rows of a trace.

    append: adds one; meanwhile, another thread may read.
    """

    __slots__ = ("_fields", "append")

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self._fields: list[Any] = []
        self.append: Callable[[Row], None] = self._fields.extend
        for row in rows:
            self.append(row)

    def __len__(self) -> int:
        return len(self._fields) // _WIDTH

    def __iter__(self) -> Iterator[Row]:
        fields = iter(self._fields)
        return cast(Iterator[Row], zip(*[fields] * _WIDTH, strict=False))

    def columns(self) -> Columns:
        """Return them all at once: seven times as quick as row by row."""
        fields = self._fields[: len(self) * _WIDTH]
        return Columns(*(fields[at::_WIDTH] for at in range(_WIDTH)))

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return list(self)[at]
        first = range(len(self))[at] * _WIDTH  # an IndexError where a list has one
        return tuple(self._fields[first : first + _WIDTH])


class States(_Flat[State]):
    """The states of a trace.

    heads: in turn a time, and (host, how many of the values are its own).
    """

    __slots__ = ("heads", "values")

    def __init__(self, states: Iterable[State] = ()) -> None:
        self.heads: list[Any] = []
        self.values: list[Any] = []
        for state in states:
            self.append(state)

    def append(self, state: State) -> None:
        """Add one; meanwhile, another thread may read."""
        time, host, values = state
        self.values.extend(values)
        self.heads.extend((time, (host, len(values))))

    def __len__(self) -> int:
        return len(self.heads) // 2

    def __iter__(self) -> Iterator[State]:
        heads = iter(self.heads)
        first = 0
        for time, (host, width) in zip(heads, heads, strict=False):
            last = first + width
            yield time, host, tuple(self.values[first:last])
            first = last
