"""Figures, looked at through what is drawn on them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from time import perf_counter

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch
from matplotlib.text import Text
from PIL import Image

from p2plab import plots
from p2plab.content.chunks import NOT_YET, VERMILION
from p2plab.content.sample import sample_picture
from p2plab.content.transfer import simulate_picture
from p2plab.core.link import ARRIVE, AnyLink, Link, ScriptedLink
from p2plab.core.meeting import Seen
from p2plab.core.packet import HEADER_SIZE, Kind
from p2plab.core.trace import OTHER, RECEIVER, SEND, SENDER, Row, Trace
from p2plab.measure.experiments import sweep
from p2plab.measure.metrics import summarise, transmissions
from p2plab.plots import style
from p2plab.plots.ladder import numbers
from p2plab.protocols import Setup
from p2plab.sim.simulator import simulate

Figure = Callable[[Trace, Axes | None], Axes]
FIGURES: list[Figure] = [
    plots.ladder,
    plots.over_time,
    plots.window_over_time,
    plots.rtt,
]
GO_BACK_4 = Setup("go_back_n", window=4, timeout=0.25)


def run(setup: Setup, link: AnyLink, count: int = 10) -> Trace:
    payloads = [bytes([i % 256]) * 1000 for i in range(count)]
    return simulate(setup.sender(), setup.receiver(), payloads, link).trace


def seen_by(host: str, trace: Trace) -> Trace:
    rows = [row for row in trace.rows if row[1] == host]
    return Trace(trace.about, {host: trace.names[host]}, rows, [])


@pytest.fixture
def ax() -> Axes:
    return plots.blank()


@pytest.fixture(autouse=True)
def _no_figure_is_left_open() -> Iterator[None]:
    yield
    pyplot.close("all")


def arrows(ax: Axes) -> list[FancyArrowPatch]:
    return [each for each in ax.patches if isinstance(each, FancyArrowPatch)]


def corners(ax: Axes, arrow: FancyArrowPatch) -> list[float]:
    """Return left, upper, right and lower of an arrow: places and seconds."""
    box = arrow.get_window_extent().transformed(ax.transData.inverted())
    return [box.xmin, box.ymin, box.xmax, box.ymax]


def words(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts]


def line(ax: Axes, start_of_label: str) -> Line2D:
    labels = [str(each.get_label()) for each in ax.lines]
    [index] = [i for i, label in enumerate(labels) if label.startswith(start_of_label)]
    return ax.lines[index]


def draw(ax: Axes) -> None:
    """Render it: warnings, such as of missing glyphs, are errors here."""
    assert plots.to_html(ax)


# The ladder


def test_a_ladder_has_an_arrow_with_its_look_for_every_transmission(ax: Axes) -> None:
    trace = run(GO_BACK_4, ScriptedLink(lose=(4,)), 10)
    plots.ladder(trace, ax, names=("Alice", "Bob"))
    assert [each.get_text() for each in ax.get_xticklabels()] == ["Alice", "Bob"]
    assert len(arrows(ax)) == len(transmissions(trace)) == 29
    kinds = Counter(arrow.get_gid() for arrow in arrows(ax))
    assert kinds == {"DATA": 9, "sent again": 4, "lost": 1, "ACK": 14, "FIN": 1}
    looks = {
        str(arrow.get_gid()): (to_hex(arrow.get_edgecolor()), arrow.get_linestyle())
        for arrow in arrows(ax)
    }
    assert looks["DATA"][0] == style.DATA_COLOUR.lower()
    assert looks["lost"][0] == style.LOSS_COLOUR.lower()
    assert len({*looks.values()}) == len(looks), "by colour or line, each is told apart"
    markers = [each.get_marker() for each in ax.lines]
    assert {style.LOSS_MARK["marker"], style.TIMEOUT_MARK["marker"]} <= {*markers}
    labels = {"DATA 0–2", "DATA 3", "timeout", "DATA 3–6 again", "ACK 2 ×3", "FIN 10"}
    assert labels <= {*words(ax)}


def test_time_runs_down_a_ladder_and_arrows_end_when_packets_arrive(ax: Axes) -> None:
    plots.ladder(run(Setup("stop_and_wait", timeout=0.25), Link(delay=0.05), 2), ax)
    low, high = ax.get_ylim()
    assert low > high
    first, answer, *rest = [corners(ax, arrow) for arrow in arrows(ax)]
    assert first == pytest.approx([0.0, 0.0, 1.0, 0.05], abs=0.02)
    assert answer == pytest.approx([0.0, 0.05, 1.0, 0.10], abs=0.02)
    assert len(rest) == 4


def test_packets_of_one_moment_and_without_delay_do_not_hide_each_other() -> None:
    late = ScriptedLink(delay=0.0, lose_back=(1,))
    for trace, count in (
        (run(Setup(window=8, timeout=0.3), Link(), 8), 18),
        (run(Setup("stop_and_wait", timeout=0.25), late, 3), 10),
    ):
        ax = plots.ladder(trace, plots.blank())
        starts = {round(corners(ax, arrow)[1], 4) for arrow in arrows(ax)}
        assert len(starts) == len(arrows(ax)) == count


def test_an_offer_and_what_accepts_it_differ_in_colour_line_and_place(ax: Axes) -> None:
    """They do not meet the link's delay, so they are level among slanted arrows."""
    trace = run(GO_BACK_4, ScriptedLink(), 4)
    later = [row._replace(time=row.time + 0.001) for row in trace.rows]
    rows = [
        Row(
            at + way * 1e-4,
            OTHER[host] if way else host,
            what,
            kind,
            0,
            40,
            100 + kind,
        )
        for at, host, kind in ((0.0, SENDER, Kind.OFFER), (2e-4, RECEIVER, Kind.ACCEPT))
        for way, what in enumerate((SEND, ARRIVE))
    ] + later
    plots.ladder(Trace(trace.about, trace.names, rows), ax)
    drawn = {str(each.get_gid()): each for each in reversed(arrows(ax))}
    offer, accept, first = drawn["OFFER"], drawn["ACCEPT"], drawn["DATA"]
    assert to_hex(offer.get_edgecolor()) != to_hex(accept.get_edgecolor())
    assert offer.get_linestyle() != accept.get_linestyle()
    heights = [corners(ax, each)[1] for each in (offer, accept, first)]
    assert np.diff(heights).min() >= 0.002  # not 0.0002 s: one would hide the other


