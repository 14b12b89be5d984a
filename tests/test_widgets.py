"""The panels without a browser: the same widgets, clicked and read from Python."""

from __future__ import annotations

import base64
import html
import io
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from loopback import eventually
from PIL import Image

import p2plab
from p2plab.content.chunks import Assembly, cut
from p2plab.content.offer import Offer
from p2plab.content.transfer import State, Transfer, simulate_transfer
from p2plab.errors import (
    NameTaken,
    NotDelivered,
    P2PLabError,
    PeerUnreachable,
    RendezvousAway,
    TransferStalled,
    TransferStopped,
)
from p2plab.measure.metrics import summarise
from p2plab.net.chat import Message
from p2plab.net.threads import spawn
from p2plab.rendezvous.admission import Request
from p2plab.ui import PeerPanel, TransferPanel, transfer_panel
from p2plab.ui.controls import Knob
from p2plab.ui.panel import Echo, View
from p2plab.ui.progress import figure
from p2plab.ui.transfer_panel import MORE

SOON = 10.0  # [s]; a busy machine needs a hundredth
Pair = tuple[PeerPanel, PeerPanel]
EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture
def quick() -> Iterator[TransferPanel]:
    """A transfer panel with a small picture."""
    panel = TransferPanel(key="test", picture=64, delay=0.01, loss=0.2)
    yield panel
    panel.close()


@pytest.fixture
def lab() -> Iterator[p2plab.Lab]:
    with p2plab.Lab(name="test") as lab:
        yield lab


@pytest.fixture
def pair(lab: p2plab.Lab) -> Iterator[Pair]:
    """Two registered peer panels; the first has chosen the second."""
    alice, bob = PeerPanel(lab, "alice"), PeerPanel(lab, "bob")
    alice.register().wait()
    bob.register().wait()
    alice.choose("bob").set(loss=0, delay=0, picture=64)
    yield alice, bob
    alice.close()
    bob.close()


def transfer_of(panel: TransferPanel | PeerPanel) -> Transfer:
    """The one that runs or has ended."""
    assert panel.transfer is not None
    return panel.transfer


def peer_of(panel: PeerPanel) -> p2plab.Peer:
    """The one that is registered."""
    assert panel.peer is not None
    return panel.peer


def pixels(value: str) -> np.ndarray[Any, Any]:
    """What an HTML picture shows."""
    found = re.search(r'src="data:image/(png|webp);base64,([^"]+)"', value)
    assert found, f"no picture in {value[:200]}"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(found[2]))))


def until(panel: PeerPanel, said: Callable[[str], bool]) -> None:
    """Wait until the words about the picture's progress are such."""
    bar = panel.controls.progress
    happened = threading.Event()

    def look(change: Any) -> None:
        if said(change.new):
            happened.set()

    bar.observe(look, "value")
    if not said(bar.value):
        assert happened.wait(SOON), bar.value
    bar.unobserve(look, "value")


def upload(panel: TransferPanel, name: str, content: bytes) -> None:
    """What the browser does when somebody has chosen a file."""
    panel.controls.picture.upload.value = (
        {
            "name": name,
            "type": "image/png",
            "size": len(content),
            "content": memoryview(content),
            "last_modified": datetime.now(UTC),
        },
    )


# ---- the view


def test_a_view_draws_seldom_and_the_last_state() -> None:
    state, seen = 0, []
    view = View(lambda: seen.append(state), lambda why: None, pause=0.02)
    for state in range(5_000):  # noqa: B007  (the view reads it)
        view.request_redraw()
    assert view.flush(SOON)
    view.stop()
    assert seen[-1] == 4_999
    assert len(seen) < 100


def test_a_view_that_cannot_draw_says_so_and_lives_on() -> None:
    complaints: list[Exception] = []
    view = View(lambda: 1 / 0, complaints.append, pause=0.001)
    assert view.flush(SOON)
    assert view.flush(SOON)
    view.stop()
    assert [type(each) for each in complaints] == [ZeroDivisionError] * len(complaints)
    assert len(complaints) >= 2


