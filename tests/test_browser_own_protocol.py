"""Lesson 05 in a real browser: hints one by one, ladders, and a repair undone."""

from __future__ import annotations

import pytest
from browser import LabPage
from test_lessons import OWN, solutions

pytestmark = pytest.mark.browser

PAIR, LOSSY = "05-own", "05-10"  # the student's cell, and the check under losses
GOOD, BAD = "packet.seq == self.expected % 2:", "True:"
CELL = """id => window.jupyterapp.shell.currentWidget.content.widgets
    .findIndex(cell => cell.model.id === id)"""
# changes the source of a cell, if it is given another, and runs it
RUN = """([index, source]) => {
    const notebook = window.jupyterapp.shell.currentWidget.content;
    notebook.activeCellIndex = index;
    notebook.deselectAll();
    if (source) notebook.widgets[index].model.sharedModel.setSource(source);
    return window.jupyterapp.commands.execute("notebook:run-cell");
}"""


def test_a_student_asks_for_hints_writes_a_pair_and_breaks_its_receiver_again(
    lab_page: LabPage,
) -> None:
    page = lab_page.page

    def write(source: str) -> str:
        """Write the pair and check it; return what the check shows."""
        for each, text in ((own, source), (lossy, "")):
            page.evaluate(RUN, [each, text])
            lab_page.wait_idle()
        return str(lab_page.outputs()[lossy])

    lab_page.open(OWN)
    lab_page.run_all()
    assert lab_page.errors() == []
    own, lossy = (page.evaluate(CELL, each) for each in (PAIR, LOSSY))
    assert "breach" in str(lab_page.outputs()[lossy])

    hints = page.locator("details:has(> details)").first.locator("summary")
    second = hints.nth(1)
    assert not second.is_visible()
    hints.first.click()
    second.wait_for()
    assert not hints.nth(2).is_visible()
    lab_page.screenshot("own-protocol-hint")

    assert "survived" in write(solutions()["2"])
    assert "<svg" in write(solutions()["2"].replace(GOOD, BAD))
    twice = "delivered b'A' twice"
    ladder = page.locator(f'svg[role="img"][aria-label*="{twice}"]').first
    ladder.scroll_into_view_if_needed()
    assert ladder.is_visible()
    assert "sender" in ladder.locator("text").all_text_contents()
    assert page.locator("p", has_text=twice).first.is_visible()
    lab_page.screenshot("own-protocol-ladder")

    stage = page.locator(".p2p-stage").filter(has_text="par is 2")
    stage.locator(".lifelines").focus()
    page.keyboard.press("n")
    page.keyboard.press("Enter")
    stage.get_by_role("button", name="Duplicate it").click()
    code = "p2plab.break_it('any_ack_believed', double={1})"
    stage.locator(".faults code", has_text=code).wait_for()
    stage.locator(".change", has_text="Not broken").wait_for()
    lab_page.screenshot("own-protocol-network")
