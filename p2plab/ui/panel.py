"""What every panel has: one thread that draws, and errors that are shown."""

from __future__ import annotations

import atexit
import html
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import ipywidgets as widgets

from p2plab.errors import P2PLabError, TransferError
from p2plab.net.threads import spawn

FPS: Final = 15.0  # nothing holds back what a kernel pushes: the browser would lag
FRAME: Final = 1 / FPS  # [s]

THREAD: Final = "p2plab panel"  # what those of a panel are called
PATIENCE: Final = 1.0  # with a browser that does not answer [s]

_PANELS: Final[dict[str, Panel]] = {}  # one of each key, so that a cell can run twice

STYLE: Final = """<style>
.p2p-panel {max-width: 1090px; width: 100%; overflow: hidden}
.p2p-panel .widget-html-content {line-height: 1.4}
.p2p-panel h4 {margin: 8px 0 4px; font-size: 13px; letter-spacing: .02em}
.p2p-panel [role=alert] {margin: 2px; border-left: 4px solid #D55E00; padding: 4px 10px;
  background: rgba(213, 94, 0, .12); overflow-wrap: anywhere}
.p2p-panel [role=note] {margin: 2px; border-left: 4px solid #0072B2; padding: 4px 10px;
  background: rgba(0, 114, 178, .12); overflow-wrap: anywhere}
.p2p-panel [role=status] {min-height: 1.4em; overflow-wrap: anywhere}
.p2p-panel progress {width: 100%; height: 14px; accent-color: #0072B2}
.p2p-panel figure {margin: 0}
.p2p-panel figure img {object-fit: contain; display: block;
  background: var(--jp-layout-color2, #eee)}
.p2p-panel table {border-collapse: collapse; font-variant-numeric: tabular-nums}
.p2p-panel td, .p2p-panel th {padding: 2px 12px 2px 0; text-align: left}
.p2p-panel td {text-align: right}
.p2p-inbox > * {border-bottom: 1px solid var(--jp-border-color2, #ddd);
  padding-bottom: 6px; margin-bottom: 6px}
.p2p-panel pre {white-space: pre-wrap; margin: 0}
</style>"""


def in_words(why: BaseException) -> str:
    """What a person is told of an error."""
    if isinstance(why, P2PLabError | ValueError) and str(why):
        return str(why)
    return f"{type(why).__name__}: {why}"


def open_lab(lab: Any) -> Any:
    """The lab, or the new one of its name; what is no lab stays as it is.

    Raises P2PLabError if it was closed, and not replaced.
    """
    lab = getattr(lab, "latest", lab)
    if getattr(lab, "closed", False):
        raise P2PLabError(
            "this lab is closed: run the cell that makes it, then try this again"
        )
    return lab


def said(role: str, text: str) -> str:
    """A line of HTML for a text from anywhere, as a sentence; nothing for no text."""
    text = text[:1].upper() + text[1:]
    return f'<div dir="auto" role="{role}">{html.escape(text)}</div>' if text else ""


def line(name: str, **layout: str) -> Any:
    """An HTML widget that tests and styles find as `p2p-<name>`."""
    widget = widgets.HTML(layout=widgets.Layout(**{"margin": "0", **layout}))
    widget.add_class(f"p2p-{name}")
    return widget


class _Button(widgets.Button):  # type: ignore[misc]
    """A button that acts when what was set before it was pressed has come, too."""

    after: Callable[[Callable[[], object]], object] = staticmethod(lambda act: act())

    def _handle_button_msg(self, _: object, content: Any, buffers: object) -> None:
        if content.get("event") == "click":
            self.after(self.click)


def button(name: str, label: str, **more: Any) -> Any:
    """A button that tests and styles find as `p2p-<name>`."""
    each = _Button(description=label, **more)
    each.add_class(f"p2p-{name}")
    return each


