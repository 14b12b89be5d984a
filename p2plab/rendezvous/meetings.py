"""Whom a peer has met, and where; it meets them anew when they have moved."""

from __future__ import annotations

from collections.abc import Callable

from p2plab.errors import RendezvousAway
from p2plab.rendezvous.client import RendezvousClient
from p2plab.rendezvous.doorman import Doorman, Policy
from p2plab.rendezvous.model import Met, Registration, legal_name


class Meetings:
    """The meetings of one peer; an introduction serves until the other has moved.

    registration: what we have now. accept: see Doorman.
    """

    def __init__(
        self,
        client: RendezvousClient,
        registration: Callable[[], Registration | None],
        accept: Policy = "room",
    ) -> None:
        self.doorman = Doorman(client, registration, accept, self._keep)
        self._client = client
        self._known: dict[str, Met] = {}

    def last(self, name: str) -> Met | None:
        """How we last met the peer of this name, if we have."""
        return self._known.get(legal_name(name))

    def find(self, name: str) -> Met:
        """Meet a peer, unless we have met it where it is now.

        While the rendezvous is away, it is where we met it. Raises PeerNotFound, and
        what `Doorman.introduce` raises.
        """
        known = self.last(name)
        try:
            since = self._client.peer(name).since
        except RendezvousAway:
            if known is None:
                raise
            return known
        if known is None or known.since != since:
            return self.doorman.introduce(legal_name(name))
        return known

    def forget(self, name: str | None = None) -> None:
        """Meet a peer anew the next time, or all: somebody did not answer."""
        if name is None:
            self._known.clear()
        else:
            self._known.pop(legal_name(name), None)

    def _keep(self, met: Met) -> None:
        self._known[met.peer] = met