def test_a_delivery_is_marked_where_its_arrow_ends(ax: Axes) -> None:
    plots.ladder(run(Setup("stop_and_wait"), ScriptedLink(delay=0.0), 3), ax)
    marks = next(each for each in ax.lines if each.get_marker() == "<").get_ydata()
    ends = [corners(ax, arrow)[3] for arrow in arrows(ax) if arrow.get_gid() == "DATA"]
    assert list(np.asarray(marks)) == pytest.approx(ends, abs=1e-6)


def test_no_label_of_a_ladder_stands_below_it(ax: Axes) -> None:
    plots.ladder(run(Setup("stop_and_wait", timeout=0.1), Link(loss=0.3), 30), ax)
    lowest = max(text.get_position()[1] for text in ax.texts)
    assert lowest < max(ax.get_ylim())
    assert "labels had no room" in ax.get_xlabel()


def test_ladders_stand_side_by_side_under_their_names() -> None:
    traces = {
        name: run(Setup(name, window=4, timeout=0.25), ScriptedLink(lose=(3,)), 8)
        for name in ("go_back_n", "selective_repeat")
    }
    axes = plots.ladders(traces)
    assert [ax.get_title() for ax in axes] == list(traces)
    assert "selective_repeat: Ladder diagram from 0" in plots.alt_text(axes[0])
    with pytest.raises(ValueError, match="at least one"):
        plots.ladders({})


def test_ladders_have_one_time_scale_so_that_the_longer_run_looks_longer() -> None:
    traces = {
        name: run(Setup(name, window=4, timeout=0.15), ScriptedLink(lose=(3,)), 8)
        for name in ("stop_and_wait", "go_back_n", "selective_repeat")
    }
    axes = plots.ladders(traces)
    assert len({ax.get_ylim() for ax in axes}) == 1
    slow, *others = [max(corners(ax, each)[3] for each in arrows(ax)) for ax in axes]
    assert max(others) < 0.6 * slow
    ends = ["1050 ms", "550 ms", "450 ms"]
    for end, ax in zip(ends, axes, strict=True):
        assert f"to {end}" in str(ax.get_label())


