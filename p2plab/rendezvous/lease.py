"""A name that is kept: registered, and renewed from a thread until it is given back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from p2plab.errors import NameTaken, P2PLabError, PeerNotFound, RendezvousError
from p2plab.net.threads import spawn
from p2plab.rendezvous.client import RendezvousClient
from p2plab.rendezvous.model import Registration


class Lease:
    """Holds a name at the rendezvous.

    claim: registers the name for some seconds, with the token of before, or "".
    on_grant: told of what was granted, each time; it must not raise.
    trouble: why the last renewal failed, or None.
    registered_at: when the name was asked for, by time.monotonic [s].
    """

    def __init__(
        self,
        client: RendezvousClient,
        claim: Callable[[float, str], Registration],
        on_grant: Callable[[Registration], None],
    ) -> None:
        self.trouble: P2PLabError | None = None
        self.registration: Registration | None = None
        self.registered_at: float | None = None
        self.client = client
        self._claim, self._on_grant = claim, on_grant
        self._ended = threading.Event()
        self._heart: threading.Thread | None = None

    def take(self, seconds: float) -> Registration:
        """Register, and go on renewing; raises what `claim` raises."""
        token = self.registration.token if self.registration is not None else ""
        began = time.monotonic()
        self.registration = self._claim(seconds, token)
        self.registered_at = began
        self._on_grant(self.registration)
        self.trouble = None
        if self._heart is None:
            self._heart = spawn(self._beat)
        return self.registration

    def end(self) -> None:
        """Give the name back; if the rendezvous is away, its lease ends it."""
        self._ended.set()
        if self._heart is not None:
            self._heart.join()  # a last beat would take the name again
        if self.registration is not None:
            try:
                self.client.leave(self.registration)
            except RendezvousError as why:
                self.trouble = why

    def _beat(self) -> None:
        assert self.registration is not None
        while not self._ended.wait(self.registration.lease / 3):
            try:
                self.registration = self.client.heartbeat(self.registration)
                self._on_grant(self.registration)
                self.trouble = None
            except PeerNotFound:
                self._take_again()
            except (RendezvousError, NameTaken) as why:
                self.trouble = why

    def _take_again(self) -> None:
        assert self.registration is not None
        try:
            self.take(self.registration.lease)
        except P2PLabError as why:
            self.trouble = why
