"""The main job without a browser: a text and a picture, with every protocol."""

from __future__ import annotations

import io
from contextlib import suppress
from pathlib import Path
from typing import Final

from p2plab import plots
from p2plab.content.sample import sample_picture
from p2plab.content.transfer import State
from p2plab.core.files import write_file
from p2plab.core.link import Link
from p2plab.core.validation import count_of
from p2plab.errors import P2PLabError
from p2plab.measure.metrics import summarise
from p2plab.peer.lab import Lab
from p2plab.peer.peer import Peer
from p2plab.protocols.setup import MISSING, PROTOCOLS, Setup

TEXT: Final = "Hello, Bob!"
SIDE: Final = 128  # pixels; small enough for stop-and-wait on a slow link
ARROWS: Final = 40  # in a ladder; the picture needs more packets than these
ROW: Final = "{:<18}{:>10}{:>11}{:>7}{:>6}{:>10}{:>9}{:>7}{:>11}"
TITLES: Final = ("protocol", "DATA sent", "sent again", "coded", "lost", "ACKs lost")


def demo(folder: Path, loss: float = 0.1, seed: int = 1) -> int:
    """Run it, print a table, and write pictures and ladders to `folder` as PNG.

    Returns 0 only if the text was acknowledged and every reliable transfer arrived
    identical.
    """
    link = Link(delay=0.01, loss=loss, seed=seed)  # before anything is started
    folder.mkdir(parents=True, exist_ok=True)
    with Lab(name="demo") as lab:
        alice, _ = lab.peer("alice"), lab.peer("bob")
        print(f"rendezvous at {lab.url}; alice and bob are registered")
        delivery = alice.send_text("bob", TEXT)
        print(
            f"alice to bob: {TEXT!r}, acknowledged after {1e3 * delivery.seconds:.1f} "
            f"ms and {count_of(delivery.attempts, 'attempt')}"
        )
        print(
            f"\na picture of {SIDE}x{SIDE} pixels over UDP, delay 10 ms and loss "
            f"{loss:.0%} each way, seed {seed}:\n"
        )
        print(ROW.format(*TITLES, "seconds", "holes", "picture"))
        wrong = [name for name in PROTOCOLS if not _try(name, alice, link, folder)]
    for why in MISSING.values():
        print("\n" + why.removeprefix(". "))
    print(f"\npictures and ladders are in {folder.resolve()}")
    if wrong:
        print(f"did not arrive identical: {', '.join(wrong)}")
    return 1 if wrong else 0


def _try(name: str, alice: Peer, link: Link, folder: Path) -> bool:
    """Send the picture with one protocol; whether it kept what it promises."""
    setup = Setup(name, window=8)
    transfer = alice.send_picture("bob", sample_picture(SIDE), setup, link)
    with suppress(P2PLabError):
        transfer.wait()
    assembly, found = transfer.assembly, summarise(transfer.trace)
    identical = assembly is not None and assembly.verify()
    holes = 0 if assembly is None else len(assembly.missing)
    numbers = (found.sent, found.retransmitted, found.coded, found.lost_data)
    looks = "identical" if identical else "has holes" if holes else "changed"
    seconds = f"{transfer.seconds:.2f}"
    print(ROW.format(name, *numbers, found.lost_acks, seconds, holes, looks))
    if transfer.error is not None and transfer.progress:  # the next may fare better
        print(f"  {name} failed: {transfer.error}")
    picture, drawn = io.BytesIO(), io.BytesIO()
    transfer.picture().save(picture, "PNG")
    write_file(folder / f"{name}.png", [picture.getvalue()])
    ax = plots.ladder(transfer.trace, plots.blank(8, 6), max_arrows=ARROWS)
    ax.figure.canvas.print_figure(drawn, format="png")
    write_file(folder / f"{name}-ladder.png", [drawn.getvalue()])
    if transfer.error is not None and not transfer.progress:
        raise transfer.error
    return transfer.state is State.DONE and (identical or name == "best_effort")