def test_a_long_trace_is_drawn_in_part_and_says_so(ax: Axes) -> None:
    trace = run(Setup(window=8), Link(loss=0.1), 500)
    plots.ladder(trace, ax)
    assert len(arrows(ax)) == 40
    total = f"{len(transmissions(trace)):,}"
    assert f"The first 40 of {total} packets" in ax.get_xlabel()
    assert "ladder(trace, start=SECONDS) draws later ones" in ax.get_xlabel()
    assert "The first 40" in plots.alt_text(ax)
    burst = plots.ladder(run(Setup("best_effort"), Link(), 60), plots.blank())
    assert len(arrows(burst)) == 16
    later = plots.ladder(trace, plots.blank(), start=5.0, max_arrows=7)
    assert len(arrows(later)) == 7
    assert min(later.get_ylim()) > 4.9


def test_damage_and_a_full_queue_have_marks_of_their_own(ax: Axes) -> None:
    plots.ladder(
        run(Setup("stop_and_wait", timeout=0.2), ScriptedLink(corrupt=(1,))), ax
    )
    legend = ax.get_legend()
    assert legend is not None
    assert "damaged" in [text.get_text() for text in legend.get_texts()]
    full = plots.ladder(
        run(Setup(window=8, timeout=1.0), Link(rate=1e5, queue=3), 8), plots.blank()
    )
    assert Counter(arrow.get_gid() for arrow in arrows(full))["queue full"] == 4


def test_half_a_trace_gives_half_a_ladder(ax: Axes) -> None:
    trace = run(GO_BACK_4, ScriptedLink(lose=(2,)), 6)
    for host in (SENDER, RECEIVER):
        half = plots.ladder(seen_by(host, trace), plots.blank())
        assert "fate unknown" in {arrow.get_gid() for arrow in arrows(half)}
        draw(half)


@pytest.mark.parametrize(
    ("seqs", "text"),
    [
        ([4], "4"),
        ([0, 1, 2], "0–2"),
        ([2, 2, 2], "2 ×3"),
        ([0, 1, 3, 7], "0–1, 3, 7"),
        ([10, 20, 30, 40, 50, 60], "10, 20, 30, 40, …"),
        ([100000, 200000, 300000], "100000, 200000, …"),
    ],
)
def test_sequence_numbers_are_written_shortly(seqs: list[int], text: str) -> None:
    assert numbers(seqs) == text


# Curves


@pytest.mark.parametrize("protocol", ["selective_repeat", "best_effort"])
def test_over_time_ends_with_the_numbers_of_the_summary(
    ax: Axes, protocol: str
) -> None:
    trace = run(Setup(protocol, 8), Link(loss=0.2, duplicate=0.2, seed=1), 60)
    plots.over_time(trace, ax)
    summary = summarise(trace)
    for label, count in (
        ("sent:", summary.sent),
        ("sent again", summary.retransmitted),
        ("lost", summary.lost_data),
        ("delivered", summary.delivered),
    ):
        assert np.asarray(line(ax, label).get_ydata())[-1] == count
        assert f"{label.rstrip(':')}: {count}" in plots.alt_text(ax)
    assert line(ax, "sent:").get_color() == style.DATA_COLOUR
    assert line(ax, "sent again").get_linestyle() == "--"
    assert f"timeouts: {summary.timeouts}" in plots.alt_text(ax)


def test_the_window_shows_how_go_back_n_goes_back(ax: Axes) -> None:
    plots.window_over_time(run(GO_BACK_4, ScriptedLink(lose=(4,)), 10), ax)
    times, packets = line(ax, "sent again").get_data()
    assert list(np.asarray(packets)) == [3, 4, 5, 6]
    assert list(np.asarray(times)) == pytest.approx([350.0] * 4)  # [ms]
    base = np.asarray(line(ax, "oldest not").get_ydata())
    assert min(np.diff(base)) == 0
    assert max(np.asarray(line(ax, "next to send").get_ydata()) - base) == 4
    assert "at most 4" in plots.alt_text(ax)


def test_round_trips_of_packets_sent_twice_are_hollow(ax: Axes) -> None:
    trace = run(Setup("stop_and_wait"), ScriptedLink(lose=(3,)), 6)
    plots.rtt(trace, ax)
    assert len(np.asarray(line(ax, "round trip").get_ydata())) == 6  # the FIN's, too
    twice = line(ax, "sent again")
    assert (len(np.asarray(twice.get_ydata())), twice.get_fillstyle()) == (1, "none")
    assert line(ax, "RTO").get_color() == style.TIMEOUT_COLOUR
    assert np.asarray(line(ax, "SRTT").get_ydata())[0] == pytest.approx(100)  # ms


