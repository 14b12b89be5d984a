"""A lab: a rendezvous and peers in the background of this process."""

from __future__ import annotations

import atexit
from typing import Any, Final, Self

from p2plab.errors import P2PLabError, RendezvousAway
from p2plab.net.threads import warn_caller
from p2plab.peer.peer import Peer
from p2plab.rendezvous.model import legal_name

_LABS: Final[dict[str, Lab]] = {}  # one of each name, so that a cell can run twice


class Lab:
    """A rendezvous in a background thread, and the peers that were made here.

    host, port: where the rendezvous listens; port 0 lets the system choose. With host
        0.0.0.0 other machines reach it, too, at `url`.
    redis_url: a real Redis; otherwise the environment's P2PLAB_REDIS_URL, or a store
        inside this process.
    name: a new lab closes the old one of the same name, so a cell can be run again;
        `closed` says whether that has happened.
    Raises PortInUse.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        redis_url: str | None = None,
        name: str = "lab",
    ) -> None:
        # FastAPI and Redis take their time to load: not before somebody needs them.
        from p2plab.rendezvous.server import RendezvousServer

        if name in _LABS:
            _LABS[name].close()
        self.host = host
        self.name = name
        self.peers: dict[str, Peer] = {}
        self.closed = False
        self.server = RendezvousServer(host, port, redis_url).start()
        if self.server.redis_url and (trouble := self.server.redis_trouble()):
            warn_caller(RendezvousAway(f"the Redis cannot be used: {trouble}"))
        _LABS[name] = self
        atexit.register(self.close)

    @property
    def url(self) -> str:
        """Where peers find the rendezvous, those of other machines too if they may."""
        return next(iter(self.server.urls_elsewhere), self.server.url)

    @property
    def latest(self) -> Lab:
        """The new lab of this one's name if it was replaced; otherwise itself."""
        return _LABS.get(self.name, self)

    def peer(self, name: str, **knobs: Any) -> Peer:
        """Return a new, registered peer; an old one of this name here is closed first.

        knobs: what else a Peer takes, such as ack_delay.
        Raises NameTaken when a peer of another process holds the name, and P2PLabError
        once the lab is closed.
        """
        if self.closed:
            raise P2PLabError(
                "this lab is closed: run the cell that makes it again, then those that "
                "make its peers"
            )
        name = legal_name(name)
        if name in self.peers:
            self.peers.pop(name).close()
        peer = Peer(name, self.server.url, **{"host": self.host, **knobs})
        try:
            peer.register()
        except BaseException:
            peer.close()
            raise
        self.peers[name] = peer
        return peer

    def close(self) -> None:
        """Close all peers, then the rendezvous. Twice is fine."""
        self.closed = True
        while self.peers:
            self.peers.popitem()[1].close()
        self.server.stop()
        if _LABS.get(self.name) is self:
            del _LABS[self.name]
        atexit.unregister(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *why: object) -> None:
        self.close()

    def __repr__(self) -> str:
        if self.closed:
            return f"<Lab, closed; it was at {self.url}>"
        names = ", ".join(self.peers) or "no peers yet"
        return f"<Lab at {self.url}: {names}>"
