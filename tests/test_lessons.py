"""Every notebook runs from top to bottom, unattended, and its checks tell why."""

from __future__ import annotations

import ast
import html
import inspect
import math
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from browser import ROOT, copy_of_the_notebooks
from nbclient import NotebookClient

import p2plab
from p2plab.checker import CHANNELS
from p2plab.core import packet
from p2plab.core.packet import ACK
from p2plab.protocols.go_back_n import GoBackNSender
from p2plab.protocols.stop_and_wait import StopAndWaitSender
from p2plab.ui.lesson import predict, show

NOTEBOOKS = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
LIMIT = 60.0  # seconds for a whole notebook

UNRELIABLE = "02-pictures-over-an-unreliable-link.ipynb"
OWN = "05-your-own-protocol.ipynb"
RACE = "06-arq-against-a-fountain.ipynb"

# For each check of a notebook, in its order: a right prediction, a wrong one, and the
# right one in other spellings.
PREDICTIONS: dict[str, list[tuple[str, ...]]] = {
    "00-start-here.ipynb": [
        ("packets.answer = summary.sent + 5", "packets.answer = summary.sent - 30"),
        (
            "attempts.answer = delivery.attempts",
            "attempts.answer = delivery.attempts - 1",
        ),
    ],
    "01-rendezvous-and-text.ipynb": [
        ("status.answer = 409", "status.answer = 200"),
        ("probes.answer = 0", "probes.answer = 2"),
        ("late_ack.answer = (delivery.attempts, 1)", "late_ack.answer = (9, 3)"),
        (
            "without.answer = {'register grace': False, 'list the peers': False, "
            "'text to bob': True}",
            "without.answer = {what: not worked for what, worked in seen.items()}",
        ),
    ],
    UNRELIABLE: [
        ("few_or_many.answer = 8", "few_or_many.answer = 40"),
        (
            "filled_gaps.answer = {'loses': 'none', 'delays': 'all'}",
            "filled_gaps.answer = {'loses': 'some', 'delays': 'none'}",
            "filled_gaps.answer = ('None ', ['ALL'])",
        ),
        ("with_holes.answer = 'corrupt'", "with_holes.answer = 'duplicate'"),
        (
            "links.answer = {'larger mean': 'same', 'varies more': 'bursts'}",
            "links.answer = {'larger mean': 'coin', 'varies more': 'coin'}",
            "links.answer = (' Same', ['BURSTS'])",
        ),
        (
            "easiest.answer = 'interleaved'",
            "easiest.answer = 'rows'",
            "easiest.answer = ' Interleaved'",
        ),
    ],
    "03-stop-and-wait.ipynb": [
        (
            "packets.answer = {'data lost': 5, 'ACK lost': 5, 'deliveries': 1}",
            "packets.answer = {'data lost': 7, 'ACK lost': 7, 'deliveries': 2}",
        ),
        (
            "timeouts.answer = {'fastest': 0.06, 'most packets': 0.06}",
            "timeouts.answer = {'fastest': 1.0, 'most packets': 60}",
        ),
        (
            "gigabit.answer = {'share': 0.0003, 'throughput': 300e3}",
            "gigabit.answer = {'share': 0.3, 'throughput': 300e6}",
        ),
        (
            "late_packet.answer = 'ABAD'",
            "late_packet.answer = 'ABCD'",
            "late_packet.answer = 'abad'",
            "late_packet.answer = ['ABAD']",
        ),
    ],
    "04-pipelining.ipynb": [
        (
            "packets.answer = "
            "{'stop_and_wait': 9, 'go_back_n': 12, 'selective_repeat': 9}",
            "packets.answer = "
            "{'stop_and_wait': 8, 'go_back_n': 9, 'selective_repeat': 12}",
        ),
        ("window.answer = 14", "window.answer = 12"),
        (
            "share.answer = {'go_back_n': 0.3, 'selective_repeat': 0.5}",
            "share.answer = {'go_back_n': 0.6, 'selective_repeat': 0.95}",
        ),
        (
            "largest.answer = {'go_back_n': 3, 'selective_repeat': 2}",
            "largest.answer = {'go_back_n': 4, 'selective_repeat': 3}",
        ),
        ("seconds.answer = 700", "seconds.answer = 20"),
    ],
    OWN: [
        (
            "lost.answer = 'data'",
            "lost.answer = 'ACK'",
            "lost.answer = 'Data'",
            "lost.answer = ['data']",
        ),
        (
            "breaks_in.answer = {'late'}",
            "breaks_in.answer = {'dup', 'late'}",
            "breaks_in.answer = 'Late'",
            "breaks_in.answer = ['late']",
        ),
        ("fewest.answer = 2", "fewest.answer = 1"),
    ],
    RACE: [
        ("fewest.answer = 250", "fewest.answer = 200"),
        ("how_many.answer = 4", "how_many.answer = 2"),
        ("equations.answer = 5", "equations.answer = 12"),
        (
            "used.answer = {'selective_repeat': 0.3, 'fast': 0.9}",
            "used.answer = {'selective_repeat': 0.8, 'fast': 0.5}",
        ),
        (
            "last.answer = 'fountain'",
            "last.answer = 'fast'",
            "last.answer = 'Fountain '",
        ),
    ],
    "07-one-file-many-peers.ipynb": [
        ("seconds.answer = 1.6", "seconds.answer = 12"),
        ("times.answer = 7", "times.answer = 2"),
        ("slower.answer = measured[2] / measured[0]", "slower.answer = 40"),
    ],
}

