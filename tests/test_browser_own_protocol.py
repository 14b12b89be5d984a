"""Lesson 05 in a real browser: verdicts with ladders, and a repair that is undone."""

from __future__ import annotations

import pytest
from browser import LabPage

pytestmark = pytest.mark.browser

RECEIVER = "05-48"  # the cell with the last receiver, and its check
GOOD, BAD = "packet.seq == self.expected:", "True:"
CELL = """id => window.jupyterapp.shell.currentWidget.content.widgets
    .findIndex(cell => cell.model.id === id)"""
# changes the source of a cell and runs it
EDIT = """([index, good, bad]) => {
    const notebook = window.jupyterapp.shell.currentWidget.content;
    const source = notebook.widgets[index].model.sharedModel;
    notebook.activeCellIndex = index;
    notebook.deselectAll();
    source.setSource(source.getSource().replace(good, bad));
    return window.jupyterapp.commands.execute("notebook:run-cell");
}"""


def test_a_student_reads_the_ladders_breaks_the_receiver_and_reads_another(
    lab_page: LabPage,
) -> None:
    page = lab_page.page
    lab_page.open("05-your-own-protocol.ipynb")
    lab_page.run_all()
    assert lab_page.errors() == []

    twice = "delivered b'A' twice"
    ladder = page.locator(f'svg[role="img"][aria-label*="{twice}"]').first
    ladder.scroll_into_view_if_needed()
    assert ladder.is_visible()
    assert "sender" in ladder.locator("text").all_text_contents()
    assert page.locator("p", has_text=twice).first.is_visible()
    lab_page.screenshot("own-protocol-ladder")

    index = page.evaluate(CELL, RECEIVER)
    assert "survived" in str(lab_page.outputs()[index])
    page.evaluate(EDIT, [index, GOOD, BAD])
    lab_page.wait_idle()
    after = lab_page.outputs()[index]
    assert "survived" not in str(after)
    assert "<svg" in str(after)
    cell = page.locator(".jp-Notebook .jp-Cell").nth(index)
    cell.locator('svg[role="img"]').wait_for()
    lab_page.screenshot("own-protocol-broken")