@pytest.fixture
def watchers(monkeypatch: pytest.MonkeyPatch) -> list[threading.Thread]:
    """The threads that wait for a browser which never answers."""
    started: list[threading.Thread] = []

    def spawned(*what: Any, **more: Any) -> threading.Thread:
        started.append(spawn(*what, **more))
        return started[-1]

    monkeypatch.setattr("p2plab.ui.panel.PATIENCE", 0.05)
    monkeypatch.setattr("p2plab.ui.panel.spawn", spawned)
    return started


def test_presses_without_an_answer_act_one_after_the_other(
    watchers: list[threading.Thread],
) -> None:
    both, done = threading.Barrier(2), []

    def act() -> None:
        with suppress(threading.BrokenBarrierError):
            both.wait(0.1)
            done.append("at the same time")
        done.append("once")

    asked = Echo()
    asked.then(act)
    asked.then(act)
    for each in watchers:
        each.join(SOON)
    assert done == ["once", "once"]


def test_a_panel_that_was_closed_does_not_act_any_more(
    watchers: list[threading.Thread],
) -> None:
    asked, done = Echo(), []
    asked.then(lambda: done.append(1))
    asked.close()
    watchers[0].join(SOON)
    assert done == []


@pytest.mark.parametrize("peer", [False, True])
def test_a_closed_panel_leaves_no_thread_behind(lab: p2plab.Lab, peer: bool) -> None:
    before = set(threading.enumerate())
    panel: PeerPanel | TransferPanel
    if peer:
        panel = PeerPanel(lab, "alice").register().wait()
    else:
        panel = TransferPanel(key="test", real=True, delay=0.2)
        some_have_come(panel.set(protocol="stop_and_wait").run())
    panel.close()
    panel.close()
    for thread in set(threading.enumerate()) - before:
        if peer and thread.name != "p2plab panel":
            continue  # the lab's own, which waits for the next one
        thread.join(SOON)
        assert not thread.is_alive(), thread


@pytest.mark.parametrize(
    ("why", "more", "words"),
    [
        (ValueError("loss is too large"), "", "Loss is too large"),
        (P2PLabError("nothing came"), "Try again.", "Nothing came. Try again."),
        (P2PLabError("is it there?"), "Try again.", "Is it there? Try again."),
        (KeyError("oops"), "", "KeyError: 'oops'"),
    ],
)
def test_an_error_is_a_sentence_and_what_helps_is_another_one(
    quick: TransferPanel, why: Exception, more: str, words: str
) -> None:
    quick.show_error(why, more=more)
    assert f">{words}<" in html.unescape(quick.alert.value)


# ---- controls


@pytest.mark.parametrize(
    ("typed", "value"), [(150, 95), (-3, 0), (20, 20), (12.5, 12.5), (95, 95)]
)
def test_a_number_that_is_typed_is_limited_and_only_then_a_line_says_so(
    typed: float, value: float
) -> None:
    knob = Knob("loss", "Loss [%]", 0, 95, 10, 1, 0.01)
    knob.number.value = typed
    assert (knob.number.value, knob.value) == (value, value / 100)
    assert abs(knob.slider.value - value) <= 0.5
    assert (knob.note.layout.display is None) == (typed != value)
    assert (f"{typed:g} became {value:g}" in knob.note.value) == (typed != value)
    knob.slider.value -= 2e-15  # a browser's rounding
    assert knob.number.value == value


