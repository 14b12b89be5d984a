"""The panels without a browser: the same widgets, clicked and read from Python."""

from __future__ import annotations

import base64
import html
import io
import re
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from loopback import eventually
from PIL import Image

import p2plab
from p2plab.content.chunks import Assembly, cut
from p2plab.content.transfer import State, Transfer
from p2plab.core.packet import DATA
from p2plab.core.trace import SEND, SENDER, TIMEOUT, Row, Trace
from p2plab.errors import (
    BadContent,
    NameTaken,
    NotDelivered,
    P2PLabError,
    PeerUnreachable,
    RendezvousAway,
    TransferStalled,
    TransferStopped,
)
from p2plab.measure.metrics import deliveries, summarise, transmissions
from p2plab.net.chat import Message
from p2plab.rendezvous.callers import Request
from p2plab.ui import PeerPanel, TransferPanel
from p2plab.ui.figures import FIGURES, code
from p2plab.ui.knobs import Knob
from p2plab.ui.panel import View, in_words
from p2plab.ui.pictures import figure
from p2plab.ui.requests import in_words as in_words_of
from p2plab.ui.runs import Order, Replay, Tally, have

SOON = 10.0  # [s]; a busy machine needs a hundredth
EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture
def quick() -> Iterator[TransferPanel]:
    """A transfer panel that shows the end of a simulated transfer at once."""
    panel = TransferPanel(key="test", replay=0, picture=64, delay=0.01, loss=0.2)
    yield panel
    panel.close()


@pytest.fixture
def lab() -> Iterator[p2plab.Lab]:
    with p2plab.Lab(name="test") as lab:
        yield lab


@pytest.fixture
def pair(lab: p2plab.Lab) -> Iterator[tuple[PeerPanel, PeerPanel]]:
    """Two registered peer panels; the first has chosen the second."""
    alice, bob = PeerPanel(lab, "alice"), PeerPanel(lab, "bob")
    alice.register().wait()
    bob.register().wait()
    alice.choose("bob").set(loss=0, delay=0, picture=64)
    yield alice, bob
    alice.close()
    bob.close()


def pixels(value: str) -> np.ndarray[Any, Any]:
    """What an HTML picture shows."""
    found = re.search(r'src="data:image/(png|jpeg);base64,([^"]+)"', value)
    assert found, f"no picture in {value[:200]}"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(found[2]))))


def until(panel: TransferPanel | PeerPanel, said: Callable[[str], bool]) -> None:
    """Wait until the words about the picture's progress are such."""
    bar = panel.controls.progress if isinstance(panel, PeerPanel) else panel.stage.bar
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


def some_have_arrived(words: str) -> bool:
    return re.search(r" s: [1-9][\d,]* of", words) is not None


def view_threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "p2plab panel"]


# ---- the view


def test_a_view_draws_seldom_however_often_it_is_poked_and_draws_the_last_state() -> (
    None
):
    state, seen = 0, []
    view = View(lambda: seen.append(state), lambda why: None, pause=0.02)
    for state in range(5_000):  # noqa: B007  (the view reads it)
        view.poke()
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


def test_a_stopped_view_has_no_thread_and_never_draws_again() -> None:
    seen: list[int] = []
    view = View(lambda: seen.append(1), lambda why: None, pause=0.001)
    assert view.flush(SOON)
    view.stop()
    count = len(seen)
    view.poke()
    assert not view.flush(0.01)
    assert len(seen) == count


def test_an_error_begins_like_a_sentence_and_what_helps_is_another_one(
    quick: TransferPanel,
) -> None:
    quick.complain(ValueError("loss is too large"))
    assert ">Loss is too large<" in quick.alert.value
    quick.complain(P2PLabError("nothing came"), more="Try again.")
    assert ">Nothing came. Try again.<" in quick.alert.value
    quick.complain(P2PLabError("is it there?"), more="Try again.")
    assert ">Is it there? Try again.<" in quick.alert.value


def test_damaged_packets_are_counted_where_there_are_some_real_or_simulated(
    quick: TransferPanel,
) -> None:
    assert "damaged" not in quick.run().wait().stage.bar.value
    for real in (False, True):
        quick.set(corrupt=0.3, real=real).run().wait()
        assert quick.transfer is not None
        count = summarise(quick.transfer.trace).corrupted
        assert count
        assert f" lost, {count} damaged, " in quick.stage.bar.value


def test_errors_are_told_in_words_and_unknown_ones_with_their_type() -> None:
    assert in_words(ValueError("loss is too large")) == "loss is too large"
    assert in_words(P2PLabError("the cure")) == "the cure"
    assert in_words(KeyError("oops")) == "KeyError: 'oops'"


# ---- controls


def test_a_knob_shows_per_cent_and_gives_a_probability() -> None:
    knob = Knob("loss", "Loss [%]", 0, 95, 10, 1, 0.01)
    assert knob.value == 0.1
    knob.value = 0.3
    assert (knob.number.value, knob.slider.value) == (30, 30)
    knob.slider.value = 41
    assert (knob.number.value, knob.value) == (41, 0.41)