def test_goodput_has_points_and_a_dashed_curve_of_theory(ax: Axes) -> None:
    setups = [Setup("stop_and_wait", timeout=0.15), Setup("go_back_n", timeout=0.3)]
    plots.goodput_over_loss(sweep(setups, [0.0, 0.1, 0.2], [0, 1], count=30), ax)
    dashed = [each for each in ax.lines if each.get_linestyle() == "--"]
    points = [bars for bars in ax.containers if bars.get_label()]
    assert (len(dashed), len(points)) == (2, 2)
    assert "independent losses" in ax.get_xlabel()
    assert ax.get_ylabel() == "goodput [kbit/s]"
    assert "stop-and-wait, timeout 0.15 s: 7" in plots.alt_text(ax)
    draw(plots.goodput_over_loss([], plots.blank()))
    results = sweep([Setup("fast")], [0.0, 0.1], [0], count=30)  # it has no formula
    bound = line(plots.goodput_over_loss(results, plots.blank()), "the channel's bound")
    assert list(np.asarray(bound.get_ydata())[[0, -1]]) == pytest.approx(
        [share * 1000 * 1000 / (1000 + HEADER_SIZE) for share in (1.0, 0.9)]
    )


def test_packets_over_loss_has_the_least_that_is_possible(ax: Axes) -> None:
    results = sweep([Setup("fast", 64), Setup("go_back_n", 8)], [0.0, 0.2], [0])
    plots.packets_over_loss(results, ax)
    least = np.asarray(line(ax, "the least").get_ydata())
    assert (least[0], least[-1]) == (1.0, 1.25)
    sent = results[0].summary.sent or 0
    assert sent > 200  # without a loss, too: the tail
    assert f"fast, window 64: {sent / 200:.3g} at 0 %" in plots.alt_text(ax)
    draw(ax)
    draw(plots.packets_over_loss([], plots.blank()))


def test_the_table_of_a_sweep_has_a_row_for_each_loss_and_both_figures_numbers() -> (
    None
):
    results = sweep([Setup("stop_and_wait", timeout=0.15)], [0.0, 0.2], [0], count=30)
    page = str(plots.loss_table(results))
    assert page.count("<tr>") == 3
    assert page.count(">stop-and-wait, timeout 0.15 s: ") == 2
    first = results[0].summary
    assert f">{(first.goodput or 0) / 1e3:.4g}</td>" in page
    assert str(plots.loss_table([])).count("<tr>") == 1


def test_a_chart_has_points_over_curves_and_says_where_they_end(ax: Axes) -> None:
    points = {"measured": ([0.0, 2.0, 4.0], [0.0, 0.2, 0.4]), "fast": ([1.0], [1.0])}
    curves = {"theory": ([1.0, 4.0], [0.1, 0.5])}
    plots.chart("window [packets]", "utilisation", points, curves, ax)
    assert [each.get_label() for each in ax.lines] == ["theory", "measured", "fast"]
    assert (ax.get_ylim()[0], line(ax, "measured").get_clip_on()) == (0, False)
    assert line(ax, "fast").get_color() == style.PROTOCOL_LOOKS["fast"][1]
    assert "measured: 0 at 0 to 0.4 at 4." in plots.alt_text(ax)
    draw(ax)
    log = plots.chart("a", "U", {"one": ([0.1], [1.0])}, log=True)
    assert "one: nothing" in plots.alt_text(plots.chart("a", "U", {"one": ([], [])}))
    assert (log.get_xscale(), log.get_yscale()) == ("log", "log")
    looks = style.PROTOCOL_LOOKS.values()
    assert len({marker for _, _, marker in looks}) == len(looks)


# All of them


@pytest.mark.parametrize("figure", FIGURES)
def test_a_figure_has_words_units_and_whole_packets_of_any_run(figure: Figure) -> None:
    traces = {
        name: run(Setup(name, 8), Link(loss=0.2, jitter=0.1))
        for name in ("best_effort", "stop_and_wait", "selective_repeat")
    }
    long = run(Setup(window=64), Link(loss=0.1, rate=1e7), 5000)
    for trace in (Trace(), *traces.values(), long):
        ax = figure(trace, plots.blank())
        began = perf_counter()
        draw(ax)
        assert perf_counter() - began < 5  # it takes a quarter of a second
        assert plots.alt_text(ax)
        assert re.search(r"\[m?s\]", ax.get_xlabel() + ax.get_ylabel())
        assert ("nothing to see yet" in words(ax)) == (len(trace) == 0)
        if len(trace) and "packet" in ax.get_ylabel():
            assert all(tick == int(tick) for tick in ax.get_yticks())