# What a student of lesson 05 runs before a cell: files with solutions, and cells.
WRITTEN = {"05-05": ["1"], "05-16": ["2", "05-10"], "05-name": ["3", "05-10"]}

YET = re.compile(r"\bno prediction yet\b")
CHECK = ".compare("
VALUE = re.compile(r"[a-z]+\.[a-z]+ - \d+|\b(?:\d[\d.e]*|True|False)\b")
SEVERAL = re.compile(r" = \{.*:.*")
PRAISE = re.compile(r"right\b|good\b|close\b", re.IGNORECASE)
ABSURD = (0, -1, 1e9, "banana", None, (0, 5), [1, 2])


def within(seconds: float) -> Callable[[object], int]:
    """Return, for nbclient, how many seconds the next cell may take."""
    end = time.monotonic() + seconds
    return lambda cell: max(1, math.ceil(end - time.monotonic()))


def run(notebook: Path) -> nbformat.NotebookNode:
    """Run a notebook in a kernel of its own, and return it with its outputs."""
    client = NotebookClient(
        nbformat.read(notebook, as_version=4),
        timeout_func=within(LIMIT),
        kernel_name="python3",
        resources={"metadata": {"path": str(notebook.parent)}},
    )
    return client.execute()


@pytest.fixture(autouse=True)
def private_jupyter(
    jupyter_home: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let no test touch somebody's Jupyter."""
    for name, folder in jupyter_home.items():
        monkeypatch.setenv(name, folder)
    monkeypatch.delenv("MPLBACKEND", raising=False)  # a kernel draws inline


def solutions() -> dict[str, str]:
    """Return the solutions of lesson 05, by the number of their section."""
    files = (ROOT / "notebooks" / "solutions").glob("05-*.py")
    return {file.name[3]: file.read_text(encoding="utf-8") for file in files}


def absurdities(right: str) -> Iterator[tuple[str, str]]:
    """Give answers that are no answer, and which of any or all lines may not praise."""
    names, _, said = right.partition(" = ")
    several = names.split(", ")
    for odd in ABSURD:
        if ": " in said:
            wrong = {k: odd for k, v in ast.literal_eval(said).items() if v != odd}
            yield f"{names} = {wrong}", "any"
        if len(several) > 1:
            yield f"{names} = {', '.join([repr(odd)] * len(several))}", "any"
            for name in several:
                yield f"{right}\n{name} = {odd!r}", "all"
        elif said != repr(odd):
            yield f"{names} = {odd!r}", "any"


def rehearsed(notebook: Path) -> nbformat.NotebookNode:
    """Return the notebook, in which each check is asked again, each time with a tag.

    As it stands, without a prediction; then with right ones, a wrong and an odd one,
    with a plain number in place of a dictionary, and with absurd ones.
    """
    page: nbformat.NotebookNode = nbformat.read(notebook, as_version=4)
    predictions = iter(PREDICTIONS[notebook.name])
    sources = {cell.id: cell.source for cell in page.cells} | solutions()
    cells = []
    for cell in page.cells:
        for name in WRITTEN.get(cell.id, []):
            cells.append(nbformat.v4.new_code_cell(sources[name]))
        cells.append(cell)
        if cell.cell_type == "code" and CHECK in cell.source:
            right, wrong, *spellings = next(predictions)
            cell.metadata.tags = ["none"]
            answers = [(each, "right") for each in (right, *spellings)]
            answers += [(wrong, "wrong"), *absurdities(right)]
            if (odd := VALUE.sub("'many'", wrong)) != wrong:
                answers.append((odd, "odd"))
            if (plain := SEVERAL.sub(" = 7", wrong)) != wrong:
                answers.append((plain, "plain"))
            for answer, tag in answers:
                source, tags = f"{answer}\n{cell.source}", {"tags": [tag]}
                cells.append(nbformat.v4.new_code_cell(source, metadata=tags))
    assert not list(predictions), "there are fewer checks than predictions"
    page.cells = cells
    return page


def printed(cell: nbformat.NotebookNode) -> str:
    return "".join(output.get("text", "") for output in cell.outputs)


@pytest.mark.notebook
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_and_its_checks_tell_right_from_wrong_and_nonsense_and_why(
    name: str, tmp_path: Path
) -> None:
    copy = copy_of_the_notebooks(tmp_path / "notebooks") / name
    nbformat.write(rehearsed(copy), copy)
    checks = [cell for cell in run(copy).cells if cell.metadata.get("tags")]
    assert sum(cell.metadata.tags == ["none"] for cell in checks) == len(
        PREDICTIONS[name]
    )
    for cell in checks:
        (tag,), said = cell.metadata.tags, printed(cell)
        lines = said.splitlines()
        praised = [bool(PRAISE.search(line)) for line in lines]
        story = f"{cell.source}\n{said}"
        assert lines, f"{story}: every answer needs one"
        if tag == "right":
            assert all(praised), story
        elif tag == "all":
            assert not all(praised), story
        else:
            assert not any(praised), story
        if tag == "none":
            assert all(map(YET.search, lines)), story
        elif tag == "odd":
            assert "'many' cannot be compared here" in said, story
        elif tag == "plain":
            assert "7 cannot be compared here: write {'" in said, story
        if tag in ("odd", "plain"):
            assert YET.search(said), story


@pytest.mark.notebook
def test_an_empty_cell_is_met_kindly_and_the_solutions_may_be_left_out(
    tmp_path: Path,
) -> None:
    copy = copy_of_the_notebooks(tmp_path / "notebooks") / OWN
    shutil.rmtree(copy.parent / "solutions")
    cells = {cell.id: cell for cell in run(copy).cells}  # it raises for a traceback
    for name in ("05-12", "05-22"):
        assert printed(cells[name]).startswith("Not yet: ")
    assert "stop_and_wait: done" in printed(cells["05-41"])
    assert "Your instructor has left the folder solutions/ out" in printed(
        cells["05-55"]
    )


def test_each_solution_of_lesson_05_does_what_its_section_asks_for_and_no_more() -> (
    None
):
    survived = {}
    for section in "123":
        own: dict[str, Any] = {}
        exec(solutions()[section], own)
        pair = own["MySender"], own["MyReceiver"]
        verdicts = [p2plab.check(*pair, name, budget=0.3) for name in CHANNELS]
        survived[section] = {v.channel for v in verdicts if v.kind == "survived"}
        assert all(v.faults for v in verdicts if v.kind != "survived")
    assert survived == {"1": set(), "2": {*CHANNELS} - {"late"}, "3": {*CHANNELS}}
    call = solutions()["4"].splitlines()[-1]
    attempt = eval(call, {"p2plab": p2plab})
    assert attempt.broken
    assert attempt.used == attempt.par


@pytest.mark.notebook
def test_the_table_of_runs_over_a_link_with_a_rate_tells_its_utilisation(
    tmp_path: Path,
) -> None:
    page = nbformat.read(ROOT / "notebooks" / UNRELIABLE, as_version=4)
    last = next(n for n, cell in enumerate(page.cells) if "plots.table(" in cell.source)
    page.cells = page.cells[: last + 1]
    nbformat.write(page, tmp_path / UNRELIABLE)
    (output,) = run(tmp_path / UNRELIABLE).cells[-1].outputs
    table = output["data"]["text/html"]
    (row,) = re.findall(r"utilisation of the link.*?</tr>", table)
    assert len(re.findall(r">0\.\d+<", row)) == 2


@pytest.mark.notebook
def test_the_race_goes_on_without_a_fountain(tmp_path: Path) -> None:
    page = nbformat.read(ROOT / "notebooks" / RACE, as_version=4)
    absent = "import sys\nsys.modules['raptorq'] = None  # as if it were not installed"
    page.cells.insert(0, nbformat.v4.new_code_cell(absent))
    nbformat.write(page, tmp_path / RACE)
    cells = [cell for cell in run(tmp_path / RACE).cells if cell.cell_type == "code"]
    said = "".join(map(printed, cells))
    assert "No, so three protocols will race. there is no protocol 'fountain'" in said
    assert "the text speaks of the fountain, but the figures have none" in said
    command = ".venv/bin/python -m pip install raptorq"
    assert command in said
    assert command in (ROOT / "README.md").read_text(encoding="utf-8")
    pages = str([cell.outputs for cell in cells])
    assert re.search(r"fast, window 256: 9\d\d at 0 %", pages)
    assert "fountain, window" not in pages


@pytest.mark.parametrize(
    ("answer", "seen", "value"),
    [
        ("200", 200, 200),
        (" 0.5", 0.5, 0.5),
        ("True", True, True),
        (None, 1, None),
        (..., 1, None),
        ({"A": "2", "C": 3}, {"A": 1, "B": 1}, {"A": 2, "B": None}),
        ((2, None), {"A": 1, "B": 1}, {"A": 2, "B": None}),
        (None, {"A": 1, "B": 1}, {"A": None, "B": None}),
        *((it, "ACK", "ACK") for it in ("ack", " ACK ", ["Ack"], {"ACK"}, ACK)),
        ("Selective-Repeat", "ACK", "selective_repeat"),
        ("ack, selective repeat", {"ACK"}, {"ACK", "selective_repeat"}),
        ([], {"ACK"}, set()),
        ("ack", {"ACK"}, {"ACK"}),
    ],
)
def test_a_prediction_is_taken_for_what_it_says(
    answer: object, seen: object, value: object, capsys: pytest.CaptureFixture[str]
) -> None:
    words = isinstance(seen, str | set)
    choices = ("ACK", "selective_repeat") if words else ()
    prediction = predict("Which?", answer, choices=choices)
    prediction.compare(seen)
    assert (prediction.value, prediction.seen) == (value, seen)
    assert "cannot be compared" not in capsys.readouterr().out


NUMBERS = "a number, such as 12 or 0.5, or True or False"


@pytest.mark.parametrize(
    ("answers", "choices", "seen", "wanted"),
    [
        (["many", "10 %", "", (0, 5), float("nan"), "[1]", {}], "", 1, NUMBERS),
        (["C", "", 0, ["A", 1], [["A"]], b"A", []], "AB", "A", "one of 'A', 'B'"),
        ([7, (1, 2, 3)], "", {"A": 1, "B": 1}, "{'A': …, 'B': …}"),
    ],
)
def test_what_cannot_be_compared_is_no_prediction_and_a_sentence_says_so(
    answers: list[object],
    choices: str,
    seen: object,
    wanted: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for odd in answers:
        predict("Which?", odd, choices=choices).compare(seen)
        first, second = capsys.readouterr().out.splitlines()
        assert first == f"{odd!r} cannot be compared here: write {wanted}."
        assert second.startswith("Which: no prediction yet.")


@pytest.mark.parametrize(
    ("answer", "tolerance", "verdict"),
    [
        (None, {}, "no prediction yet"),
        (10, {}, "yes"),
        (9, {}, "more"),
        (11, {}, "less"),
        (8, {"within": 2}, "yes"),
        (5, {"factor": 2}, "yes"),
        (21, {"factor": 2}, "less"),
        (7, {}, "nearly"),
    ],
)
def test_a_number_is_judged_kindly(
    answer: object,
    tolerance: dict[str, Any],
    verdict: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = {"low": "more", "high": "less", "hints": {7: "nearly"}, **tolerance}
    predict("How many?", answer).compare(10, "yes", **words)
    assert capsys.readouterr().out.startswith(f"How many: {verdict}")


def test_every_part_is_judged_alone_and_praise_for_all_comes_last(
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen, wrong = {"A": 1, "B": True}, {"A": "ah", "B": "oh"}
    for answer, told in (
        ((1, True), ["A: yes (1; 1)", "B: yes (True; True)", "All of them."]),
        ((2, None), ["A: ah (2; 1)", "B: no prediction yet"]),
        ({"A": 1, "B": False}, ["A: yes (1; 1)", "B: oh (False; True)"]),
    ):
        predict("Which?", answer).compare(seen, "yes", wrong, all_right="All of them.")
        said = re.sub(
            r"You said (.*); it was (.*)\.\)", r"\1; \2)", capsys.readouterr().out
        )
        assert said.splitlines() == told


def words(page: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", page))


def test_a_listing_is_the_real_source_or_what_changes_and_says_where_it_stands() -> (
    None
):
    page = words(show(StopAndWaitSender).data)
    assert page.startswith("p2plab/protocols/stop_and_wait.py: StopAndWaitSender")
    assert inspect.getsource(StopAndWaitSender).strip() in page
    lines = words(show(GoBackNSender, against=StopAndWaitSender).data).splitlines()
    assert "+        self.next_seq_num = self.send_base  # go back N" in lines
    assert "     def send(self, payload: bytes) -> None:" not in lines


def test_a_listing_about_some_words_has_their_paragraph_alone() -> None:
    page = words(show(packet, about="number: how many").data)
    assert "checksum: CRC-32" in page
    assert "def encode" not in page
    assert "<span style" not in show(GoBackNSender, about="Source: Kurose").data
    assert "<span style" in show(GoBackNSender, about="def on_timeout").data
    with pytest.raises(ValueError, match=r"no paragraph of p2plab/core/packet\.py has"):
        show(packet, about="perpetual motion")