def test_a_slider_that_answers_with_rounding_noise_does_not_change_the_number() -> None:
    knob = Knob("loss", "Loss [%]", 0, 95, 10, 1, 0.01)
    knob.slider.value = 9.999999999999998
    assert knob.number.value == 10
    knob.number.value = 12.5
    knob.slider.value = 12.499999999999998
    assert knob.value == 0.125


def test_what_is_typed_outside_the_limits_is_limited_and_a_line_says_so_once() -> None:
    knob = Knob("loss", "Loss [%]", 0, 95, 10, 1, 0.01)
    assert knob.limited.layout.display == "none"
    knob.number.value = 150
    assert (knob.number.value, knob.slider.value, knob.value) == (95, 95, 0.95)
    assert "At most 95 here, so 150 became 95<" in knob.limited.value
    knob.number.value = -3
    assert (knob.number.value, knob.slider.value, knob.value) == (0, 0, 0.0)
    assert "At least 0 here, so -3 became 0<" in knob.limited.value
    knob.number.value = 20
    assert (knob.limited.value, knob.limited.layout.display) == ("", "none")


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
    quick.set(protocol="go_back_n", window=8, timeout=0.1, loss=0.05, seed=7)
    quick.run().wait()
    assert quick.transfer is not None
    assert quick.transfer.offer.setup == p2plab.Setup("go_back_n", 8, 0.1)
    assert quick.transfer.link == p2plab.Link(0.01, loss=0.05, seed=7)


def test_a_protocol_without_a_window_has_no_window_to_set(quick: TransferPanel) -> None:
    assert not quick.controls.window.number.disabled
    window = quick.controls.window
    assert window.instead.layout.display == "none"
    for protocol, instead in (
        ("stop_and_wait", "always 1"),
        ("best_effort", "has none"),
        ("fast", "finds its own"),
    ):
        quick.set(protocol=protocol)
        assert window.number.disabled
        assert window.instead.value == instead
    assert quick.controls.setup == p2plab.Setup("fast"), "it finds its own"
    quick.set(protocol="go_back_n")
    assert not window.number.disabled
    assert window.instead.layout.display == "none"


# ---- the transfer panel


def test_a_click_sends_and_the_picture_on_the_panel_is_the_one_that_arrived(
    quick: TransferPanel,
) -> None:
    quick.stage.buttons["send"].click()
    quick.wait()
    assert quick.transfer is not None
    assert (pixels(quick.stage.picture.value) == p2plab.sample_picture(64)).all()
    assert 'alt="The picture as received after' in quick.stage.picture.value
    assert 'role="status">Done after' in quick.status.value
    assert not quick.stage.buttons["send"].disabled
    assert quick.stage.buttons["stop"].disabled


def pressed_in_a_browser(button: Any) -> None:
    """What the kernel is told by a browser in which somebody presses a button."""
    button._handle_custom_msg({"event": "click"}, [])


def test_a_press_counts_when_the_browser_has_told_what_was_set_before_it(
    quick: TransferPanel,
) -> None:
    pressed_in_a_browser(quick.stage.buttons["send"])
    assert quick.transfer is None
    quick.controls.protocol.value = "fast"  # what the browser had kept back
    link = quick.echo.link
    (asked, _), (answered, name) = link.source, link.target
    setattr(answered, name, asked.value)
    quick.wait()
    assert quick.transfer is not None
    assert quick.transfer.offer.setup.protocol == "fast"


def test_a_press_counts_where_the_browser_cannot_be_asked(
    quick: TransferPanel,
) -> None:
    pressed_in_a_browser(quick.stage.buttons["send"])
    eventually(lambda: quick.transfer is not None, "the press counts")
    quick.wait()


def test_when_it_is_over_every_figure_is_there_with_its_words(
    quick: TransferPanel,
) -> None:
    quick.run().wait()
    figures = quick.stage.figures
    for name in ("ladder", "over-time", "window", "rtt"):
        assert re.search(r'<img alt="[^"]{20,}"', figures[name].value), name
    assert "DATA lost" in figures["numbers"].value


def test_what_failed_is_explained_with_its_ladder_in_the_tab_that_opens(
    quick: TransferPanel,
) -> None:
    tabs, autopsy = quick.stage.tabs, quick.stage.figures["autopsy"]
    quick.set(protocol="best_effort", loss=0.4).run().wait()
    assert tabs.selected_index in (None, 0), "it has not failed: holes were to come"
    assert "Promise broken: what is delivered is always a prefix" in autopsy.value
    assert "Replayed into fresh machines" in autopsy.value
    assert "<svg" in autopsy.value

    quick.set(protocol="stop_and_wait", loss=0.95).run()
    with pytest.raises(TransferStalled):
        quick.wait()
    assert tabs.children[tabs.selected_index] is autopsy
    assert tabs.titles[tabs.selected_index] == "Autopsy"
    assert "Nothing was delivered for 600 s" in autopsy.value
    assert "Below, Autopsy tells what happened" in quick.alert.value
    assert "partial" not in quick.alert.value
    assert quick.transfer is not None
    notes = getattr(quick.transfer.error, "__notes__", [])
    assert "`partial.trace`" in notes[0], "a program is told where the trace is"

    quick.set(loss=0.0).run().wait()
    assert tabs.selected_index == 0
    assert "Nothing went wrong" in autopsy.value


