"""How far a transfer is, and the picture so far, as HTML and in words."""

from __future__ import annotations

import base64
import html
import io
import time
from typing import Final

from PIL import Image

from p2plab.content.chunks import Assembly
from p2plab.content.transfer import State, Transfer, arrived
from p2plab.core.validation import count_of

LIVE_SIDE: Final = 512  # pixels; what moves need not be sharper
FINAL_SIDE: Final = 1024  # more would take seconds to reach the screen


def have(assembly: Assembly) -> str:
    """How much has arrived, in words."""
    here, count = assembly.received, assembly.content.count
    are = "is" if 1 in (here, count) else "are"
    return f"{here:,} of {count_of(count, 'payload')} {are} here"


def silence(transfer: Transfer) -> str:
    """What a real transfer waits for and when it gives up; nothing if it moves."""
    silent = time.monotonic() - transfer.started_at - transfer.heard_at
    if silent < 1 or transfer.ended:
        return ""
    offered = transfer.state is State.OFFERED
    what = "an answer to the offer" if offered else "a word from the other side"
    patience = transfer.gives_up_at - transfer.heard_at
    waited = f"It has waited {int(silent)} s for {what}"
    return f"{waited}, and gives up after {patience:.0f} s."


def stopped_where(transfer: Transfer) -> str:
    """Where a transfer was stopped, and how far it was, in words."""
    return f"{transfer.error}; {arrived(transfer)} had arrived"


def figure(image: Image.Image, alt: str, side: int, *, final: bool) -> str:
    """An HTML figure that fills a square of `side` CSS pixels, or what room there is.

    final: in PNG, exact to the pixel up to FINAL_SIDE; otherwise in JPEG, small and
        quick while it changes.
    """
    most = FINAL_SIDE if final else LIVE_SIDE
    if max(image.size) > most:
        image = image.copy()
        image.thumbnail((most, most))
    buffer = io.BytesIO()
    if final:
        image.save(buffer, "PNG", compress_level=1)
    else:
        image.save(buffer, "WEBP", quality=80, method=0)
    kind = "png" if final else "webp"
    data = base64.b64encode(buffer.getvalue()).decode()
    sharp = "pixelated" if max(image.size) <= side else "auto"
    return (
        f'<figure><img alt="{html.escape(alt)}" style="{square(side)};'
        f'image-rendering:{sharp}" src="data:image/{kind};base64,{data}"></figure>'
    )


def bar(progress: float, words: str) -> str:
    """A progress bar with a name, and the numbers below it."""
    return (
        f'<progress aria-label="received" max="1" value="{progress:.4f}"></progress>'
        f'<div dir="auto">{html.escape(words)}</div>'
    )


def square(side: int) -> str:
    """The CSS of a picture's place."""
    return f"width:{side}px;max-width:100%;aspect-ratio:1"
