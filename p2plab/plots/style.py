"""What all figures share: colours with one meaning, and words in place of pictures."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import is_color_like, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch
from matplotlib.path import Path
from matplotlib.text import Text

from p2plab.measure.metrics import Summary, shown

Style = dict[str, Any]
Point = tuple[float, float]

# One meaning each, in every figure and panel. Okabe and Ito's palette: any colour
# vision can tell them apart, and line styles and markers say the same once more.
DATA_COLOUR: Final = "#0072B2"
ACK_COLOUR: Final = "#009E73"
LOSS_COLOUR: Final = "#D55E00"
TIMEOUT_COLOUR: Final = "#E69F00"
AGAIN_COLOUR: Final = "#CC79A7"  # a retransmission
PLAIN_COLOUR: Final = "#000000"

_HANDS = Path([(0.0, 0.6), (0.0, 0.0), (0.5, 0.0), (0.0, 0.0)])
_CLOCK = Path.make_compound_path(Path.unit_circle(), _HANDS)

DATA_LINE: Final[Style] = {"color": DATA_COLOUR, "linestyle": "-"}
ACK_LINE: Final[Style] = {"color": ACK_COLOUR, "linestyle": "-"}
ACCEPT_LINE: Final[Style] = {"color": ACK_COLOUR, "linestyle": (0, (6, 1, 1, 1))}
AGAIN_LINE: Final[Style] = {"color": AGAIN_COLOUR, "linestyle": "--"}
LOSS_LINE: Final[Style] = {"color": LOSS_COLOUR, "linestyle": "-."}
DAMAGED_LINE: Final[Style] = {"color": LOSS_COLOUR, "linestyle": ":"}
PLAIN_LINE: Final[Style] = {"color": PLAIN_COLOUR, "linestyle": "-"}
FIN_LINE: Final[Style] = {"color": PLAIN_COLOUR, "linestyle": (0, (8, 2))}

TIMEOUT_CURVE: Final[Style] = {"color": TIMEOUT_COLOUR, "linestyle": "--"}


def _mark(color: str, marker: str, markersize: float = 6, **more: Any) -> Style:
    shape = {"marker": marker, "markersize": markersize}
    return {"linestyle": "none", "color": color, **shape, **more}


LOSS_MARK: Final = _mark(LOSS_COLOUR, "x", markeredgewidth=2)
CORRUPT_MARK: Final = _mark(LOSS_COLOUR, "D", markerfacecolor="white")
DELIVERED_MARK: Final = _mark(PLAIN_COLOUR, "<", 4)
CHOSEN_MARK: Final = _mark(ACK_COLOUR, "*", 11, markeredgecolor=PLAIN_COLOUR)
AGAIN_MARK: Final = _mark(AGAIN_COLOUR, "s")
SAMPLE_MARK: Final = _mark(DATA_COLOUR, ".")
DOUBTFUL_MARK: Final = _mark(AGAIN_COLOUR, "s", 5, fillstyle="none")
TIMEOUT_TICK: Final = _mark(TIMEOUT_COLOUR, "|", 12)
TIMEOUT_MARK: Final[Style] = {
    "linestyle": "none",
    "marker": _CLOCK,
    "markersize": 10,
    "markerfacecolor": TIMEOUT_COLOUR,
    "markeredgecolor": PLAIN_COLOUR,
}

# Names of protocols, and colours and markers that mean nothing else in other figures.
PROTOCOL_LOOKS: Final = {
    "best_effort": ("best effort", "#888888", "v"),
    "stop_and_wait": ("stop-and-wait", "#000000", "o"),
    "go_back_n": ("go-back-N", "#56B4E9", "s"),
    "selective_repeat": ("selective repeat", "#8C510A", "^"),
    "fast": ("fast", "#5D3A9B", "D"),
    "fountain": ("fountain", "#767600", "+"),
}


def blank(width: float = 8.0, height: float = 4.5) -> Axes:
    """Return an axes on a figure of its own that pyplot does not know, for threads.

    width, height: of the figure [inch], with 100 pixels to the inch.
    """
    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    return figure.subplots()


def given_or_new(ax: Axes | None, width: float = 8.0, height: float = 4.5) -> Axes:
    """Return `ax`, or an axes on a new figure that a notebook shows by itself."""
    if ax is not None:
        return ax
    from matplotlib import pyplot

    return pyplot.subplots(figsize=(width, height), dpi=100, layout="constrained")[1]


def side_by_side(count: int, width: float, height: float) -> list[Axes]:
    """Return `count` axes of this size in a row on a new figure.

    Raises ValueError if there is nothing to draw.
    """
    if not count:
        raise ValueError("nothing to draw: give at least one picture or trace")
    from matplotlib import pyplot

    size: Style = {"figsize": (count * width, height), "dpi": 100}
    _, grid = pyplot.subplots(1, count, squeeze=False, layout="constrained", **size)
    return list(grid[0])


def finish(
    ax: Axes, across: str, up: str, sentence: str, *, note: str = "", columns: int = 3
) -> Axes:
    """Label the axes, put the legend above them, and keep the words for the figure."""
    ax.set_xlabel("\n".join(filter(None, (across, note))))
    ax.set_ylabel(up)
    ax.spines[["top", "right"]].set_visible(False)
    if not ax.has_data():
        write_nothing(ax)
    if ax.get_legend_handles_labels()[0]:
        above: Style = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": columns}
        ax.legend(frameon=False, fontsize="small", **above)
    return say(ax, " ".join(filter(None, (sentence, note.replace("\n", " ")))))


def write_nothing(ax: Axes) -> None:
    """Say that a figure is empty, so that nobody takes it for a broken one."""
    middle: Style = {"ha": "center", "va": "center", "transform": ax.transAxes}
    ax.text(0.5, 0.5, "nothing to see yet", color="grey", **middle)


def few(look: Style, count: int) -> Style:
    """Return a mark's look, small if there are so many that they hide each other."""
    return look if count <= 200 else {**look, "markersize": 2}


