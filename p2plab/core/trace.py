"""What happened in a run: every packet's fate, and the machines' own numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from p2plab.core.files import write_file
from p2plab.core.packet import Kind

if TYPE_CHECKING:
    import numpy as np

# What a row can say; `link` has the words for what the network does.
SEND: Final = "send"
RETRANSMIT: Final = "retransmit"
TIMEOUT: Final = "timeout"
DELIVER: Final = "deliver"

SENDER: Final = "sender"
RECEIVER: Final = "receiver"
OTHER: Final = {SENDER: RECEIVER, RECEIVER: SENDER}
_WRAPPED: Final = (SENDER, RECEIVER, "machine")  # what wrappers call it

_FORMAT: Final = "p2plab trace 1"


class Row(NamedTuple):
    """What happened at one moment.

    time: seconds since the run began.
    host: SENDER or RECEIVER. A packet is sent, and lost, at the host that sent it; it
        arrives at the other one.
    what: send, retransmit, timeout or deliver, or one of the fates in `link`.
    kind, seq: the packet's. A timeout has none (0, -1); a delivery counts payloads.
    size: bytes of payload.
    number: counts what its sender sent, so that a send and its fate can be matched.
    """

    time: float
    host: str
    what: str
    kind: int
    seq: int
    size: int
    number: int


class State(NamedTuple):
    """A machine's own numbers at a moment; `Trace.names` says what they mean."""

    time: float
    host: str
    values: tuple[Any, ...]


@dataclass(slots=True)
class Trace:
    """Everything that the driver saw, in the order in which it saw it.

    about: what was run (protocol, link, seed, ...), for titles and for repeating it.
    names: for each host, what the values in its states are.
    rows: what happened, in order.
    states: the machines' own numbers, whenever one of them has changed.
    """

    about: dict[str, Any] = field(default_factory=dict)
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list, repr=False)
    states: list[State] = field(default_factory=list, repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(list(self.rows))  # a driver may go on meanwhile

    def table(self) -> np.ndarray[Any, Any]:
        """Return the rows as a numpy record array with a Row's fields."""
        import numpy as np

        kinds = [("time", "f8"), ("host", "U8"), ("what", "U10"), ("kind", "i2")]
        rest = [("seq", "i8"), ("size", "i4"), ("number", "i8")]
        return np.array(list(self.rows), dtype=[*kinds, *rest]).view(np.recarray)

    def state(self, host: str, name: str) -> np.ndarray[Any, Any]:
        """Return one of a machine's numbers over time.

        Shape (n, 2): seconds and value, not-a-number where there was none yet.
        Raises KeyError, naming what there is, for an unknown host or name.
        """
        import numpy as np

        if name not in self.names.get(host, ()):
            raise KeyError(f"{host} has no {name}, only {self.names.get(host, ())}")
        column = self.names[host].index(name)
        pairs = [(at, _number(v[column])) for at, who, v in self.states if who == host]
        return np.array(pairs, dtype=float).reshape(-1, 2)

    def digest(self) -> str:
        """Return a SHA-256 of rows and states: equal runs have equal digests."""
        return hashlib.sha256(
            _json([self.names, list(self.rows), list(self.states)]).encode()
        ).hexdigest()

    def merged(self, other: Trace, later: float = 0.0) -> Trace:
        """Return both in one: what two hosts saw of the same run.

        later: how much later than ours the other's clock was started [s].
        """
        rows = [row._replace(time=row.time + later) for row in other]
        states = [each._replace(time=each.time + later) for each in list(other.states)]
        return Trace(
            {**other.about, **self.about},
            {**other.names, **self.names},
            sorted([*self, *rows], key=lambda row: row.time),
            sorted([*self.states, *states], key=lambda state: state.time),
        )

    def save(self, path: str | Path) -> None:
        """Write the trace as JSON, readable by `load` and by other programs."""
        content = {
            "format": _FORMAT,
            "about": self.about,
            "names": self.names,
            "fields": Row._fields,
            "rows": list(self.rows),
            "states": list(self.states),
        }
        write_file(Path(path), [_json(content).encode()])

    @classmethod
    def load(cls, path: str | Path) -> Trace:
        """Read what `save` has written; raises ValueError for anything else."""
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            if content["format"] != _FORMAT:
                raise ValueError(content["format"])
            return cls(
                content["about"],
                {host: tuple(names) for host, names in content["names"].items()},
                [Row(*row)._replace(kind=_kind(row[3])) for row in content["rows"]],
                [State(at, host, tuple(v)) for at, host, v in content["states"]],
            )
        except (KeyError, TypeError, AttributeError, ValueError) as why:
            raise ValueError(f"{path} is not a trace that p2plab saved: {why}") from why


def _json(content: object) -> str:
    # What a machine keeps beside its numbers is no part of the trace.
    return json.dumps(content, separators=(",", ":"), default=lambda thing: None)


def _kind(number: int) -> int:
    return Kind(number) if number else 0


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def probe(machine: object) -> tuple[tuple[str, ...], Callable[[Any], Any]]:
    """Return the names of a machine's own numbers, and a function that reads them.

    They are the numeric fields of the machine and of the parts that it holds, such as
    `send_base` and `rtt.srtt`. A machine that wraps a `sender`, `receiver` or `machine`
    shows the wrapped one's numbers as its own.
    """
    paths = dict(_paths(machine, "", "", set()))
    if not paths:
        return (), lambda machine: ()
    read = attrgetter(*paths.values())
    if len(paths) == 1:
        return tuple(paths), lambda machine: (read(machine),)
    return tuple(paths), read


def _paths(
    thing: object, name: str, path: str, seen: set[int]
) -> Iterator[tuple[str, str]]:
    seen.add(id(thing))
    for each, value in _attributes(thing).items():
        if "." in each:  # which only setattr can write
            continue
        if value is None or type(value) in (int, float):
            yield name + each, path + each
        elif is_dataclass(value) and id(value) not in seen:
            inner = name if each in _WRAPPED else f"{name}{each}."
            yield from _paths(value, inner, f"{path}{each}.", seen)


def _attributes(thing: object) -> Mapping[str, object]:
    if is_dataclass(thing):
        return {
            each.name: getattr(thing, each.name)
            for each in fields(thing)
            if not str(each.type).startswith("Final")  # a parameter, not a state
        }
    return vars(thing) if hasattr(thing, "__dict__") else {}
