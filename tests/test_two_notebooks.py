"""One protocol in two notebooks, and against a neighbour's, without a changed line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

import nbformat
import pytest
from browser import ROOT
from nbclient import NotebookClient
from test_lessons import OWN, private_jupyter, solutions

__all__ = ["private_jupyter"]  # a fixture: no test touches somebody's Jupyter

pytestmark = pytest.mark.notebook

LESSON: Final = ROOT / "notebooks" / OWN
NAME: Final = "05-name"  # the cell in which the pair gets its name
LIMIT: Final = 60  # for a cell [s]

# The notebook of the one who receives: it has the rendezvous, and waits for news.
BOB = """
import queue

news = queue.Queue()
lab = p2plab.Lab()
bob = lab.peer("bob", on_news=lambda each: each.ended and news.put(each))
print(lab.url)
"""
RECEIVE = """
received = news.get(timeout=30).wait(0)
same = received.picture().tobytes() == p2plab.sample_picture(64).tobytes()
print(received.offer.sender, received.state, received.assembly.verify(), same)
"""

# The notebook of the one who sends.
ALICE = """
alice = p2plab.Peer("alice", "{url}")
alice.register()
link = p2plab.Link(delay=0.002, loss=0.2, seed=5)
"""
SEND = """
sent = alice.send_picture("bob", p2plab.sample_picture(64), setup, link).wait(30)
lost = sum(event.what == "loss" for event in sent.trace)
print(sent.state, lost)
"""

# The neighbour's: she keeps what comes early, and answers in a way of her own.
NEIGHBOUR = """
from collections import deque


class HerReceiver:
    deadline = None

    def __init__(self):
        self.arrived, self.handed_over, self.answers = {}, 0, deque()

    def on_packet(self, packet, now):
        if packet.kind == DATA:
            if packet.seq >= self.handed_over:
                self.arrived[packet.seq] = packet.payload
            self.answers.append(packet._replace(kind=ACK, payload=b""))

    def next_packet(self, now):
        return self.answers.popleft() if self.answers else None

    def next_payload(self):
        payload = self.arrived.pop(self.handed_over, None)
        if payload is not None:
            self.handed_over += 1
        return payload

    def on_timeout(self, now):
        return


hers = []
PROTOCOLS["mine"] = (None, lambda setup: hers.append(HerReceiver()) or hers[-1])
"""


def named_pair() -> list[str]:
    """Return cells that define a student's pair, and give it a name."""
    page = nbformat.read(LESSON, as_version=4)
    name = next(cell.source for cell in page.cells if cell.id == NAME)
    return ["import p2plab", solutions()["3"], name]


@contextmanager
def notebook() -> Iterator[Callable[[str], str]]:
    """Open a notebook with a kernel; yields what runs a cell, and returns its text."""
    page = nbformat.v4.new_notebook()
    client = NotebookClient(page, timeout=LIMIT, kernel_name="python3")

    def run(source: str) -> str:
        cell = nbformat.v4.new_code_cell(source)
        page.cells.append(cell)
        client.execute_cell(cell, len(page.cells) - 1)
        return "".join(output.get("text", "") for output in cell.outputs).strip()

    with client.setup_kernel():
        yield run


def test_a_picture_goes_between_two_notebooks_and_then_to_a_neighbours_receiver() -> (
    None
):
    with ExitStack() as stack:
        bob, alice = (stack.enter_context(notebook()) for _ in range(2))
        for source in named_pair():
            bob(source)
            alice(source)
        alice(ALICE.format(url=bob(BOB)))

        state, lost = alice(SEND).split()
        assert (state, int(lost) > 0) == ("done", True)
        assert bob(RECEIVE) == "alice done True True"

        bob(NEIGHBOUR)  # a new evening, and nothing is changed at Alice's
        state, lost = alice(SEND).split()
        assert (state, int(lost) > 0) == ("done", True)
        assert bob(RECEIVE) == "alice done True True"
        assert bob("print([her.handed_over for her in hers])") == "[11]"
        assert bob("print(bob.inbox[-1] is received, news.empty())") == "True True"