def say(ax: Axes, sentence: str) -> Axes:
    """Keep the words that stand for a figure where nobody sees it.

    What could not be seen on a dark ground, which a style may have, becomes lighter.
    """
    ax.set_label(sentence)
    figure = whole_figure(ax)
    ground = "white" if figure is None else figure.get_facecolor()
    if _luminance(ground) < 0.5:
        for artist in ax.findobj():
            _lighten(artist, ground)
    return ax


def _luminance(colour: Any) -> float:
    """How light a colour is, 0 to 1. Source: ITU-R BT.709."""
    red, green, blue = to_rgb(colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _lighten(artist: Artist, ground: Any) -> None:
    """Mix the dark colours of lines, arrows and words with white."""
    if not isinstance(artist, Line2D | Text | FancyArrowPatch):
        return
    arrow = isinstance(artist, FancyArrowPatch)
    whole = ["edgecolor", "facecolor"]
    for name in whole if arrow else ["color", "markeredgecolor", "markerfacecolor"]:
        colour = getattr(artist, f"get_{name}", lambda: "none")()
        if not is_color_like(colour) or colour == "none":
            continue
        if (light := _luminance(colour)) < 0.4:
            share = 0.9 - light
            mixed = [part + (1 - part) * share for part in to_rgb(colour)]
            getattr(artist, f"set_{name}")(mixed)
    box = artist.get_bbox_patch() if isinstance(artist, Text) else None
    if box is not None:
        box.set_facecolor(ground)


def alt_text(ax: Axes) -> str:
    """Return what the figure of `ax` shows, in words."""
    figure = whole_figure(ax)
    every = [ax] if figure is None else figure.axes
    return " ".join(str(each.get_label()) for each in every).strip()


def to_html(ax: Axes) -> str:
    """Return the whole figure of `ax` as an HTML picture with its words.

    JupyterLab leaves out the words of a picture that comes to it in any other way.
    """
    figure = whole_figure(ax)
    if figure is None:
        raise ValueError("this axes was removed from its figure: draw it again")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    data = base64.b64encode(buffer.getvalue()).decode()
    wide, high = figure.canvas.get_width_height()
    words = html.escape(alt_text(ax))
    style = "max-width: 100%; height: auto; background: white"
    size = f'width="{wide}" height="{high}"'  # nothing moves when the browser has it
    return (
        f'<img alt="{words}" {size} style="{style}" src="data:image/png;base64,{data}">'
    )


def show(axes: Axes | Sequence[Axes]) -> None:
    """Show the figure of one or several axes in a notebook, once, with its words."""
    from IPython.display import HTML, display
    from matplotlib import pyplot

    ax = axes if isinstance(axes, Axes) else axes[0]
    figure = whole_figure(ax)
    manager = None if figure is None else figure.canvas.manager
    if getattr(manager, "_shown", False):  # a backend that shows what is only made
        return
    display(HTML(to_html(ax)))  # type: ignore[no-untyped-call]  # IPython's are not
    if figure is not None:
        pyplot.close(figure)  # or the notebook would show it again, without words


def whole_figure(ax: Axes) -> Figure | None:
    """Return the figure that an axes is part of, however deep."""
    figure: Any = ax.figure
    whole: Figure | None = getattr(figure, "figure", figure)
    return whole


def ink(colour: str) -> tuple[float, float, float]:
    """Return a darker shade, in which small text can be read on white."""
    red, green, blue = to_rgb(colour)
    return 0.7 * red, 0.7 * green, 0.7 * blue


def time_unit(seconds: float) -> tuple[float, str]:
    """Return (units in a second, unit) that suit a figure of this length."""
    return (1e3, "ms") if seconds < 2 else (1.0, "s")


class Html(str):
    """Some HTML: a string that a notebook shows as what it means."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return str(self)


def html_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Html:
    """Return an HTML table of texts, in which each row begins with its name."""
    names = "".join(
        f'<th scope="col">{html.escape(name)}</th>' if name else "<td></td>"
        for name in head
    )
    body = []
    for one, *others in rows:
        cells = "".join(f'<td dir="auto">{html.escape(each)}</td>' for each in others)
        name = f'<th scope="row" dir="auto">{html.escape(one)}</th>'
        body.append(f"<tr>{name}{cells}</tr>")
    names = f"<thead><tr>{names}</tr></thead>" if head else ""
    return Html(f"<table>{names}<tbody>{''.join(body)}</tbody></table>")


def table(summary: Summary | Mapping[str, Summary]) -> Html:
    """Return an HTML table of a run's numbers, or of several runs' side by side."""
    runs = {"": summary} if isinstance(summary, Summary) else dict(summary)
    rows = []
    for row in zip(*(run.rows() for run in runs.values()), strict=True):
        what, _, unit = row[0]
        numbers = [shown(value) for _, value, _ in row]
        rows.append((f"{what} [{unit}]" if unit else what, *numbers))
    return html_table(("", *runs) if any(runs) else (), rows)
