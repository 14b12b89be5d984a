"""The stage: a run that plays in the browser, packet by packet."""

from __future__ import annotations

import base64
import gzip
import html
import json
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from threading import RLock
from typing import Any, Final, NamedTuple

import anywidget
import traitlets

from p2plab.checker.game import Attempt, break_it, faults_of, play
from p2plab.checker.run import CHANNELS
from p2plab.checker.verdict import Verdict
from p2plab.content.content import Chunks
from p2plab.content.transfer import Transfer, simulate_transfer
from p2plab.core.files import write_file
from p2plab.core.link import ScriptedLink
from p2plab.ui.stage.columns import Columns, Run, encode, picture_of

HERE: Final = Path(__file__).parent
MODULES: Final = (
    "scene",
    "lifelines",
    "strips",
    "picture",
    "curves",
    "faults",
    "map",
    "table",
    "stage",
)
TIMED: Final = "late", "late_copy", "outage"  # these take seconds, too
MOVES: Final = {  # what somebody may do to a packet, by the names of the arguments
    "lose": "Lose it",
    "late": "Delay it",
    "duplicate": "Duplicate it",
    "double": "Duplicate it",
    "corrupt": "Damage it",
    "damage": "Damage it",
}
PARTS: Final = "map", "lifelines", "picture", "strips", "curves"


def program() -> str:
    """Return the modules of the stage as one, for a page that can load only one."""
    parts = [(HERE / f"{name}.mjs").read_text(encoding="utf-8") for name in MODULES]
    joined = re.sub(r'^import .* from "\./.*";\n', "", "".join(parts), flags=re.M)
    return re.sub(r"^export (?!default)", "", joined, flags=re.M)


def _in_a_page() -> str:
    return program().replace("export default", "const widget =", 1)


Faults = list[dict[str, Any]]  # {way, number, what, seconds}; numbers count from 1


class Stage(anywidget.AnyWidget):
    """A run that plays in the browser: lifelines, windows and the picture, one cursor.

    run: a Transfer, a Trace, or what `check` or `break_it` returned: that is its
        smallest failing run. All but a trace and what happened on real sockets can be
        made anew with what somebody does to a packet.
    names: of the lifelines, sender first.
    playing: begin to play at once; otherwise the end is shown.
    parts: what to show, some of PARTS.

    The keys: space plays and pauses, the arrows step from event to event, L and T to
    the next loss and timeout (with Shift back), + and - change the speed, Home and End
    jump, the arrows up and down move the lifelines, PageUp and PageDown zoom, N and P
    light up the next and the previous packet's story, Enter offers what can be done to
    that packet.
    """

    _esm = program()
    _css = (HERE / "stage.css").read_text(encoding="utf-8")
    header = traitlets.Dict().tag(sync=True)
    columns = traitlets.Bytes().tag(sync=True)
    picture = traitlets.Bytes().tag(sync=True)
    faults: Any = traitlets.List().tag(sync=True)
    stale = traitlets.Bool(False).tag(sync=True)  # marked as of the run before

    def __init__(
        self,
        run: Run | None = None,
        *,
        names: tuple[str, ...] = ("sender", "receiver"),
        playing: bool = False,
        parts: Sequence[str] = PARTS,
    ) -> None:
        if unknown := set(parts) - set(PARTS):
            raise ValueError(f"a stage has the parts {PARTS}, not {sorted(unknown)}")
        super().__init__()
        self.names, self.parts = names, list(parts)
        self.shown: Run | None = None  # with the faults in it
        self._run: Run | None = None
        self._count = 0  # of the runs that were shown
        self._faults: Faults = []
        self._pictured: Columns | None = None
        self._here: dict[int, float] = {}  # when payloads came, of one that goes on
        self._lock = RLock()  # a panel's thread shows, and the kernel's hears of faults
        if run is not None:
            self.show(run, playing=playing)

    def show(self, run: Run, *, playing: bool = False) -> None:
        """Show another run in the place of the last one; live, if it goes on."""
        # One message, so that no half of it is drawn.
        with self._lock, self.hold_sync():
            if run is not self._run:
                self._run, self._count = run, self._count + 1
                self._pictured, self._here = None, {}
                self._faults = self.faults = _faults_in(run)
            self._show(run, playing)

    def _show(self, run: Run, playing: bool = False) -> None:
        if self._pictured is None or not self._whole(run):
            self._pictured = picture_of(run)
        header, columns = encode(run, self.names, self._pictured, self._here)
        again = anew(run)
        header |= {"run": self._count, "playing": playing, "parts": self.parts}
        header["live"] = isinstance(run, Transfer) and not run.ended
        header["moves"] = [[move, MOVES[move]] for move in again.moves] if again else []
        header["code"] = again.code.format(_given(self.faults)) if again else ""
        with self.hold_sync():
            self.shown, self.stale = run, False
            self.header = header
            self.columns = columns
            self.picture = self._pictured.packed()  # sent only if it is another one

    def _whole(self, run: Run) -> bool:
        """Whether the picture is known from the beginning, as a sender knows it."""
        return not isinstance(run, Transfer) or bool(run.payloads)

    @traitlets.observe("faults")
    def _meddle(self, change: Any) -> None:
        """Make the run anew with the faults that somebody has asked for."""
        if self.faults == self._faults or self._run is None:
            return
        self._faults = self.faults
        with self._lock:
            if again := anew(self._run):
                self._show(again.make(fates(self.faults)))

    def page(self) -> str:
        """Return a page that plays the run without Jupyter and without a network."""
        return _PAGE.format(
            title=html.escape(" and ".join(self.names)),
            css=self._css,
            program=program()
            .replace("export default", "const widget =", 1)
            .replace("</", "<\\/"),
            header=json.dumps(self.header | {"moves": []}).replace("</", "<\\/"),
            columns=_packed(self.columns),
            picture=_packed(self.picture),
        )

    def save(self, path: str | Path) -> None:
        """Write a page that plays the run without Jupyter and without a network."""
        write_file(Path(path), [self.page().encode()])

    def in_page(self) -> str:
        """Return the page in a frame: what a notebook saved as HTML plays."""
        page = html.escape(self.page())
        return f'<iframe title="A run" srcdoc="{page}" style="{_FRAME}"></iframe>'

    def _repr_mimebundle_(self, **options: Any) -> Any:
        bundle = super()._repr_mimebundle_(**options)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        if data is None or not self.columns:
            return bundle
        return {**data, "text/html": self.in_page()}, metadata