def test_the_tab_with_code_is_the_same_transfer(quick: TransferPanel) -> None:
    quick.set(protocol="go_back_n", window=4, timeout=0.1).run().wait()
    code = quick.stage.figures["code"].value.removeprefix("<pre>")
    names: dict[str, Any] = {}
    exec(code.removesuffix("</pre>").replace("&#x27;", "'"), names)
    assert quick.transfer is not None
    assert names["transfer"].trace.digest() == quick.transfer.trace.digest()


def test_the_tab_with_code_names_the_protocol_the_default_one_too(
    quick: TransferPanel,
) -> None:
    quick.run().wait()
    assert "selective_repeat" in quick.stage.figures["code"].value


def test_the_tab_with_code_does_not_take_ones_own_picture_for_the_sample(
    quick: TransferPanel,
) -> None:
    quick.set(picture=255 - p2plab.sample_picture(64)).run().wait()
    assert "a file of yours" in quick.stage.figures["code"].value


def test_a_replay_fills_the_picture_in_with_few_frames_and_takes_as_long_as_asked() -> (
    None
):
    panel = TransferPanel(key="test", replay=1.0, picture=64, delay=0.2, loss=0.3)
    panel.view.flush()
    frames: list[str] = []
    panel.stage.picture.observe(lambda change: frames.append(change.new), "value")
    began = time.perf_counter()
    panel.run().wait()
    panel.close()
    assert time.perf_counter() - began >= 1.0
    assert "<img" not in frames.pop(0), "the picture of before goes first"
    assert 5 <= len(frames) <= 14
    assert sum("image/jpeg" in each for each in frames) == len(frames) - 1
    assert "image/png" in frames[-1]


def test_somebody_who_cannot_wait_sees_the_end_at_once() -> None:
    panel = TransferPanel(key="test", replay=300, picture=64, delay=0.5)
    panel.run()
    until(panel, lambda words: " s: 0 of" in words)
    panel.stage.buttons["skip"].click()
    panel.wait(SOON)
    assert (pixels(panel.stage.picture.value) == p2plab.sample_picture(64)).all()
    panel.close()


def test_real_sockets_need_nothing_but_the_choice(quick: TransferPanel) -> None:
    quick.set(real=True, picture=128).run().wait()
    assert quick.transfer is not None
    assert quick.transfer.id, "it was simulated"
    assert (pixels(quick.stage.picture.value) == p2plab.sample_picture(128)).all()
    assert "over real sockets" in quick.status.value


def test_the_end_and_the_duration_say_where_they_end(quick: TransferPanel) -> None:
    quick.run().wait()
    assert quick.transfer is not None
    end, duration = quick.transfer.seconds, summarise(quick.transfer.trace).duration
    assert duration
    assert end > duration
    assert f"Done after {end:.2f} s (FIN included) in" in quick.status.value
    assert "duration to the last delivery" in quick.stage.figures["numbers"].value


def test_a_real_transfer_that_waits_says_for_what_and_when_it_gives_up() -> None:
    panel = TransferPanel(key="test", real=True, picture=64, loss=0.95, timeout=5.0)
    panel.run()
    words = r"real sockets … It has waited [1-9] s for a word from the other side, and "
    words += r"gives up after 30 s\."
    eventually(lambda: re.search(words, panel.status.value), "it says so")
    panel.close()


