"""The stage: a run that plays in the browser, packet by packet."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeGuard

import anywidget
import numpy as np
import traitlets

from p2plab.content.chunks import Assembly, places
from p2plab.content.content import Chunks
from p2plab.content.transfer import Transfer, simulate_transfer
from p2plab.core.files import write_file
from p2plab.core.link import (
    ARRIVE,
    CORRUPT,
    DUPLICATE,
    LOSS,
    OVERFLOW,
    AnyLink,
    ScriptedLink,
)
from p2plab.core.trace import DELIVER, RECEIVER, SENDER, TIMEOUT, Trace
from p2plab.measure.metrics import deliveries, transmissions

if TYPE_CHECKING:
    from numpy.typing import NDArray

HERE: Final = Path(__file__).parent
MODULES: Final = (
    "scene",
    "lifelines",
    "strips",
    "picture",
    "curves",
    "faults",
    "stage",
)
LINES: Final = {SENDER: 0, RECEIVER: 1}
FATES: Final = {ARRIVE: 1, LOSS: 2, OVERFLOW: 3, CORRUPT: 4, DUPLICATE: 5}


def program() -> str:
    """Return the modules of the stage as one, for a page that can load only one."""
    parts = [(HERE / f"{name}.mjs").read_text(encoding="utf-8") for name in MODULES]
    joined = re.sub(r'^import .* from "\./.*";\n', "", "".join(parts), flags=re.M)
    return re.sub(r"^export (?!default)", "", joined, flags=re.M)


def _in_a_page() -> str:
    return program().replace("export default", "const widget =", 1)


class Stage(anywidget.AnyWidget):
    """A run that plays in the browser: lifelines, windows and the picture, one cursor.

    run: a Transfer, or a Trace. names: of the lifelines, sender first.
    playing: begin to play at once; otherwise the end is shown.

    The keys: space plays and pauses, the arrows step from event to event, L and T to
    the next loss and timeout (with Shift back), + and - change the speed, Home and End
    jump, the arrows up and down move the lifelines, PageUp and PageDown zoom, N and P
    light up the next and the previous packet's story.
    """

    _esm = program()
    _css = (HERE / "stage.css").read_text(encoding="utf-8")
    header = traitlets.Dict().tag(sync=True)
    columns = traitlets.Bytes().tag(sync=True)
    picture = traitlets.Bytes().tag(sync=True)
    faults: Any = traitlets.List().tag(sync=True)

    def __init__(
        self,
        run: Transfer | Trace | None = None,
        *,
        names: tuple[str, ...] = ("sender", "receiver"),
        playing: bool = False,
    ) -> None:
        super().__init__()
        self.names = names
        self._run: Transfer | Trace | None = None
        self._count = 0  # of the runs that were shown
        self._faults: list[Any] = []
        if run is not None:
            self.show(run, playing=playing)

    def show(self, run: Transfer | Trace, *, playing: bool = False) -> None:
        """Show another run in the place of the last one; live, if it goes on."""
        with self.hold_sync():  # one message, so that no half of it is drawn
            if run is not self._run:
                self._run, self._count = run, self._count + 1
                self._faults, self.faults = [], []
            self._show(run, playing)

    def _show(self, run: Transfer | Trace, playing: bool) -> None:
        header, columns, picture = encode(run, self.names)
        how = {"run": self._count, "playing": playing, "again": _simulated(run)}
        live = isinstance(run, Transfer) and not run.ended
        with self.hold_sync():
            self.header = header | how | {"live": live}
            self.columns = columns
            self.picture = picture  # which is sent only if it is another one

    @traitlets.observe("faults")
    def _meddle(self, change: Any) -> None:
        """Make the run anew with the faults that somebody has asked for."""
        run = self._run
        if self.faults == self._faults or not _simulated(run):
            return
        self._faults = self.faults
        chunks = Chunks(run.offer.content, list(run.payloads))
        link = scripted(self.faults, run.link)
        self._show(simulate_transfer(chunks, run.offer.setup, link), playing=False)

    def save(self, path: str | Path) -> None:
        """Write a page that plays the run without Jupyter and without a network."""
        page = _PAGE.format(
            title=html.escape(" and ".join(self.names)),
            css=self._css,
            program=_in_a_page().replace("</", "<\\/"),
            header=json.dumps(self.header | {"again": False}).replace("</", "<\\/"),
            columns=base64.b64encode(self.columns).decode(),
            picture=base64.b64encode(self.picture).decode(),
        )
        write_file(Path(path), [page.encode()])


def _simulated(run: Transfer | Trace | None) -> TypeGuard[Transfer]:
    return isinstance(run, Transfer) and run.id == 0 and bool(run.payloads)


def scripted(faults: list[dict[str, Any]], link: AnyLink | None) -> ScriptedLink:
    """Return the link on which these faults happen, as `faults.mjs` writes them."""
    given: dict[str, Any] = {}
    for fault in faults:
        name = fault["what"] + ("_back" if fault["way"] else "")
        number = int(fault["number"])
        if fault["what"] == "late":
            given.setdefault(name, {})[number] = float(fault["seconds"])
        else:
            given.setdefault(name, set()).add(number)
    return ScriptedLink(**given, link=link)


def encode(
    run: Transfer | Trace, names: tuple[str, ...]
) -> tuple[dict[str, Any], bytes, bytes]:
    """Return a run as `scene.mjs` reads it: a header, columns, and a picture's columns.

    Both are little-endian numbers, one column behind the other; the header has their
    types and places.
    """
    trace = run if isinstance(run, Trace) else run.trace
    rows, moves = list(trace), transmissions(trace)
    tables = Columns()
    messages = [
        (
            LINES[move.host],
            1 - LINES[move.host],
            move.moment,
            when,
            FATES.get(what, 0),
            move.kind,
            move.seq,
            move.payload,
            move.again,
            move.number,
        )
        for move in moves
        for when, what in move.fates or ((-1.0, ""),)
    ]
    kinds = {"from": "u1", "to": "u1", "sent": "f8", "ended": "f8", "fate": "u1"}
    kinds |= {"kind": "u1", "seq": "i4", "payload": "i4", "again": "u1", "number": "i4"}
    tables.add("messages", kinds, messages)
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
    payloads = 1 + max((move.payload for move in moves), default=-1)
    here = dict(reversed([(n, at) for at, n in deliveries(rows, moves)]))
    header: dict[str, Any] = {}
    picture = Columns()
    if not isinstance(run, Trace):
        content = run.offer.content
        payloads = content.count
        if content.kind == "picture":
            header["picture"] = {"width": content.width, "height": content.height}
            picture.columns["picture/pixels"] = "u1", _pixels(run)
            picture.columns["picture/places"] = "i4", _payload_of_each_pixel(run)
    times = [here.get(n, np.inf) for n in range(payloads)]
    tables.columns["payloads/here"] = "f8", np.array(times)
    header |= {
        "lifelines": list(names),
        "end": max((row.time for row in rows), default=0.0),
        "payloads": payloads,
        "columns": tables.where(),
        "picture_columns": picture.where(),
    }
    return header, tables.packed(), picture.packed()


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


def _pixels(transfer: Transfer) -> NDArray[np.uint8]:
    """The picture as it was sent, or what has arrived of it: RGBA, 8 bits each."""
    whole = Assembly(transfer.offer.content)
    for payload in transfer.payloads:
        whole.add(payload)
    if not transfer.payloads and transfer.assembly is not None:
        whole = transfer.assembly
    return np.asarray(whole.picture().convert("RGBA"))


def _payload_of_each_pixel(transfer: Transfer) -> NDArray[np.int32]:
    content = transfer.offer.content
    per_payload = content.chunk_size // (
        content.size // (content.width * content.height)
    )
    travelling = np.arange(content.width * content.height) // per_payload
    order = places(content)
    if order is None:
        return travelling.astype(np.int32)
    found = np.empty_like(travelling)
    found[order] = travelling
    return found.astype(np.int32)


_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width">
<style>{css}
:root {{ color-scheme: light dark; }}
body {{ margin: 16px; }}
@media (prefers-color-scheme: dark) {{ body {{ background: #111; }} }}
</style></head>
<body><main id="stage"></main>
<script type="module">
{program}
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;
const values = {{
  header: {header}, columns: bytes("{columns}"), picture: bytes("{picture}"),
}};
const model = {{ get: (name) => values[name], on() {{}}, off() {{}} }};
const dark = matchMedia("(prefers-color-scheme: dark)").matches;
if (dark) document.body.className = "p2p-dark";
widget.render({{ model, el: document.getElementById("stage") }});
</script></body></html>
"""