def _packed(raw: bytes) -> str:
    return base64.b64encode(gzip.compress(raw, 9, mtime=0)).decode()


class Anew(NamedTuple):
    """How a run is made once more.

    moves: what can be done to a packet, as arguments. make: what returns the run, given
    these arguments. code: the same for a cell, with {} where they stand.
    """

    moves: Sequence[str]
    make: Callable[[dict[str, Any]], Run]
    code: str


def anew(run: Run) -> Anew | None:
    """Return how a run is made once more with other faults; None if it cannot be."""
    if isinstance(run, Transfer) and run.id == 0 and run.payloads:
        return _transfer_anew(run)
    if isinstance(run, Attempt):
        make = partial(break_it, run.exhibit)
        return _game(run.verdict, make, f"p2plab.break_it({run.exhibit!r}, {{}})")
    if not isinstance(run, Verdict) or not run.makers:
        return None
    if run.trace.rows or run.promise is None:  # else no machine could be built
        makers, channel = run.makers, run.channel
        return _game(
            run, lambda **given: play(makers, channel, faults_of(channel, given))
        )
    return None


def _transfer_anew(run: Transfer) -> Anew:
    chunks = Chunks(run.offer.content, list(run.payloads))

    def make(given: dict[str, Any]) -> Transfer:
        link = ScriptedLink(**given, link=run.link)
        return simulate_transfer(chunks, run.offer.setup, link)

    moves = "lose", "late", "duplicate", "corrupt"
    return Anew(moves, make, "p2plab.ScriptedLink({}, link=link)")


def _game(verdict: Verdict, make: Callable[..., Run], code: str = "") -> Anew:
    kinds = CHANNELS[verdict.channel].kinds
    moves = [kind for kind in kinds if kind in MOVES]
    return Anew(moves, lambda given: make(**given), code)


def _faults_in(run: Run) -> Faults:
    """What the network did in the smallest run of a verdict."""
    verdict = run.verdict if isinstance(run, Attempt) else run
    return [
        {
            "way": fault.way,
            "number": fault.number + 1,
            "what": fault.kind.replace(" ", "_"),
            "seconds": fault.extra,
        }
        for fault in (verdict.faults if isinstance(verdict, Verdict) else ())
    ]


def fates(faults: Faults) -> dict[str, Any]:
    """Return the faults as arguments of a ScriptedLink, or of `break_it`."""
    given: dict[str, Any] = {}
    for fault in faults:
        name = fault["what"] + ("_back" if fault["way"] else "")
        number = int(fault["number"])
        if fault["what"] in TIMED:
            given.setdefault(name, {})[number] = float(fault["seconds"])
        else:
            given.setdefault(name, set()).add(number)
    return given


def _given(faults: Faults) -> str:
    return ", ".join(f"{name}={value}" for name, value in fates(faults).items())


_FRAME: Final = "width:100%;height:640px;border:0"
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
const bytes = (text) => new Response(
  new Blob([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))]).stream()
    .pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
const values = {{
  header: {header},
  columns: await bytes("{columns}"),
  picture: await bytes("{picture}"),
}};
const model = {{ get: (name) => values[name], on() {{}}, off() {{}} }};
const dark = matchMedia("(prefers-color-scheme: dark)").matches;
if (dark) document.body.className = "p2p-dark";
widget.render({{ model, el: document.getElementById("stage") }});
</script></body></html>
"""
