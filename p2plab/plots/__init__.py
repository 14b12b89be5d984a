"""One figure for each question about a run: takes a trace and an axes, draws on it."""

from p2plab.plots.curves import chart, over_time, rtt, window_over_time
from p2plab.plots.goodput import goodput_over_loss, loss_table, packets_over_loss
from p2plab.plots.ladder import ladder, ladders
from p2plab.plots.meeting import meeting, meeting_table
from p2plab.plots.pictures import gallery, picture
from p2plab.plots.style import alt_text, blank, show, table, to_html

__all__ = [
    "alt_text",
    "blank",
    "chart",
    "gallery",
    "goodput_over_loss",
    "ladder",
    "ladders",
    "loss_table",
    "meeting",
    "meeting_table",
    "over_time",
    "packets_over_loss",
    "picture",
    "rtt",
    "show",
    "table",
    "to_html",
    "window_over_time",
]