def test_what_a_program_sets_is_not_undone_by_a_browser_that_shows_the_slider() -> None:
    knob = Knob("loss", "Loss [%]", 0, 95, 10, 1, 0.01)
    knob.value = 0.3
    knob.slider.value = 9.999999999999998  # what it was, as the browser rounds it
    assert (knob.value, knob.slider.value) == (0.3, 30)
    knob.slider.value = 9.999999999999998  # this time somebody drags
    assert knob.value == 0.1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"loss": 1.0}, "loss is 0 to 0.95"),
        ({"window": 0}, "window is 1 to 128"),
        ({"window": 2.5}, "whole number"),
        ({"timeout": 0.0}, "timeout is 0.005 to 5"),
        ({"protocol": "tcp"}, "no protocol 'tcp'"),
        ({"order": "random"}, "order is one of"),
        ({"picture": 100}, "sizes"),
        ({"lose": 0.1}, "no lose here, only protocol, window"),
    ],
)
def test_what_cannot_be_set_is_refused_in_words(
    quick: TransferPanel, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        quick.set(**settings)


def test_what_is_set_is_what_the_transfer_gets(quick: TransferPanel) -> None:
    quick.set(protocol="go_back_n", window=8, timeout=0.1, loss=0.05, seed=7).wait()
    assert transfer_of(quick).offer.setup == p2plab.Setup("go_back_n", 8, 0.1)
    assert transfer_of(quick).link == p2plab.Link(0.01, loss=0.05, seed=7)


def test_a_protocol_without_a_window_has_no_window_to_set(quick: TransferPanel) -> None:
    assert not quick.controls.window.number.disabled
    window = quick.controls.window
    for protocol, instead in (
        ("stop_and_wait", "always 1"),
        ("best_effort", "has none"),
        ("fast", "finds its own"),
    ):
        quick.set(protocol=protocol)
        assert window.number.disabled
        assert f"Window [packets]: {instead}" in window.note.value
    assert quick.controls.setup == p2plab.Setup("fast"), "it finds its own"
    quick.set(protocol="go_back_n")
    assert not window.number.disabled
    assert window.note.layout.display == "none"


# ---- the transfer panel


def seen(panel: TransferPanel) -> np.ndarray[Any, Any]:
    """Whether each payload is here at the end of what the stage shows."""
    kind, offset, length = panel.stage.header["columns"]["payloads/here"]
    times = np.frombuffer(panel.stage.columns, f"<{kind}", length, offset)
    here: np.ndarray[Any, Any] = np.isfinite(times)
    return here


def figure_of(panel: TransferPanel, name: str) -> str:
    """What is in a part below when somebody has opened it."""
    panel.more.selected_index = list(MORE).index(name)
    assert panel.view.flush()
    value: str = panel.figures[name].value
    return value


def test_a_panel_shows_a_run_before_anything_is_pressed(quick: TransferPanel) -> None:
    quick.wait()
    assert seen(quick).all()
    assert quick.stage.header["playing"]
    assert 'role="status">Done after' in quick.status.value
    assert not quick.buttons["send"].disabled
    assert quick.buttons["stop"].disabled


def test_a_turned_knob_makes_a_new_run_and_send_plays_it(quick: TransferPanel) -> None:
    quick.wait()
    before = transfer_of(quick)
    quick.controls.loss.slider.value = 12
    quick.wait()
    assert transfer_of(quick) is not before
    assert transfer_of(quick).link == p2plab.Link(0.01, loss=0.12, seed=1)
    assert not quick.stage.header["playing"]
    quick.buttons["send"].click()
    quick.wait()
    assert quick.stage.header["playing"]


def pressed_in_a_browser(button: Any) -> None:
    """What the kernel is told by a browser in which somebody presses a button."""
    button._handle_custom_msg({"event": "click"}, [])


def test_a_press_counts_after_what_was_set_before_it(quick: TransferPanel) -> None:
    quick.set(real=True, delay=0.0, loss=0.0).wait()
    pressed_in_a_browser(quick.buttons["send"])
    assert not quick.running
    quick.controls.protocol.value = "fast"  # what the browser had kept back
    link = quick.echo.link
    (asked, _), (answered, name) = link.source, link.target
    setattr(answered, name, asked.value)
    quick.wait()
    assert transfer_of(quick).offer.setup.protocol == "fast"


@pytest.fixture
def during(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
    """What happens after the first deliveries of runs in virtual time, one each."""
    acts: list[Callable[[], object]] = []
    simulate = simulate_transfer

    def watched(*what: Any, on_payload: Callable[[Assembly], object]) -> Transfer:
        def deliver(assembly: Assembly) -> None:
            if acts and assembly.received == 3:
                acts.pop()()
            on_payload(assembly)

        return simulate(*what, on_payload=deliver)

    monkeypatch.setattr(transfer_panel, "simulate_transfer", watched)
    return acts


def test_a_run_is_given_up_when_a_knob_is_turned_meanwhile(
    quick: TransferPanel, during: list[Callable[[], object]]
) -> None:
    quick.wait()
    shown: list[object] = []
    quick.stage.observe(lambda _: shown.append(transfer_of(quick).link), "header")
    during.append(lambda: quick.set(loss=0.3))
    quick.set(loss=0.4).run().wait()
    quick.wait()  # for the knob that was turned meanwhile
    assert shown == [p2plab.Link(0.01, loss=0.3, seed=1)]
    assert quick.stage.header["playing"], "that was asked for"


def test_a_run_that_is_stopped_keeps_what_had_arrived(
    quick: TransferPanel,
    during: list[Callable[[], object]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transfer_panel, "PATIENCE", -1.0)
    quick.wait()
    pressed = quick.buttons["stop"]
    during.append(lambda: (pressed.disabled, quick.stop()))
    with pytest.raises(TransferStopped):
        quick.run().wait()
    assert transfer_of(quick).progress == 3 / 11
    assert "3 of 11 payloads had arrived" in quick.status.value
    assert quick.alert.value == ""
    assert len(transfer_of(quick).trace) > 3
    assert quick.set(loss=0.1).wait().transfer is not None, "the next one runs"


def test_what_failed_is_explained_below(quick: TransferPanel) -> None:
    quick.set(protocol="best_effort", loss=0.4).wait()
    assert "<svg" in figure_of(quick, "autopsy")
    with pytest.raises(TransferStalled):
        quick.set(protocol="stop_and_wait", loss=0.95).wait()
    assert "Autopsy" in quick.alert.value
    assert "<svg" in figure_of(quick, "autopsy")
    notes = getattr(transfer_of(quick).error, "__notes__", [])
    assert "`partial.trace`" in notes[0], "a program is told where the trace is"
    quick.set(loss=0.0).wait()
    assert "<svg" not in figure_of(quick, "autopsy")
    assert quick.alert.value == ""


def test_the_numbers_are_of_what_is_shown_faults_included(quick: TransferPanel) -> None:
    quick.set(loss=0.0).wait()
    assert "DATA lost" in figure_of(quick, "numbers")
    before = quick.figures["numbers"].value
    quick.stage.faults = [{"way": 0, "number": 4, "what": "lose", "seconds": 0}]
    quick.wait()
    assert figure_of(quick, "numbers") != before
    assert summarise(transfer_of(quick).trace).lost_data == 1


def test_the_part_with_code_is_the_same_transfer(quick: TransferPanel) -> None:
    faults = [{"way": 0, "number": 4, "what": "late", "seconds": 0.2}]
    for protocol, more, done in (
        ("go_back_n", {"window": 4}, []),
        ("selective_repeat", {"order": "interleaved"}, faults),
    ):
        quick.set(protocol=protocol, timeout=0.1, **more).wait()
        quick.stage.faults = done
        code = figure_of(quick, "code").removeprefix("<pre>").removesuffix("</pre>")
        assert f"protocol='{protocol}'" in html.unescape(code)
        names: dict[str, Any] = {}
        exec(html.unescape(code), names)
        assert names["transfer"].trace.digest() == transfer_of(quick).trace.digest()
    quick.set(picture=255 - p2plab.sample_picture(64)).wait()
    assert "sample" not in figure_of(quick, "code")


def some_have_come(panel: TransferPanel) -> None:
    """Wait until some of a picture, but not all, is on the stage."""
    happened = threading.Event()

    def look(_: object) -> None:
        if panel.stage.header["live"] and seen(panel).any():
            happened.set()

    panel.stage.observe(look, "columns")
    assert happened.wait(SOON)
    panel.stage.unobserve(look, "columns")


def test_a_real_transfer_is_shown_while_it_travels_and_a_turned_knob_marks_it(
    quick: TransferPanel,
) -> None:
    quick.wait()
    quick.set(real=True, protocol="stop_and_wait", delay=0.03, picture=128).wait()
    assert quick.stage.stale, "what is shown was in virtual time"
    quick.run()
    with pytest.raises(P2PLabError, match="on its way"):
        quick.run()
    quick.buttons["send"].click()  # the second half of a double click
    assert quick.alert.value == ""
    some_have_come(quick)
    assert not quick.stage.stale
    quick.wait()
    assert not quick.stage.header["live"]
    assert seen(quick).all()
    assert summarise(transfer_of(quick).trace).delivered == 43
    quick.controls.loss.slider.value = 60
    assert quick.view.flush()
    assert quick.stage.stale
    assert "Press Send" in quick.note.value
    quick.set(loss=0.0, protocol="fast").run().wait()
    assert not quick.stage.stale
    quick.set(real=False).wait()
    assert transfer_of(quick).id == 0


def test_stop_half_way_keeps_the_partial_picture_and_the_trace(
    quick: TransferPanel,
) -> None:
    quick.set(real=True, protocol="stop_and_wait", delay=0.1, picture=128).run()
    some_have_come(quick)
    quick.buttons["stop"].click()
    with pytest.raises(TransferStopped):
        quick.wait()
    transfer = transfer_of(quick)
    assert transfer.state is State.FAILED
    assert 0 < transfer.progress < 1
    assert 0 < sum(seen(quick)) < 43
    assert len(transfer.trace) > 1
    assert re.search(r"\d+ of 43 payloads had arrived", quick.status.value)
    assert quick.alert.value == ""


def test_an_offer_that_nobody_answers_is_given_up_earlier_and_a_peer_is_told_so(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2plab.content.transfer.OFFER_PATIENCE", 3.0)
    alice, bob = pair
    alice.send_text("hello").wait()  # they have met
    peer_of(bob).pictures.close()
    alice.send_picture()
    words = r"It has waited [12] s for an answer to the offer, and gives up after 3 s\."
    eventually(lambda: re.search(words, alice.controls.progress.value), "it says so")
    with pytest.raises(TransferStalled):
        alice.wait()
    assert alice.view.flush()
    assert "p2plab.autopsy(panel.transfer)" in alice.controls.picture_alert.value


def test_a_given_lab_lends_its_peers_and_the_inbox_has_the_picture(
    lab: p2plab.Lab,
) -> None:
    carol, dave = lab.peer("carol"), lab.peer("dave")
    panel = TransferPanel(
        lab, sender="carol", receiver="dave", key="test", real=True, picture=64, loss=0
    )
    panel.run().wait()
    panel.close()
    assert (lab.peers["carol"], lab.peers["dave"]) == (carol, dave)
    (received,) = dave.inbox
    assert isinstance(received, Transfer)
    assert received.offer.sender == "carol"


def test_a_file_that_is_no_picture_is_refused(quick: TransferPanel) -> None:
    quick.wait()
    before = quick.transfer
    upload(quick, "notes.txt", b"dear diary")
    assert "notes.txt" in quick.alert.value
    assert "PNG" in quick.alert.value
    assert quick.controls.picture.choice.value == 64
    assert quick.view.flush()
    assert quick.transfer is before
    quick.run().wait()
    assert quick.alert.value == ""


def test_an_uploaded_picture_travels(quick: TransferPanel) -> None:
    picture = np.zeros((10, 20, 3), np.uint8)
    picture[:, :, 1] = 200
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    upload(quick, "green.png", file.getvalue())
    assert quick.controls.picture.choice.label == "green.png"
    quick.wait()
    assert quick.stage.header["picture"] == {"width": 20, "height": 10}
    assert (np.asarray(transfer_of(quick).picture()) == picture).all()
    assert "20 × 10 pixels" in quick.status.value


@pytest.mark.parametrize("panel", [TransferPanel, PeerPanel])
def test_a_closed_lab_is_met_with_the_cure(
    panel: type[TransferPanel] | type[PeerPanel],
) -> None:
    lab = p2plab.Lab(name="test")
    lab.close()
    with pytest.raises(P2PLabError, match="closed: run the cell"):
        panel(lab)


def test_a_panel_goes_on_with_the_lab_that_has_replaced_its_own(
    lab: p2plab.Lab,
) -> None:
    panel = TransferPanel(lab, key="test", real=True, picture=64, delay=0.0, loss=0.0)
    panel.run().wait()
    dora = PeerPanel(lab, "dora")
    with p2plab.Lab(name=lab.name) as newer:
        assert lab.closed
        panel.run().wait()
        assert {*newer.peers} == {"alice", "bob"}
        assert peer_of(dora.register().wait()).rendezvous.url == newer.url
        dora.close()
    panel.run()
    with pytest.raises(P2PLabError, match="closed: run the cell that makes it, then"):
        panel.wait()
    assert "What is shown is the transfer before." in panel.note.value
    panel.close()


def test_running_a_cell_again_replaces_its_panel_and_stops_its_transfer() -> None:
    old = TransferPanel(key="cell", real=True, protocol="stop_and_wait", delay=0.2)
    other = TransferPanel(key="other cell")
    old.run()
    some_have_come(old)
    transfer = transfer_of(old)
    new = TransferPanel(key="cell")
    assert old.closed
    assert not new.closed
    assert not other.closed
    with pytest.raises(TransferStopped):
        transfer.wait(SOON)
    (farewell,) = old.box.children
    assert "replaced by a newer one" in farewell.value
    new.close()
    other.close()


def test_a_panel_shows_itself_in_a_notebook(quick: TransferPanel) -> None:
    bundle = quick._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert "run this cell again" in bundle["text/plain"]  # where nobody has widgets


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_a_picture_of_any_mode_and_size_can_be_looked_at(mode: str) -> None:
    for size, shown in (((8, 4), (4, 8)), ((3000, 1500), (512, 1024))):
        page = figure(Image.new(mode, size), "words", 100, final=True)
        assert pixels(page).shape[:2] == shown
    assert pixels(figure(Image.new(mode, (8, 4)), "", 100, final=False)).size


# ---- the peer panel


def inbox_of(panel: PeerPanel) -> str:
    assert panel.view.flush()
    return "".join(each.value for each in panel.inbox.box.children)


def test_a_text_goes_from_panel_to_panel(pair: Pair) -> None:
    alice, bob = pair
    alice.controls.text.value = "salâm, bob"
    alice.controls.buttons["send-text"].click()
    alice.wait()
    assert "salâm, bob" in inbox_of(bob)
    assert alice.controls.attempts.value.startswith("sent, ACK (")
    assert re.search(r"\(\d+\.\d ms\)", alice.controls.attempts.value)
    assert alice.controls.text.value == ""


def test_a_late_ack_is_seen_and_the_text_comes_once(pair: Pair) -> None:
    alice, bob = pair
    bob.set(ack_delay=0.4)
    alice.set(timeout=0.3).send_text("once").wait()
    words = alice.controls.attempts.value
    assert words.startswith("sent, timeout, sent again, ACK"), words
    assert inbox_of(bob).count("once") == 1


def test_a_picture_goes_from_panel_to_panel(pair: Pair) -> None:
    alice, bob = pair
    alice.set(protocol="go_back_n", loss=0.2, delay=0.005)
    alice.controls.buttons["send-picture"].click()
    alice.wait()
    assert transfer_of(alice).offer.setup.protocol == "go_back_n"
    received = peer_of(bob).inbox[-1]
    assert isinstance(received, Transfer)
    received.wait(SOON)
    assert (pixels(inbox_of(bob)) == p2plab.sample_picture(64)).all()
    assert "11 of 11 payloads arrived" in alice.controls.progress.value


@pytest.mark.parametrize("by_receiver", [False, True])
def test_a_stopped_picture_says_who_stopped_it_and_how_far_it_was(
    pair: Pair, by_receiver: bool
) -> None:
    alice, bob = pair
    alice.set(delay=0.1, picture=256, protocol="stop_and_wait").send_picture()
    until(alice, lambda words: re.search(r">[1-9]\d* of 172", words) is not None)
    if by_receiver:
        peer_of(bob).pictures.transfers()[0].stop()
    else:
        alice.controls.buttons["stop"].click()
    with pytest.raises(TransferStopped):
        alice.wait()
    told = alice.controls.progress.value
    assert re.search(r"\d+ of 172 payloads", told)
    who = "The other side has stopped" if by_receiver else "The transfer was stopped"
    assert who in told
    assert not alice.controls.buttons["send-picture"].disabled


def one_request(panel: PeerPanel) -> Any:
    """The line of the only request, once it is there."""
    end = time.monotonic() + SOON
    while not panel.requests.box.children:
        assert time.monotonic() < end, "nobody has asked"
        assert panel.view.flush()
    [row] = panel.requests.box.children
    return row


def test_who_waits_for_a_consent_is_told_so_and_a_refusal_leaves_the_text_in_its_box(
    pair: Pair,
) -> None:
    alice, bob = pair
    bob.set(accept="ask")
    alice.send_text("may I?").send_picture()
    eventually(lambda: len(peer_of(bob).requests) == 2, "both ask")
    assert alice.view.flush()
    told = alice.controls.attempts, alice.controls.progress
    asking = peer_of(alice).meetings.admission.asking
    latest = max(until for _, until in asking.values())
    end = time.localtime(time.time() + latest - time.monotonic())
    words = f"Waiting for bob to agree to meet you, until {time.strftime('%X', end)} …"
    assert [each.value for each in told] == [words] * 2
    one_request(bob).children[2].click()
    with pytest.raises(P2PLabError, match="bob does not want to meet"):
        alice.wait()
    assert alice.view.flush()
    assert [each.value for each in told] == ["", ""]
    assert "bob does not want to meet" in alice.controls.text_alert.value
    assert alice.controls.text.value == "may I?"


def test_who_asks_twice_is_answered_by_one_click(pair: Pair) -> None:
    alice, bob = pair
    bob.set(accept="ask")
    alice.send_text("may I?").send_picture()
    eventually(lambda: len(peer_of(bob).requests) == 2, "both ask")
    assert bob.view.flush()
    words, accept, _ = one_request(bob).children
    assert '<b dir="auto">alice</b> wants to meet you' in words.value
    accept.click()
    alice.wait()
    assert "may I?" in inbox_of(bob)
    assert transfer_of(alice).state is State.DONE
    assert bob.view.flush()
    assert bob.requests.box.children == ()


def test_who_asked_and_has_left_goes_from_the_panel(
    lab: p2plab.Lab, pair: Pair
) -> None:
    _, bob = pair
    bob.set(accept="ask")
    zoe = lab.peer("zoe")
    away = Mock(side_effect=RendezvousAway("cut off"))  # so that it withdraws nothing
    zoe.rendezvous.answer = away  # type: ignore[method-assign]
    with pytest.raises(PeerUnreachable):
        zoe.introduce("bob", 0.2)
    assert "zoe" in one_request(bob).children[0].value
    zoe.close()
    bob.refresh().wait()
    assert bob.requests.box.children == ()


def test_what_others_wrote_stays_text(pair: Pair, quick: TransferPanel) -> None:
    _, bob = pair
    quick.wait()
    message = Message(EVIL, EVIL, 0.0, ("::1", 1), None)  # type: ignore[arg-type]
    chunks = cut(p2plab.sample_picture(64), name="<b>x")
    offer = Offer(EVIL, chunks.content, p2plab.Setup())
    bob.inbox.draw([message, Transfer(1, "receiver", offer)])
    bob.requests.draw([Request(EVIL, "00c0ffee00c0ffee", lambda *told: None)])
    upload(quick, f"{EVIL}.png", b"no picture")
    stranger = PeerPanel(bob.rendezvous, EVIL).register()
    with pytest.raises(ValueError, match="name"):
        stranger.wait()
    shown = [each.value for each in bob.inbox.box.children]
    shown += [one_request(bob).children[0].value]
    shown += [quick.alert.value, stranger.alert.value]
    assert all("onerror" in each for each in shown)
    assert EVIL not in "".join(shown)
    assert "<b>x" not in "".join(shown)
    stranger.close()


def test_two_rooms_do_not_see_each_other(lab: p2plab.Lab) -> None:
    alice, bob = PeerPanel(lab, "alice"), PeerPanel(lab, "bob")
    alice.set(room="chess").register().wait()
    bob.register().wait()
    assert alice.refresh().wait().found == []
    assert "Registered as alice in chess" in alice.status.value
    assert alice.controls.room.disabled
    alice.close()
    bob.close()


def test_a_taken_name_is_refused_with_how_long_to_wait(lab: p2plab.Lab) -> None:
    lab.peer("alice")
    panel = PeerPanel(lab, "alice")
    panel.controls.buttons["register"].click()
    with pytest.raises(NameTaken):
        panel.wait()
    assert re.search(r"ends in \d+ s", panel.alert.value)
    panel.register("alice2").wait()
    assert panel.alert.value == ""
    panel.close()


def test_a_text_to_a_dead_peer_stays_in_its_box(pair: Pair) -> None:
    alice, bob = pair
    peer_of(bob).texts.stop()
    alice.set(timeout=0.1, tries=2).send_text("precious")
    with pytest.raises(NotDelivered):
        alice.wait()
    assert alice.controls.text.value == "precious"
    assert not alice.controls.text.disabled
    assert "still in its box" in alice.note.value
    assert "nobody answers" in alice.controls.attempts.value


def test_a_peer_that_has_left_stays_chosen_and_is_marked(pair: Pair) -> None:
    alice, bob = pair
    bob.leave().wait()
    alice.refresh().wait()
    assert alice.controls.peers.options == (("bob (gone)", "bob"),)
    alice.send_text("hello?")
    with pytest.raises(P2PLabError, match="No peer of this name"):
        alice.wait()
    assert 'role="alert"' in alice.controls.text_alert.value


def test_a_rendezvous_that_is_away_is_told(pair: Pair, lab: p2plab.Lab) -> None:
    alice, _ = pair
    lab.server.stop()
    alice.refresh().wait()
    assert "does not answer" in alice.status.value


def test_what_needs_a_name_or_a_choice_says_so(lab: p2plab.Lab) -> None:
    panel = PeerPanel(lab, "alice")
    it = panel.controls
    it.buttons["send-text"].click()
    assert "Register a name first" in it.text_alert.value
    panel.register().wait()
    assert it.text_alert.value == ""
    it.buttons["send-picture"].click()
    assert "Choose a peer first" in it.picture_alert.value
    lab.peer("bob")
    panel.choose("bob")
    it.buttons["send-text"].click()
    assert "There is no text to send" in it.text_alert.value
    assert it.picture_alert.value == panel.alert.value == ""
    panel.close()


@pytest.mark.parametrize("how", ["refused", "left"])
def test_a_result_goes_with_its_peer_and_when_the_next_attempt_is_refused(
    pair: Pair, how: str
) -> None:
    alice, _ = pair
    it = alice.controls
    alice.send_text("hello").send_picture().wait()
    assert "ACK" in it.attempts.value
    assert "11 of 11" in it.progress.value
    if how == "left":
        alice.leave().wait()
        alice.register().wait()
    else:
        it.peers.value, it.text.value = None, "not sent"
        for name in ("send-text", "send-picture"):
            it.buttons[name].click()
        assert alice.view.flush()
        assert "hoose a peer" in it.text_alert.value + it.picture_alert.value
        assert it.text.value == "not sent"
    assert it.attempts.value == it.progress.value == ""


def test_a_double_click_sends_one_text_and_one_picture(pair: Pair) -> None:
    alice, bob = pair
    bob.set(ack_delay=0.2)
    alice.set(text="once", delay=0.05)
    for name in ("send-text", "send-text", "send-picture", "send-picture"):
        alice.controls.buttons[name].click()
    alice.wait()
    assert len(peer_of(bob).inbox) == 2
    assert alice.controls.text_alert.value == alice.controls.picture_alert.value == ""


def test_the_ack_knobs_turn_while_the_peer_runs(pair: Pair) -> None:
    _, bob = pair
    bob.controls.ack_delay.slider.value = 3.0
    bob.controls.ack_loss.number.value = 50
    assert (peer_of(bob).texts.ack_delay, peer_of(bob).texts.ack_loss) == (3.0, 0.5)


def test_running_a_peers_cell_again_frees_its_name(lab: p2plab.Lab) -> None:
    old = PeerPanel(lab, "alice").register()
    old.wait()
    new = PeerPanel(lab, "alice").register()
    new.wait()
    assert old.closed
    assert peer_of(new).name == "alice"
    new.close()