def test_an_offer_that_nobody_answers_is_given_up_earlier_and_a_peer_is_told_so(
    pair: tuple[PeerPanel, PeerPanel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2plab.content.transfer.OFFER_PATIENCE", 3.0)
    alice, bob = pair
    assert bob.peer is not None
    alice.send_text("hello").wait()  # they have met
    bob.peer.pictures.close()
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


def test_best_effort_leaves_holes_and_they_stay_on_the_panel(
    quick: TransferPanel,
) -> None:
    quick.set(protocol="best_effort", loss=0.5).run().wait()
    assert quick.transfer is not None
    assert quick.transfer.assembly is not None
    assert quick.transfer.assembly.missing
    shown = pixels(quick.stage.picture.value)
    assert (shown == np.asarray(quick.transfer.picture())).all()
    assert "never arrived" in quick.status.value


def test_a_file_that_is_no_picture_is_met_with_words_and_nothing_is_lost(
    quick: TransferPanel,
) -> None:
    quick.run().wait()
    before = quick.transfer
    shown = quick.stage.picture.value, quick.stage.bar.value
    upload(quick, "notes.txt", b"dear diary")
    assert 'role="alert"' in quick.alert.value
    assert "notes.txt is not a picture" in quick.alert.value
    assert "choose a PNG" in quick.alert.value
    assert "kind=" not in quick.alert.value
    assert quick.controls.picture.choice.value == 64
    assert quick.view.flush()
    assert (quick.stage.picture.value, quick.stage.bar.value) == shown
    assert quick.transfer is before
    assert (pixels(quick.stage.picture.value) == p2plab.sample_picture(64)).all()
    quick.run().wait()
    assert quick.alert.value == ""


def test_an_uploaded_picture_is_shown_before_it_is_sent(quick: TransferPanel) -> None:
    picture = np.zeros((10, 20, 3), np.uint8)
    picture[:, :, 1] = 200
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    upload(quick, "green.png", file.getvalue())
    assert quick.controls.picture.choice.label == "green.png"
    quick.view.flush()
    assert (pixels(quick.stage.picture.value) == picture).all()
    quick.run().wait()
    assert (pixels(quick.stage.picture.value) == picture).all()


def test_a_knob_that_is_turned_meanwhile_counts_for_the_next_transfer(
    quick: TransferPanel,
) -> None:
    quick.set(real=True, protocol="stop_and_wait", delay=0.1).run()
    until(quick, some_have_arrived)
    quick.controls.loss.slider.value = 60
    assert "counts for the next transfer" in quick.note.value
    assert quick.transfer is not None
    assert quick.transfer.link == p2plab.Link(0.1, loss=0.2, seed=1)
    quick.stop()
    with pytest.raises(TransferStopped):
        quick.wait()


def test_a_second_send_during_a_transfer_is_refused_and_harms_nothing(
    quick: TransferPanel,
) -> None:
    quick.replay = 300
    quick.set(delay=0.5).run()
    with pytest.raises(P2PLabError, match="on its way"):
        quick.run()
    quick.stage.buttons["send"].click()  # the second half of a double click
    assert quick.alert.value == ""
    quick.skip().wait()
    assert quick.transfer is not None
    assert quick.transfer.state is State.DONE


@pytest.mark.parametrize("real", [True, False])
def test_stop_half_way_keeps_the_partial_picture_and_the_trace(
    quick: TransferPanel, real: bool
) -> None:
    quick.replay = 300
    quick.set(real=real, protocol="stop_and_wait", delay=0.1, picture=128).run()
    until(quick, some_have_arrived)
    quick.stage.buttons["stop"].click()
    with pytest.raises(TransferStopped):
        quick.wait()
    transfer = quick.transfer
    assert transfer is not None
    assert 0 < transfer.progress < 1
    assert transfer.state is State.FAILED
    assert len(transfer.trace) > 1
    assert real or max(row.time for row in transfer.trace) <= transfer.seconds
    shown = pixels(quick.stage.picture.value)
    assert (shown == np.asarray(transfer.picture())).all()
    assert "Stopped after" in quick.status.value
    assert re.search(r"you stopped it at \d+ of 42 payloads", quick.status.value)
    assert quick.alert.value == ""
    assert "<img" in quick.stage.figures["ladder"].value


@pytest.mark.parametrize("real", [True, False])
def test_after_stop_one_can_send_before_the_figures_are_drawn(
    quick: TransferPanel, real: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawing, may_go_on = threading.Event(), threading.Event()

    def slow(trace: Trace) -> str:
        drawing.set()
        may_go_on.wait(SOON)
        return "drawn at last"

    monkeypatch.setitem(FIGURES, "numbers", ("Numbers", slow))
    quick.stage.tabs.selected_index = list(FIGURES).index("numbers")  # the first drawn
    quick.replay = 300
    quick.set(real=real, protocol="stop_and_wait", delay=0.1, picture=128).run()
    until(quick, some_have_arrived)
    quick.stage.buttons["stop"].click()
    assert drawing.wait(SOON)
    assert not quick.stage.buttons["send"].disabled
    assert "being drawn" in quick.stage.figures["ladder"].value
    quick.replay = 0
    quick.set(picture=64, protocol="best_effort").stage.buttons["send"].click()
    may_go_on.set()
    quick.wait()
    assert quick.transfer is not None
    assert quick.transfer.state is State.DONE
    assert "being drawn" not in quick.stage.figures["ladder"].value


def test_stop_before_anything_was_sent_stops_it_too(quick: TransferPanel) -> None:
    quick.set(real=True, delay=0.5).run().stop()
    with pytest.raises(TransferStopped):
        quick.wait()


@pytest.mark.parametrize("real", [True, False])
def test_before_anything_has_arrived_the_picture_is_all_holes(
    quick: TransferPanel, real: bool
) -> None:
    quick.replay = 300
    quick.set(real=real, delay=0.5, loss=0.95)
    quick.view.flush()
    assert "The picture to send" in quick.stage.picture.value
    quick.run()
    assert quick.view.flush()
    nothing = "0 of 11 payloads are here"
    assert nothing in quick.stage.picture.value
    assert nothing in quick.stage.bar.value
    quick.stop()
    with pytest.raises(TransferStopped):
        quick.wait()
    assert nothing in quick.stage.picture.value
    assert quick.transfer is not None
    holes = p2plab.content.chunks.Assembly(quick.transfer.offer.content).picture()
    assert (pixels(quick.stage.picture.value) == np.asarray(holes)).all()


def test_the_figures_take_no_room_before_there_are_some(quick: TransferPanel) -> None:
    assert quick.stage.tabs.layout.display == "none"
    quick.replay = 300
    quick.run()
    assert quick.stage.tabs.layout.display == "none"
    quick.skip().wait()
    assert quick.stage.tabs.layout.display is None


def test_the_ladder_says_nothing_that_only_programs_can_do(
    quick: TransferPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []

    def keep(ax: Any) -> str:
        drawn.append(ax)
        return ""

    monkeypatch.setattr(p2plab.plots, "to_html", keep)
    quick.stage.names = "carol", "dave"
    quick.run().wait()
    ladder = drawn[0]
    assert [each.get_text() for each in ladder.get_xticklabels()] == ["carol", "dave"]
    assert "start" not in ladder.get_xlabel()
    assert "40 packets" in ladder.get_xlabel()


def test_the_ladder_of_a_burst_draws_few_packets_and_that_of_a_dialogue_more(
    quick: TransferPanel,
) -> None:
    for protocol, most in (("fountain", 16), ("fast", 16), ("stop_and_wait", 40)):
        quick.set(protocol=protocol, delay=0.05, picture=128).run().wait()
        ladder = quick.stage.figures["ladder"].value
        assert f"At most {most} packets are drawn." in ladder
        assert int(re.findall(r"DATA: (\d+)", ladder)[0]) <= most


def test_a_panel_has_words_outside_a_notebook(quick: TransferPanel) -> None:
    assert repr(quick).startswith("<TransferPanel, a panel: end a notebook's cell")


@pytest.mark.parametrize("panel", [TransferPanel, PeerPanel])
def test_a_closed_lab_is_met_with_the_cure(
    panel: type[TransferPanel] | type[PeerPanel],
) -> None:
    lab = p2plab.Lab(name="test")
    lab.close()
    with pytest.raises(P2PLabError, match="closed: run the cell"):
        panel(lab)


def test_a_transfer_panel_goes_on_with_the_lab_that_has_replaced_its_own(
    lab: p2plab.Lab,
) -> None:
    panel = TransferPanel(lab, key="test", real=True, picture=64, delay=0.0, loss=0.0)
    panel.run().wait()
    with p2plab.Lab(name=lab.name) as newer:
        assert lab.closed
        panel.run().wait()
        assert {*newer.peers} == {"alice", "bob"}
    panel.run()
    with pytest.raises(P2PLabError, match="closed: run the cell that makes it, then"):
        panel.wait()
    assert "What is shown is the transfer before." in panel.status.value
    panel.close()


def test_a_peers_panel_registers_at_the_lab_that_has_replaced_its_own(
    lab: p2plab.Lab,
) -> None:
    panel = PeerPanel(lab, "dora")
    with p2plab.Lab(name=lab.name) as newer:
        panel.register().wait()
        assert panel.peer is not None
        assert panel.peer.rendezvous.url == newer.url
        panel.close()


def test_send_takes_the_picture_and_the_numbers_of_the_transfer_before_away_at_once(
    quick: TransferPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick.run().wait()
    assert "<img" in quick.stage.picture.value
    assert "payloads are here" in quick.stage.bar.value
    monkeypatch.setattr(quick.view, "poke", lambda: None)  # it is drawing something
    quick.run()
    assert "<img" not in quick.stage.picture.value
    assert "payloads" not in quick.stage.bar.value
    monkeypatch.undo()
    quick.view.poke()
    quick.wait()
    assert "payloads are here" in quick.stage.bar.value


def test_one_of_a_thing_is_not_called_several() -> None:
    rows: list[Row] = [
        Row(0.0, SENDER, SEND, DATA, 0, 9, 0),
        Row(1.0, SENDER, TIMEOUT, 0, -1, 0, -1),
    ]
    assert Tally().read(rows) == "1 packet sent, 0 lost, 0 sent again, 1 timeout"
    assembly = Assembly(cut(b"one").content)
    assert have(assembly) == "0 of 1 payload is here"


def test_one_can_go_back_to_any_moment_of_a_transfer(quick: TransferPanel) -> None:
    quick.set(picture=128, protocol="stop_and_wait").run().wait()
    transfer, moment = quick.transfer, quick.stage.moment
    assert transfer is not None
    ladder = quick.stage.figures["ladder"].value
    moment.value = transfer.seconds / 2
    assert quick.view.flush()
    words = quick.stage.bar.value
    when, count = transfer.seconds / 2, len(transfer.trace)
    then = sum(e.what == "deliver" and e.time <= when for e in transfer.trace)
    assert f" {then} of " in words
    assert quick.stage.figures["ladder"].value != ladder
    moment.value = moment.highest
    assert quick.view.flush()
    assert (pixels(quick.stage.picture.value) == p2plab.sample_picture(128)).all()
    assert len(transfer.trace) == count


def test_a_browser_hears_of_a_new_end_and_of_the_moment_at_it_in_one_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else it answers the new end with the old moment, and the picture goes back."""
    moment = Knob("moment", "Moment [ms]", 0.0, 1.0, 1.0, 1.0, 0.001)
    sent: list[set[str]] = []
    hear = moment.slider
    monkeypatch.setattr(hear, "send_state", lambda key: sent.append({*key}))
    moment.stretch(0.9)
    assert sent == [{"max", "value"}]
    # The order counts, too: a slider would cut the value by the `max` of before.
    assert list(moment.slider.get_state(["value", "max"])) == ["max", "value"]


@pytest.mark.parametrize("protocol", ["best_effort", "go_back_n", "selective_repeat"])
@pytest.mark.parametrize("order", ["rows", "interleaved"])
def test_the_end_of_a_replay_is_what_had_arrived(protocol: str, order: str) -> None:
    picture = p2plab.sample_picture(64)
    link = p2plab.Link(0.01, loss=0.3, duplicate=0.2, reorder=0.2, seed=3)
    setup = p2plab.Setup(protocol, window=4, timeout=0.05)
    transfer = p2plab.simulate_picture(picture, setup, link, order=order)
    parcel = p2plab.content.chunks.cut(picture, order=order)
    assert transfer.assembly is not None
    last = Replay(parcel, transfer.trace).at(transfer.seconds)
    assert last.data() == transfer.assembly.data()
    assert last.missing == transfer.assembly.missing
    rows, moves = transfer.trace.rows, transmissions(transfer.trace)
    assert len({number for _, number in deliveries(rows, moves)}) == last.received


def test_the_code_of_a_transfer_names_what_differs_from_the_defaults() -> None:
    for setup, written in (
        (p2plab.Setup("fast"), "Setup(protocol='fast')"),
        (p2plab.Setup("go_back_n", window=16), "Setup(protocol='go_back_n')"),
        (p2plab.Setup("fast", window=16), "Setup(protocol='fast', window=16)"),
    ):
        order = Order(None, setup, p2plab.Link(loss=0.1), "rows", False)
        said = html.unescape(code(order))
        assert f"setup = p2plab.{written}\nlink = p2plab.Link(loss=0.1)\n" in said


def test_running_a_cell_again_replaces_its_panel_and_stops_its_transfer() -> None:
    old = TransferPanel(key="cell", real=True, protocol="stop_and_wait", delay=0.2)
    other = TransferPanel(key="other cell")
    old.run()
    until(old, some_have_arrived)
    new = TransferPanel(key="cell")
    assert old.closed
    assert not new.closed
    assert not other.closed
    assert old.transfer is not None
    assert isinstance(old.transfer.error, TransferStopped)
    (farewell,) = old.box.children
    assert "replaced by a newer one" in farewell.value
    new.close()
    other.close()


def test_a_closed_panel_leaves_no_thread_behind() -> None:
    before = set(threading.enumerate())
    panel = TransferPanel(key="test", real=True, protocol="stop_and_wait", delay=0.2)
    panel.run()
    until(panel, some_have_arrived)
    panel.close()
    panel.close()
    for thread in set(threading.enumerate()) - before:
        thread.join(SOON)
        assert not thread.is_alive(), thread


def test_a_panel_shows_itself_in_a_notebook(quick: TransferPanel) -> None:
    bundle = quick._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert "run this cell again" in bundle["text/plain"]  # where nobody has widgets


def test_a_file_name_with_html_stays_text(quick: TransferPanel) -> None:
    upload(quick, f"{EVIL}.png", b"no picture")
    with pytest.raises(BadContent):
        quick.wait()
    assert "onerror" in quick.alert.value
    assert EVIL not in quick.alert.value


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "I;16", "I", "F", "CMYK"])
def test_a_picture_of_any_mode_can_be_looked_at(mode: str) -> None:
    image = Image.new(mode, (8, 4))
    for final in (True, False):
        assert pixels(figure(image, "words", 100, final=final)).shape[:2] == (4, 8)


def test_a_huge_picture_is_shown_smaller() -> None:
    image = Image.new("RGB", (3000, 1500))
    assert pixels(figure(image, "words", 100, final=True)).shape == (512, 1024, 3)


# ---- the peer panel


def inbox_of(panel: PeerPanel) -> str:
    assert panel.view.flush()
    return "".join(each.value for each in panel.inbox.box.children)


def test_a_text_goes_from_panel_to_panel(pair: tuple[PeerPanel, PeerPanel]) -> None:
    alice, bob = pair
    alice.controls.text.value = "salâm, bob"
    alice.controls.buttons["send-text"].click()
    alice.wait()
    assert "salâm, bob" in inbox_of(bob)
    assert alice.controls.attempts.value.startswith("sent, ACK (")
    assert re.search(r"\(\d+\.\d ms\)", alice.controls.attempts.value)
    assert alice.controls.text.value == ""


def test_a_late_ack_can_be_seen_in_the_attempts_and_the_text_comes_once(
    pair: tuple[PeerPanel, PeerPanel],
) -> None:
    alice, bob = pair
    bob.set(ack_delay=0.4)
    alice.set(timeout=0.3).send_text("once").wait()
    words = alice.controls.attempts.value
    assert words.startswith("sent, timeout, sent again, ACK"), words
    assert inbox_of(bob).count("once") == 1


def test_a_picture_goes_from_panel_to_panel(pair: tuple[PeerPanel, PeerPanel]) -> None:
    alice, bob = pair
    alice.set(protocol="go_back_n", loss=0.2, delay=0.005)
    alice.controls.buttons["send-picture"].click()
    alice.wait()
    assert alice.transfer is not None
    assert alice.transfer.offer.setup.protocol == "go_back_n"
    assert bob.peer is not None
    received = bob.peer.inbox[-1]
    assert isinstance(received, Transfer)
    received.wait(SOON)
    assert (pixels(inbox_of(bob)) == p2plab.sample_picture(64)).all()
    assert "11 of 11 payloads arrived" in alice.controls.progress.value


@pytest.mark.parametrize("by_receiver", [False, True])
def test_a_stopped_picture_says_who_stopped_it_and_how_far_it_was(
    pair: tuple[PeerPanel, PeerPanel], by_receiver: bool
) -> None:
    alice, bob = pair
    alice.set(delay=0.1, picture=256, protocol="stop_and_wait").send_picture()
    until(alice, lambda words: re.search(r">[1-9]\d* of 165", words) is not None)
    if by_receiver:
        assert bob.peer is not None
        bob.peer.pictures.transfers()[0].stop()
    else:
        alice.controls.buttons["stop"].click()
    with pytest.raises(TransferStopped):
        alice.wait()
    told = alice.controls.progress.value
    assert re.search(r"\d+ of 165 payloads", told)
    who = "The other side has stopped the transfer" if by_receiver else "You stopped it"
    assert who in told
    assert not alice.controls.buttons["send-picture"].disabled


def test_a_text_with_html_stays_text(pair: tuple[PeerPanel, PeerPanel]) -> None:
    alice, bob = pair
    alice.send_text(EVIL).wait()
    assert "onerror" in inbox_of(bob)
    assert EVIL not in inbox_of(bob)


def test_a_sender_and_a_file_with_html_in_their_names_stay_text(
    pair: tuple[PeerPanel, PeerPanel],
) -> None:
    _, bob = pair
    assert bob.peer is not None
    message = Message(EVIL, EVIL, 0.0, ("::1", 1), None)  # type: ignore[arg-type]
    view = bob.inbox
    parcel = p2plab.content.chunks.cut(p2plab.sample_picture(64), name="<b>x")
    setup = p2plab.Setup()
    offer = p2plab.content.offer.Offer(EVIL, parcel.content, setup)
    view.draw([message, Transfer(1, "receiver", offer)])
    shown = "".join(each.value for each in view.box.children)
    assert shown.count("onerror") >= 3
    assert EVIL not in shown
    assert "<b>x" not in shown


def one_request(panel: PeerPanel) -> Any:
    """The line of the only request, once it is there."""
    end = time.monotonic() + SOON
    while not panel.requests.box.children:
        assert time.monotonic() < end, "nobody has asked"
        assert panel.view.flush()
    [row] = panel.requests.box.children
    return row


def test_who_asks_to_be_asked_accepts_with_a_click_and_the_text_comes(
    pair: tuple[PeerPanel, PeerPanel],
) -> None:
    alice, bob = pair
    bob.set(accept="ask")
    alice.send_text("may I?")
    words, accept, _ = one_request(bob).children
    assert words.value == "<b>alice</b> wants to meet you."
    accept.click()
    alice.wait()
    assert "may I?" in inbox_of(bob)
    assert bob.view.flush()
    assert bob.requests.box.children == ()


def test_a_refusal_is_told_to_the_caller_and_its_text_stays_in_the_box(
    pair: tuple[PeerPanel, PeerPanel],
) -> None:
    alice, bob = pair
    bob.set(accept="ask")
    alice.send_text("may I?")
    one_request(bob).children[2].click()
    with pytest.raises(P2PLabError, match="bob does not want to meet"):
        alice.wait()
    assert ">The peer bob does not want to meet<" in alice.controls.text_alert.value
    assert alice.controls.text.value == "may I?"


def test_who_waits_for_a_consent_is_told_so_until_the_answer_comes(
    pair: tuple[PeerPanel, PeerPanel],
) -> None:
    alice, bob = pair
    bob.set(accept="ask")
    alice.send_text("may I?").send_picture()
    eventually(lambda: bob.peer and len(bob.peer.requests) == 2, "both ask")
    assert alice.view.flush()
    told = alice.controls.attempts, alice.controls.progress
    assert alice.peer
    latest = max(until for _, until in alice.peer.meetings.doorman.asking.values())
    end = time.localtime(time.time() + latest - time.monotonic())
    words = f"Waiting for bob to agree to meet you, until {time.strftime('%X', end)} …"
    assert [each.value for each in told] == [words] * 2
    one_request(bob).children[2].click()
    with pytest.raises(P2PLabError, match="bob does not want to meet"):
        alice.wait()
    assert alice.view.flush()
    assert [each.value for each in told] == ["", ""]


def test_who_asks_twice_stands_there_once_and_one_click_answers_both(
    pair: tuple[PeerPanel, PeerPanel],
) -> None:
    alice, bob = pair
    bob.set(accept="ask")
    alice.send_text("may I?").send_picture()
    eventually(lambda: bob.peer and len(bob.peer.requests) == 2, "both ask")
    assert bob.view.flush()
    one_request(bob).children[1].click()
    alice.wait()
    assert "may I?" in inbox_of(bob)
    assert alice.transfer is not None
    assert alice.transfer.state is State.DONE


def test_who_asked_and_has_left_goes_from_the_panel(
    lab: p2plab.Lab, pair: tuple[PeerPanel, PeerPanel]
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


def test_who_closes_the_panel_while_it_asks_goes_from_the_others_panel(
    pair: tuple[PeerPanel, PeerPanel],
) -> None:
    alice, bob = pair
    bob.set(accept="ask")
    alice.send_text("may I?")
    one_request(bob)
    alice.close()
    eventually(lambda: bob.peer and not bob.peer.requests, "alice withdraws")
    assert bob.view.flush()
    assert bob.requests.box.children == ()


def test_who_asked_long_ago_may_have_stopped_waiting_and_the_panel_says_so() -> None:
    request = Request("alice", "00c0ffee00c0ffee", lambda *told: None, asked_at=100.0)
    assert in_words_of(request, 110.0) == "<b>alice</b> wants to meet you."
    assert "3 min ago, and may have stopped waiting" in in_words_of(request, 280.0)


def test_a_request_with_html_in_its_name_stays_text(
    pair: tuple[PeerPanel, PeerPanel],
) -> None:
    _, bob = pair
    bob.requests.draw([Request(EVIL, "00c0ffee00c0ffee", lambda *told: None)])
    words = one_request(bob).children[0].value
    assert "onerror" in words
    assert EVIL not in words


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


def test_an_illegal_name_is_refused_in_words(lab: p2plab.Lab) -> None:
    panel = PeerPanel(lab, EVIL)
    panel.register()
    with pytest.raises(ValueError, match="name"):
        panel.wait()
    assert 'role="alert"' in panel.alert.value
    assert EVIL not in panel.alert.value
    panel.close()


def test_a_text_to_a_dead_peer_stays_in_its_box(
    pair: tuple[PeerPanel, PeerPanel],
) -> None:
    alice, bob = pair
    assert bob.peer is not None
    bob.peer.texts.stop()
    alice.set(timeout=0.1, tries=2).send_text("precious")
    with pytest.raises(NotDelivered):
        alice.wait()
    assert alice.controls.text.value == "precious"
    assert not alice.controls.text.disabled
    assert "still in its box" in alice.note.value
    assert "nobody answers" in alice.controls.attempts.value


def test_a_peer_that_has_left_stays_chosen_and_is_marked(
    pair: tuple[PeerPanel, PeerPanel],
) -> None:
    alice, bob = pair
    bob.leave().wait()
    alice.refresh().wait()
    assert alice.controls.peers.options == (("bob (gone)", "bob"),)
    alice.send_text("hello?")
    with pytest.raises(P2PLabError, match="No peer of this name"):
        alice.wait()
    assert 'role="alert"' in alice.controls.text_alert.value


def test_a_rendezvous_that_is_away_is_told_in_the_status(
    pair: tuple[PeerPanel, PeerPanel], lab: p2plab.Lab
) -> None:
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


def test_a_refused_attempt_takes_the_old_result_away(
    pair: tuple[PeerPanel, PeerPanel],
) -> None:
    alice, _ = pair
    it = alice.controls
    alice.send_text("hello").send_picture().wait()
    assert "ACK" in it.attempts.value
    assert "11 of 11" in it.progress.value
    it.peers.value = None
    it.text.value = "not sent"
    it.buttons["send-text"].click()
    assert "Choose a peer first" in it.text_alert.value
    assert it.attempts.value == ""
    assert it.text.value == "not sent"
    it.buttons["send-picture"].click()
    assert alice.view.flush()
    assert "Choose a peer first" in it.picture_alert.value
    assert it.progress.value == ""


def test_who_leaves_takes_the_results_along(pair: tuple[PeerPanel, PeerPanel]) -> None:
    alice, _ = pair
    it = alice.controls
    alice.send_text("hello").send_picture().wait()
    it.buttons["leave"].click()
    alice.wait()
    assert it.attempts.value == it.progress.value == ""
    alice.register().wait()
    assert it.attempts.value == it.progress.value == ""
    assert "Registered as alice" in alice.status.value


def test_a_double_click_sends_one_text_and_one_picture(
    pair: tuple[PeerPanel, PeerPanel],
) -> None:
    alice, bob = pair
    bob.set(ack_delay=0.2)
    alice.set(text="once", delay=0.05)
    for name in ("send-text", "send-text", "send-picture", "send-picture"):
        alice.controls.buttons[name].click()
    alice.wait()
    assert bob.peer is not None
    assert len(bob.peer.inbox) == 2
    assert alice.controls.text_alert.value == alice.controls.picture_alert.value == ""


def test_the_ack_knobs_turn_while_the_peer_runs(
    pair: tuple[PeerPanel, PeerPanel],
) -> None:
    _, bob = pair
    assert bob.peer is not None
    bob.controls.ack_delay.slider.value = 3.0
    bob.controls.ack_loss.number.value = 50
    assert (bob.peer.texts.ack_delay, bob.peer.texts.ack_loss) == (3.0, 0.5)


def test_running_a_peers_cell_again_frees_its_name(lab: p2plab.Lab) -> None:
    old = PeerPanel(lab, "alice").register()
    old.wait()
    new = PeerPanel(lab, "alice").register()
    new.wait()
    assert old.closed
    assert new.peer is not None
    assert new.peer.name == "alice"
    new.close()


def test_closed_panels_of_peers_leave_no_thread_behind(lab: p2plab.Lab) -> None:
    before = set(threading.enumerate())
    panel = PeerPanel(lab, "alice").register()
    panel.wait()
    panel.close()
    for thread in set(view_threads()) - before:
        thread.join(SOON)
        assert not thread.is_alive(), thread