class View:
    """The one thread that draws a panel: seldom, the latest state, the last one always.

    draw: returns after how many seconds to draw again, or None: not before it is asked.
    show_error: is given what `draw` raises.
    """

    def __init__(
        self,
        draw: Callable[[], float | None],
        show_error: Callable[[Exception], object],
        pause: float = FRAME,
    ) -> None:
        self._draw, self._show_error, self._pause = draw, show_error, pause
        self._change = threading.Condition()
        self._asked = self._drawn = 0  # requests, and how many of them were drawn
        self._stopped = False
        self._thread: threading.Thread | None = None

    def request_redraw(self) -> None:
        """Something has changed: draw it soon. Any thread may call."""
        with self._change:
            self._asked += 1
            if self._thread is None and not self._stopped:
                self._thread = spawn(self._loop, name=THREAD)
            self._change.notify_all()

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until all that has happened so far is drawn; say whether it is."""
        with self._change:
            self.request_redraw()
            asked = self._asked
            return self._change.wait_for(lambda: self._drawn >= asked, timeout)

    def stop(self) -> None:
        """Draw no more; returns when the thread has ended."""
        with self._change:
            self._stopped = True
            self._change.notify_all()
        if self._thread and self._thread is not threading.current_thread():
            self._thread.join(5.0)

    def _loop(self) -> None:
        again: float | None = None
        while True:
            with self._change:
                news = lambda: self._stopped or self._asked > self._drawn  # noqa: E731
                self._change.wait_for(news, again)
                if self._stopped:
                    return
                asked = self._asked  # what changes while it is drawn is drawn again
            began = time.perf_counter()
            try:
                again = self._draw()
            except Exception as why:
                self._show_error(why)
                again = None if again is None else 1.0  # what moved may be moving yet
            # At most half of the time goes into drawing: the rest is the transfer's.
            rest = max(self._pause, time.perf_counter() - began)
            with self._change:
                self._drawn = asked
                self._change.notify_all()
                self._change.wait_for(lambda: self._stopped, rest)
            again = None if again is None else max(0.0, again - rest)


class Echo:
    """Two numbers that a browser keeps alike: when it has told us the second one, all
    that was set in it before it heard of the first one has come, too.

    A browser tells of one change, and keeps the later ones of the same widget back
    until the kernel is done with the first; the press of a button it tells at once.
    """

    def __init__(self) -> None:
        self._asked, self._answered = widgets.IntText(), widgets.IntText()
        one, other = (self._asked, "value"), (self._answered, "value")
        self.link = widgets.jsdlink(one, other)
        self._waiting: list[tuple[int, Callable[[], object]]] = []
        self._lock = threading.RLock()  # one act after the other
        self._closed = threading.Event()
        self._answered.observe(lambda change: self._act(change.new), "value")

    def then(self, act: Callable[[], object]) -> None:
        """Do it when the browser has answered, or after PATIENCE."""
        number = self._asked.value + 1
        with self._lock:
            self._waiting.append((number, act))
        spawn(self._act, number, PATIENCE, name=THREAD)
        self._asked.value = number

    def close(self) -> None:
        """Ask no more, and do nothing that still waits."""
        with self._lock:
            self._waiting.clear()
        self._closed.set()
        for each in (self.link, self._asked, self._answered):
            each.close()

    def _act(self, until: int, pause: float = 0.0) -> None:
        self._closed.wait(pause)
        with self._lock:
            while self._waiting and self._waiting[0][0] <= until:
                _, act = self._waiting.pop(0)
                act()


class Panel:
    """A box of widgets with a status line, a place for errors, and a view.

    kind: of the panel, for its class in the page.
    key: a new panel closes an older one of the same kind and key; by default that is
        the one which the same cell had made before.
    """

    def __init__(self, kind: str, key: str | None = None) -> None:
        self.key = f"{kind} {_this_cell() if key is None else key}"
        if (older := _PANELS.pop(self.key, None)) is not None:
            older.close("This panel was replaced by a newer one. Run its cell again.")
        _PANELS[self.key] = self
        self.error: Exception | None = None  # the last thing that went wrong
        self.status, self.alert, self.note = line("status"), line("alert"), line("note")
        self.box = widgets.VBox([])
        self.box.add_class("p2p-panel")
        self.box.add_class(f"p2p-{kind}-panel")
        self.view = View(self.draw, self.show_error)
        self.echo = Echo()
        self.busy: set[Any] = set()  # the buttons whose work goes on
        self._threads: list[threading.Thread] = []
        self._starting = threading.Lock()
        self.closed = False
        atexit.register(self.close)

    def draw(self) -> float | None:
        """Show the state of things; called by the view's thread alone."""
        raise NotImplementedError

    def shut(self) -> None:
        """Stop whatever runs behind the panel."""

    def tell(self, text: str) -> None:
        """Say how things stand."""
        self.status.value = said("status", text)

    def show_error(self, why: Exception, place: Any = None, more: str = "") -> None:
        """Show an error, in words; place: the line for it, if not `alert`.

        more: what one can do about it in this panel.
        """
        self.error = why
        words = in_words(why)
        if more:
            stop = "" if words.endswith((".", "?", "!")) else "."
            words = f"{words}{stop} {more}"
        (place or self.alert).value = said("alert", words)

    def clear_error(self) -> None:
        """Take an old error and note away."""
        self.error = None
        self.alert.value = self.note.value = ""

    def attempt(self, act: Callable[[], object], place: Any = None) -> bool:
        """Do it now, and show what it raises; say whether it was done."""
        try:
            act()
        except Exception as why:
            self.show_error(why, place)
            return False
        return True

    def start(
        self, act: Callable[[], object], *buttons: Any, place: Any = None
    ) -> None:
        """Attempt it in the background; the buttons are off until it is done.

        What is done once and for all leaves them so, until somebody draws them anew.
        """

        def job() -> None:
            done = self.attempt(act, place)
            self.busy.difference_update(buttons)
            for each in () if done else buttons:
                each.disabled = False
            self.view.request_redraw()

        self.busy.update(buttons)
        for each in buttons:
            each.disabled = True
        with self._starting:
            alive = [each for each in self._threads if each.is_alive()]
            self._threads = [*alive, spawn(job, name=THREAD)]
        self.view.request_redraw()

    def join(self, timeout: float) -> None:
        """Wait for what was started; raises TransferError after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                raise TransferError(f"not at its end after {timeout:g} s")

    def listen(
        self, control: Any, act: Callable[[], object], place: Any = None
    ) -> None:
        """Attempt it when a button is pressed, or when a control has a new value."""
        if not isinstance(control, widgets.Button):
            control.observe(lambda _: self.attempt(act, place), "value")
            return
        control.after = self.echo.then
        # A double click counts once: the browser may not know yet that it is off.
        control.on_click(lambda each: each.disabled or self.attempt(act, place))

    def close(self, farewell: str = "This panel was closed.") -> None:
        """Stop everything, and leave one line where the panel was. Twice is fine."""
        if self.closed:
            return
        self.closed = True
        atexit.unregister(self.close)
        if _PANELS.get(self.key) is self:
            del _PANELS[self.key]
        self.view.stop()
        self.shut()
        self.echo.close()
        old, self.box.children = self.box.children, (line("closed"),)
        self.box.children[0].value = said("status", farewell)
        for child in old:
            _close_all(child)

    def wait_drawn(self, timeout: float) -> None:
        """Wait for the view, and raise the last error."""
        self.view.flush(timeout)
        if self.error is not None:
            raise self.error

    def __repr__(self) -> str:
        how = "closed" if self.closed else "end a notebook's cell with it to see it"
        return f"<{type(self).__name__}, a panel: {how}>"

    def _repr_mimebundle_(self, **options: Any) -> Any:
        words = f"A {type(self).__name__} was here: run this cell again to see it."
        return {**self.box._repr_mimebundle_(**options), "text/plain": words}


def _close_all(widget: Any) -> None:
    for child in getattr(widget, "children", ()):
        _close_all(child)
    widget.close()


def _this_cell() -> str:
    """The notebook's name for the cell that runs now; empty where nobody knows."""
    from IPython.core.getipython import get_ipython

    parent: dict[str, Any] = getattr(get_ipython(), "get_parent", dict)()
    # Some front ends send no ids of cells: there a panel stays until it is closed.
    run = parent.get("header", {}).get("msg_id", "")
    return str(parent.get("metadata", {}).get("cellId") or run)
