"""The faces that a notebook holds: a peer, its meetings, a lab."""

import sys

from p2plab.errors import P2PLabError

if sys.platform == "emscripten":
    raise P2PLabError(
        "A browser's Python has no sockets, so there are no labs and peers here: "
        "simulate, simulate_picture and check work, and a Jupyter on your own computer "
        "can do the rest."
    )