def test_pyplot_is_loaded_only_when_a_figure_needs_it() -> None:
    code = (
        "import sys, p2plab.plots as plots; from p2plab.core.trace import Trace\n"
        "plots.to_html(plots.ladder(Trace(), plots.blank()))\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "False"


def test_an_alt_text_and_a_table_are_escaped(ax: Axes) -> None:
    style.say(ax, 'a "sharp" <figure>')
    page = plots.to_html(ax)
    assert page.startswith('<img alt="a &quot;sharp&quot; &lt;figure&gt;"')
    summary = summarise(run(GO_BACK_4, ScriptedLink(lose=(4,)), 10))
    page = plots.table(summary)
    assert ">DATA packets sent [packets]</th>" in page
    assert page.count("<tr>") == len(summary.rows())
    page = plots.table({"one": summary, "<two>": summary})
    assert '<th scope="col">&lt;two&gt;</th>' in page
    assert page.count(">14</td>") >= 2


def test_showing_a_figure_closes_it_so_that_it_is_not_shown_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    displayed: list[object] = []
    monkeypatch.setattr("IPython.display.display", displayed.append)
    ax = plots.ladder(run(GO_BACK_4, Link()))
    assert pyplot.get_fignums() == [1]
    plots.show(ax)
    assert pyplot.get_fignums() == []
    assert "<img alt=" in str(getattr(displayed[0], "data", ""))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "CMYK", "I;16", "I", "F"])
def test_pictures_of_every_mode_are_drawn(mode: str, ax: Axes) -> None:
    plots.picture(Image.new(mode, (8, 6)), ax)
    assert "8 by 6 pixels" in plots.alt_text(ax)
    draw(ax)


def test_a_transfer_is_drawn_as_it_was_received(ax: Axes) -> None:
    link = ScriptedLink(lose=(3,))
    transfer = simulate_picture(sample_picture(64), Setup("best_effort"), link)
    plots.picture(transfer, ax)
    count = transfer.offer.content.count
    assert ax.get_title() == f"received: 1 of {count} packets lost"
    plots.show(axes := plots.gallery({"lossy": transfer}))
    assert axes[0].get_title() == f"lossy\n1 of {count} packets lost"
    whole = simulate_picture(sample_picture(64))
    assert plots.picture(whole, plots.blank()).get_title() == "received: complete"
    with pytest.raises(ValueError, match="at least one"):
        plots.gallery({})


def test_what_is_lost_and_what_has_not_come_yet_are_told_apart_at_any_moment() -> None:
    link = ScriptedLink(lose={1}, corrupt={2}, late={3: 0.1}, link=Link(rate=10e6))
    transfer = simulate_picture(sample_picture(64), Setup("best_effort"), link)
    moments = {0.0: "1 of 11 packets lost, 10 not come yet"}
    moments[0.1] = "1 of 11 packets damaged, 1 lost, 1 not come yet"
    moments[1.0] = "1 of 11 packets damaged, 1 lost"
    drawn = {at: plots.picture(transfer, plots.blank(), at=at) for at in moments}
    assert {at: ax.get_title() for at, ax in drawn.items()} == {
        at: f"received: {words}" for at, words in moments.items()
    }
    pixels = np.array(drawn[0.1].images[0].get_array()).reshape(-1, 3)
    size = transfer.offer.content.chunk_size // 3  # pixels of a packet
    lost, damaged, late = (pixels[n * size : (n + 1) * size] for n in range(3))
    for harmed in (lost, damaged):
        assert {*map(tuple, harmed.tolist())} == {(0, 0, 0), VERMILION}
    assert {*map(tuple, late.tolist())} == {NOT_YET}


# A meeting

TO_BOB, TO_ALICE = "192.168.1.8:5000", "192.168.1.7:5000"
MEETING = [
    Seen(100.0, "register", "", "alice"),
    Seen(103.0, "introduce", "bob", "alice"),
    Seen(103.001, "asked"),
    Seen(103.002, "asked", "alice", "bob"),
    Seen(103.003, "accept", "", "bob"),
    Seen(103.0025, "met"),  # its clock has whole milliseconds
    Seen(103.004, "met", "alice", "bob"),
    Seen(103.005, "met", "bob", "alice"),
    Seen(103.05, "probe", f"{TO_BOB} #71", "alice"),
    Seen(103.051, "probe", f"{TO_ALICE} #72", "bob"),  # is lost
    Seen(103.052, "hear", f"{TO_ALICE} #71", "bob"),
    Seen(103.052, "answer", f"{TO_ALICE} #71", "bob"),
    Seen(103.054, "confirm", f"{TO_BOB} #71", "alice"),
    Seen(103.054, "choose", TO_BOB, "alice"),
]


