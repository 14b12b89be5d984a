"""What a browser is given of a run: a header, and columns of numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from p2plab.checker.game import Attempt, play
from p2plab.checker.run import VerdictKind
from p2plab.checker.verdict import Verdict
from p2plab.content.chunks import Assembly, places
from p2plab.content.transfer import Transfer
from p2plab.core.link import ARRIVE, CORRUPT, DUPLICATE, LOSS, OVERFLOW
from p2plab.core.packet import Kind
from p2plab.core.trace import DELIVER, RECEIVER, SENDER, TIMEOUT, Row, Trace
from p2plab.measure.metrics import deliveries, rtt_samples, transmissions
from p2plab.room.virtual import COME, GONE, RoomRun

if TYPE_CHECKING:
    from numpy.typing import NDArray

Run = Transfer | Trace | Verdict | Attempt | RoomRun
LINES: Final = {SENDER: 0, RECEIVER: 1}
FATES: Final = {ARRIVE: 1, LOSS: 2, OVERFLOW: 3, CORRUPT: 4, DUPLICATE: 5}
RECENT: Final = 1500  # rows of a long transfer that are shown while it goes on
HEAVY: Final = 200  # bytes of a message that carries something
MOST: Final = 512  # pixels of a picture's longer side; the screen has no room for more
MESSAGE: Final = {  # the columns of a message, and their types
    "from": "i4", "to": "i4", "sent": "f8", "ended": "f8", "fate": "u1",
    "kind": "u1", "seq": "i4", "payload": "i4", "again": "u1", "number": "i4",
}  # fmt: skip


def recent(transfer: Transfer) -> Trace | None:
    """Return the last of what happened in a long transfer that goes on; None if all of
    it can be shown in time.
    """
    ours, other = transfer.own_trace, transfer.other_end
    if transfer.ended or len(ours) <= RECENT:
        return None
    parts = [Trace({}, ours.names, ours.rows[-RECENT:], ours.states[-RECENT:])]
    if other is not None:
        theirs, later = other.own_trace, other.started_at - transfer.started_at
        theirs = Trace({}, theirs.names, theirs.rows[-RECENT:], theirs.states[-RECENT:])
        return parts[0].merged(theirs, later)
    return parts[0]


def encode(
    run: Run, names: tuple[str, ...], pictured: Columns, here: dict[int, float]
) -> tuple[dict[str, Any], bytes]:
    """Return a run as `scene.mjs` reads it: a header, and columns.

    The columns are little-endian numbers, one behind the other; the header has their
    types and places.
    pictured: what `picture_of` made of the run. here: when payloads were delivered, as
    far as it is known from frames before; of a transfer that goes on, it is added to.
    """
    if isinstance(run, RoomRun):
        return _room(run)
    words = ""
    if isinstance(run, Attempt | Verdict):
        words, verdict = str(run), run.verdict if isinstance(run, Attempt) else run
        survived = verdict.kind == VerdictKind.SURVIVED
        if survived and verdict.makers and not verdict.trace.rows:
            verdict = play(verdict.makers, verdict.channel, ())  # a run to look at
        run = verdict.trace
    part = recent(run) if isinstance(run, Transfer) else None
    trace = part or (run if isinstance(run, Trace) else run.trace)
    rows, moves = list(trace), transmissions(trace)
    end = max((row.time for row in rows if not _lingers(row)), default=0.0)
    tables = Columns()
    plain = sorted({move.payload for move in moves if move.seq >= 0} - {-1})
    payload_of = {payload: n for n, payload in enumerate(plain)}  # coded ones have none
    if part:  # what was sent before is not there to be counted
        payload_of = {each.payload: each.seq for each in moves if each.payload >= 0}
    messages = [
        (
            LINES[move.host],
            1 - LINES[move.host],
            move.moment,
            when,
            FATES.get(what, 0),
            move.kind,
            move.seq,
            payload_of.get(move.payload, -1),
            move.again,
            move.number,
        )
        for move in moves
        for when, what in move.fates or ((-1.0, ""),)
    ]
    tables.add("messages", MESSAGE, messages)
    marks = [
        (row.time, LINES[row.host], int(row.what == DELIVER), row.seq)
        for row in rows
        if row.what in (DELIVER, TIMEOUT)
    ]
    tables.add("marks", {"at": "f8", "line": "u1", "what": "u1", "seq": "i4"}, marks)
    for host, line in LINES.items():
        told = [each for each in trace.states if each.host == host]
        values = [(each.time, *map(_number, each.values)) for each in told]
        names_of = "time", *trace.names.get(host, ())
        tables.add(f"states{line}", dict.fromkeys(names_of, "f8"), values)
    trips = {"at": "f8", "seconds": "f8", "again": "u1"}
    tables.add("trips", trips, rtt_samples(trace))
    delivered = deliveries(rows, moves)
    payloads = max(len(plain), len(delivered))
    if isinstance(run, Transfer):
        payloads = run.offer.content.count
    if part and isinstance(run, Transfer) and run.assembly is not None:
        for n in {*range(payloads)}.difference(run.assembly.missing):
            here.setdefault(n, end)
    elif not part:
        here = {payload_of.get(n, n): at for at, n in reversed(delivered)}
    times = [here.get(n, np.inf) for n in range(payloads)]
    tables.columns["payloads/here"] = "f8", np.array(times)
    header = {
        "lifelines": list(names),
        "words": words,
        "kinds": {int(kind): kind.name for kind in Kind},
        "end": end,
        "payloads": payloads,
        "columns": tables.where(),
        "picture_columns": pictured.where(),
    }
    if pictured.columns:
        height, width, _ = pictured.columns["picture/pixels"][1].shape
        header["picture"] = {"width": width, "height": height}
    return header, tables.packed()


def _room(run: RoomRun) -> tuple[dict[str, Any], bytes]:
    """A room of many peers: messages between them, who has what, and who is there."""
    names = list(run.nodes)
    line = {name: place for place, name in enumerate(names)}
    heavy = {each.kind for each in run.messages if each.size > HEAVY}
    kinds = sorted({each.kind for each in run.messages}, key=lambda k: k not in heavy)
    number = {kind: 1 if kind in heavy else 3 + n for n, kind in enumerate(kinds)}
    things: dict[Any, int] = {}
    for has in run.has:
        for thing in has.new:
            things.setdefault(thing, len(things))
    if all(isinstance(thing, int) for thing in things):
        things = {thing: n for n, thing in enumerate(sorted(things))}
    tables = Columns()
    fates = FATES | {GONE: FATES[LOSS]}
    ordered = sorted(run.messages, key=lambda each: each.sent)
    messages = [
        (
            line[each.sender],
            line[each.to],
            each.sent,
            each.ended,
            fates.get(each.fate, FATES[ARRIVE]),
            number[each.kind],
            each.what if isinstance(each.what, int) and each.what < 2**31 else -1,
            -1,
            0,
            place,
        )
        for place, each in enumerate(ordered)
    ]
    tables.add("messages", MESSAGE, messages)
    tables.add("marks", {"at": "f8", "line": "i4", "what": "u1", "seq": "i4"}, [])
    got = [(has.time, line[has.who], things[new]) for has in run.has for new in has.new]
    tables.add("has", {"at": "f8", "who": "i4", "thing": "i4"}, got)
    changes = [(each.time, line[each.who], each.what == COME) for each in run.changes]
    tables.add("changes", {"at": "f8", "who": "i4", "there": "u1"}, changes)
    tables.columns["payloads/here"] = "f8", np.array([at for at, *_ in got])
    header = {
        "lifelines": names,
        "words": "\n".join(map(str, run.broken)),
        "kinds": {number[kind]: kind for kind in kinds},
        "end": max((each.ended for each in run.messages), default=run.time),
        "payloads": len(got),
        "things": len(things),
        "columns": tables.where(),
        "picture_columns": {},
    }
    return header, tables.packed()


def picture_of(run: Run) -> Columns:
    """Return the picture that a run carries: pixels, and in which payload each is."""
    picture = Columns()
    if isinstance(run, Transfer) and run.offer.content.kind == "picture":
        content = run.offer.content
        step = -(-max(content.width, content.height) // MOST)
        places = _payload_of_each_pixel(run)[::step, ::step]
        picture.columns["picture/pixels"] = "u1", _pixels(run, step)
        picture.columns["picture/places"] = "i4", places
    return picture


def _lingers(row: Row) -> bool:
    return row.what == TIMEOUT and row.host == RECEIVER  # and waits for nothing more


class Columns:
    """Numbers of one type each, to be packed one behind the other."""

    def __init__(self) -> None:
        self.columns: dict[str, tuple[str, Any]] = {}

    def add(self, table: str, kinds: dict[str, str], rows: list[Any]) -> None:
        """Add a table, given row by row; kinds: of its columns, by their names."""
        columns = zip(*rows, strict=True) if rows else [()] * len(kinds)
        for (name, kind), column in zip(kinds.items(), columns, strict=True):
            self.columns[f"{table}/{name}"] = kind, column

    def where(self) -> dict[str, tuple[str, int, int]]:
        """Return (type, offset, length) of each column in `packed`."""
        found, offset = {}, 0
        for name, (kind, raw) in self._raw():
            found[name] = kind, offset, len(raw) // int(kind[1:])
            offset += len(raw) + -len(raw) % 8
        return found

    def packed(self) -> bytes:
        """Return all as bytes; a column begins where an array in JavaScript may."""
        return b"".join(raw + bytes(-len(raw) % 8) for _, (_, raw) in self._raw())

    def _raw(self) -> Iterator[tuple[str, tuple[str, bytes]]]:
        for name, (kind, column) in self.columns.items():
            yield name, (kind, np.asarray(column, dtype=f"<{kind}").tobytes())


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def _pixels(transfer: Transfer, step: int) -> NDArray[np.uint8]:
    """The picture as it was sent, or what has arrived of it: RGBA, 8 bits each.

    step: how many pixels, across and down, become one.
    """
    whole = Assembly(transfer.offer.content)
    for payload in transfer.payloads:
        whole.add(payload)
    if not transfer.payloads and transfer.assembly is not None:
        whole = transfer.assembly
    return np.asarray(whole.picture().convert("RGBA").reduce(step))


def _payload_of_each_pixel(transfer: Transfer) -> NDArray[np.int32]:
    content = transfer.offer.content
    per_payload = content.chunk_size // (
        content.size // (content.width * content.height)
    )
    travelling = np.arange(content.width * content.height) // per_payload
    order = places(content)
    if order is not None:
        travelling[order] = travelling.copy()
    return travelling.astype(np.int32).reshape(content.height, content.width)
