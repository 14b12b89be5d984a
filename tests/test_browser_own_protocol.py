"""Lesson 05 in a real browser: an empty cell is filled, and a museum piece broken."""

from __future__ import annotations

import pytest
from browser import ROOT, LabPage

pytestmark = pytest.mark.browser

SOLUTION = ROOT / "notebooks" / "solutions" / "own_protocol.py"
GOOD, BAD = "packet.seq == self.expected:", "True:"
# writes a student's cell and runs it with the one below, which has the check
WRITE = """([id, source]) => {
    const notebook = window.jupyterapp.shell.currentWidget.content;
    const index = notebook.widgets.findIndex(cell => cell.model.id === id);
    notebook.widgets[index].model.sharedModel.setSource(source);
    notebook.activeCellIndex = index;
    notebook.deselectAll();
    const run = () => window.jupyterapp.commands.execute("notebook:run-cell");
    return run().then(() => { notebook.activeCellIndex = index + 2; return run(); })
        .then(() => notebook.widgets[index + 2].model.outputs.toJSON());
}"""


def test_a_student_fills_the_empty_cell_repairs_it_and_breaks_another(
    lab_page: LabPage,
) -> None:
    page = lab_page.page
    lab_page.open("05-your-own-protocol.ipynb")
    lab_page.run_all()
    assert lab_page.errors() == []
    assert "which every sender needs" in str(lab_page.outputs())

    good = SOLUTION.read_text(encoding="utf-8")
    told = str(page.evaluate(WRITE, ["05-mine", good.replace(GOOD, BAD)]))
    assert "Promise broken" in told
    assert "<svg" in told
    lab_page.screenshot("own-protocol-broken")
    assert "survived" in str(page.evaluate(WRITE, ["05-mine", good]))

    stage = page.locator(".p2p-stage").filter(has_text="Your moves:")
    stage.locator(".lifelines").focus()
    page.keyboard.press("n")
    page.keyboard.press("Enter")
    stage.get_by_role("button", name="Duplicate it").click()
    code = "p2plab.break_it('any_ack_believed', double={1})"
    page.locator(".p2p-stage .faults code", has_text=code).wait_for()
    page.locator(".p2p-stage .change", has_text="par is 2").first.wait_for()
    lab_page.screenshot("own-protocol-network")