def test_a_meeting_has_three_lifelines_and_names_the_path(ax: Axes) -> None:
    plots.meeting(MEETING, ax)
    names = [each.get_text() for each in ax.get_xticklabels()]
    assert names == ["alice (caller)", "rendezvous", "bob (callee)"]
    assert f"path: {TO_BOB}" in words(ax)
    assert f"probe 0 to {TO_BOB}" in words(ax)
    assert {"probe 0 arrives", "answers 0", "answer to 0"} <= {*words(ax)}
    assert Counter(str(each.get_gid()) for each in arrows(ax)) == {
        "HTTP": 6,
        "probe": 1,
        "lost": 1,
        "answer": 1,
    }
    for arrow in arrows(ax):
        start, end = arrow._posA_posB  # type: ignore[attr-defined]
        assert end[1] >= start[1], "it would go back in time"
    alt = plots.alt_text(ax)
    assert "2 probes, 1 lost. alice chose 192.168.1.8:5000" in alt
    draw(ax)


def test_the_table_of_a_meeting_calls_a_probe_as_the_figure_does() -> None:
    page = plots.meeting_table(MEETING)
    assert page.count(f">{TO_ALICE}, probe 0</td>") == 2  # heard, and answered
    assert page.count(f">{TO_ALICE}, probe 1</td>") == 1
    assert "#7" not in page


def test_the_labels_of_a_meeting_do_not_hide_each_other() -> None:
    ax = plots.meeting(MEETING)
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in ax.texts]
    boxes += [text.get_window_extent() for text in ax.get_yticklabels()]
    for place, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[place + 1 :])


def test_half_a_meeting_says_what_nobody_knows(ax: Axes) -> None:
    plots.meeting([each for each in MEETING if each.who == "alice"], ax)
    assert not [each for each in arrows(ax) if each.get_gid() == "lost"]
    assert "0 lost" in plots.alt_text(ax)
    draw(ax)


def test_a_meeting_without_a_path_leaves_probes_out_and_says_so(ax: Axes) -> None:
    tries = [Seen(103.1 + n, "probe", f"{TO_BOB} #{n}", "alice") for n in range(90)]
    plots.meeting([*MEETING[:8], *tries, Seen(200.0, "fail", "", "alice")], ax)
    assert "no path" in words(ax)
    assert "probes are left out" in ax.get_xlabel()
    assert "alice found no path" in plots.alt_text(ax)
    draw(ax)
    assert "nothing to see yet" in words(plots.meeting([], plots.blank()))


def test_what_others_wrote_stays_text_in_a_meeting(ax: Axes) -> None:
    evil = "<b>$x$\n"
    rows = [*MEETING, Seen(104.0, evil, evil, "bob")]
    plots.meeting(rows, ax)
    assert "<b>$x$? <b>$x$" in words(ax)
    page = plots.meeting_table(rows)
    assert "<b>" not in page
    assert page.count("<tr>") == 1 + len(rows)
    assert re.search(r"54\.00</th><td[^>]*>alice</td><td[^>]*>choose</td>", page)
    draw(ax)


@pytest.mark.parametrize("look", ["default", "dark_background"])
def test_whatever_the_style_nothing_is_drawn_in_the_colour_of_the_ground(
    look: str,
) -> None:
    link = Link(delay=0.02, loss=0.2, corrupt=0.1, duplicate=0.1, rate=1e6, seed=1)
    setup = Setup("go_back_n", window=4)
    trace = simulate_picture(sample_picture(64), setup, link).trace
    with pyplot.style.context(look):
        for draw in (plots.ladder, plots.over_time, plots.window_over_time, plots.rtt):
            ax = draw(trace)
            ground = np.array(to_rgb(ax.figure.get_facecolor()))
            for each in ax.findobj(Line2D) + ax.findobj(Text):
                colour = each.get_color()
                if isinstance(each, Text) and not each.get_text():
                    continue
                apart = np.abs(np.array(to_rgb(colour)) - ground).max()
                assert apart > 0.2, each
            pyplot.close("all")
