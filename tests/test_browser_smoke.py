"""A slider, a button and a label in a real browser: the harness itself works."""

from __future__ import annotations

import pytest
from browser import LabPage

pytestmark = pytest.mark.browser

SETUP = """
import ipywidgets as widgets

slider = widgets.IntSlider(value=3, max=10, description="Window")
button = widgets.Button(description="Send")
label = widgets.Label("nothing sent")
"""
WIRING = """
def moved(change):
    label.value = f"window is {change.new}"

def clicked(_):
    label.value = f"sent with window {slider.value}"

slider.observe(moved, "value")
button.on_click(clicked)
widgets.VBox([slider, button, label])
"""


def test_a_slider_moved_by_keyboard_and_a_click_reach_the_kernel_and_come_back(
    lab_page: LabPage,
) -> None:
    lab_page.open_cells("smoke.ipynb", SETUP, WIRING)
    lab_page.run_all()
    assert lab_page.errors() == []

    lab_page.slider().focus()
    lab_page.slider().press("ArrowRight")
    lab_page.slider().press("ArrowRight")
    lab_page.page.get_by_text("window is 5").wait_for()
    lab_page.page.get_by_role("button", name="Send").click()
    lab_page.page.get_by_text("sent with window 5").wait_for()

    picture = lab_page.screenshot("smoke").read_bytes()
    assert picture.startswith(b"\x89PNG")


def test_an_error_in_a_cell_is_listed_with_the_number_of_its_cell(
    lab_page: LabPage,
) -> None:
    lab_page.open_cells("broken.ipynb", "print('fine')", "1 / 0", "print('never')")
    lab_page.run_all()
    assert lab_page.errors() == ["cell 2: ZeroDivisionError: division by zero"]
    assert lab_page.outputs()[0][0]["text"] == "fine\n"
    assert lab_page.outputs()[2] == []
