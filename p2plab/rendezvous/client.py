"""A peer's side of the rendezvous: its calls, and errors that say what to do."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from math import inf
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote, urlencode

from p2plab.errors import NameTaken, PeerNotFound, RendezvousAway, RendezvousError
from p2plab.rendezvous import answers
from p2plab.rendezvous.answers import Event, News
from p2plab.rendezvous.clock import ServerClock
from p2plab.rendezvous.exchange import Exchange
from p2plab.rendezvous.following import Events, Followed, Following, Place
from p2plab.rendezvous.model import (
    DEFAULT_LEASE,
    LOBBY,
    MAX_PAGE,
    Listed,
    Registration,
    Seen,
    legal_address,
    legal_name,
    legal_session,
)

BEGINNING: Final = "0-0"  # of an inbox, or of a room's changes
PLAIN: Final = 300.0  # s without following, where that has failed
MAX_PAGES = 10_000

Answer = TypeVar("Answer")


class RendezvousClient:
    """Talks to the rendezvous; may be used from several threads, which never wait for
    each other.

    urls: of servers that share one Redis; when one is away the next is asked, and a
        working one is kept.
    timeout: seconds to connect, and seconds of silence before we give up.
    clock: the time at the rendezvous, as its answers tell it.
    Every call raises RendezvousAway when nobody answers, or Redis is away behind it,
    and RendezvousError for any other refusal.
    """

    def __init__(
        self, urls: str | Sequence[str], timeout: float = 2.0, room: str = LOBBY
    ) -> None:
        if timeout <= 0:
            raise ValueError(f"timeout must be above 0 s, got {timeout}")
        urls = [urls] if isinstance(urls, str) else urls
        self._servers = [Exchange(url, timeout) for url in urls]
        if not self._servers:
            raise ValueError("urls must name at least one server")
        self.timeout = timeout
        self.room = legal_name(room)
        self.clock = ServerClock()
        self._at = 0  # the server that answered last
        self._following = Following(timeout)
        self._plain_until = 0.0  # do not follow inboxes, by time.monotonic [s]

    @property
    def url(self) -> str:
        """The server that is asked first."""
        return self._servers[self._at].url

    @property
    def urls(self) -> list[str]:
        """All servers that are asked."""
        return [server.url for server in self._servers]

    def register(
        self,
        name: str,
        addresses: Sequence[str],
        tcp_port: int,
        udp_port: int,
        lease: float = DEFAULT_LEASE,
        *,
        token: str = "",
    ) -> Registration:
        """Take a name, or with its token take it back or change what it says.

        lease: seconds, 5 to 300. Raises NameTaken, with how long to wait; ValueError
        for a name or an address that cannot be one.
        """
        claim = {
            "addresses": [legal_address(address) for address in addresses],
            "tcp_port": tcp_port,
            "udp_port": udp_port,
            "lease": lease,
        }
        # A token of our own, so that a claim whose answer was lost can be repeated.
        proof = token or secrets.token_urlsafe(32)
        return self._ask(
            lambda answer: answers.registration(answer, proof, self.room),
            "PUT",
            self._peer(name),
            claim,
            proof,
        )

    def heartbeat(self, registration: Registration) -> Registration:
        """Start the lease anew; returns it with a fresh nonce.

        Raises PeerNotFound when it has ended (register again), NameTaken when somebody
        else has the name by now.
        """
        return self._ask(
            lambda answer: replace(
                registration, lease=answers.lease(answer), nonce=str(answer["nonce"])
            ),
            "POST",
            f"{self._peer(registration.name)}/heartbeat",
            token=registration.token,
        )

    def peers(self) -> list[Listed]:
        """All peers of the room, in the order of their names."""
        return self.listing()[0]

    def listing(self) -> tuple[list[Listed], str]:
        """All peers, and the place after which `changes` tells what is new."""
        found: list[Listed] = []
        cursor = at = ""
        for _ in range(MAX_PAGES):
            query = urlencode({"limit": MAX_PAGE, "cursor": cursor})
            path = f"{self._room}/peers?{query}"
            peers, cursor, place = self._ask(answers.page, "GET", path)
            found, at = found + peers, at or place
            if not cursor:
                return found, at
        raise RendezvousError(f"the list of peers at {self.url} does not end")

    def changes(self, after: str = BEGINNING, wait: float = 0.0) -> News:
        """Who came and went after a place.

        wait: seconds to wait for something to change, up to 25.
        """
        query = urlencode({"after": after, "wait": wait})
        path = f"{self._room}/changes?{query}"
        return self._ask(answers.news, "GET", path, wait=wait)

    def peer(self, name: str) -> Listed:
        """Look one peer up. Raises PeerNotFound."""
        return self._ask(answers.listed, "GET", self._peer(name))

    def introduce(self, registration: Registration, to: str, session: str) -> str:
        """Ask to be introduced; the inbox tells what comes of it.

        session: 16 hexadecimal digits, at random; asking again with the same ones
        knocks again. Returns how far it is: "asked", "met", … Raises PeerNotFound.
        """
        wish = {
            "from": registration.name,
            "to": legal_name(to),
            "session": legal_session(session),
        }
        path = f"{self._room}/introductions"
        return self._ask(
            lambda answer: str(answer["state"]), "POST", path, wish, registration.token
        )

    def answer(
        self, registration: Registration, session: str, accept: bool, why: str = ""
    ) -> None:
        """Accept or refuse for good (why: at most 200 characters), or withdraw."""
        consent = {"name": registration.name, "accept": accept, "why": why}
        path = f"{self._room}/introductions/{legal_session(session)}"
        self._ask(answers.nothing, "POST", path, consent, registration.token)

    def inbox(
        self, registration: Registration, after: str = BEGINNING, wait: float = 0.0
    ) -> tuple[list[Event], str]:
        """What came in after a place, and the next place; some may come twice.

        wait: seconds to wait for something, up to 25. Raises PeerNotFound, NameTaken.
        """
        name, token = registration.name, registration.token
        query = urlencode({"after": after, "wait": wait})
        path = f"{self._peer(name)}/inbox?{query}"
        follows = wait and self._plain_until <= time.monotonic()
        if follows:
            place, following = Place(token, after, wait), self._following
            with suppress(RendezvousAway):
                return following.next(name, place) or self._follow(name, place, path)
        found = self._ask(answers.inbox, "GET", path, token=token, wait=wait)
        if follows:  # something between us holds back an answer that goes on, or did
            self._plain_until = time.monotonic() + PLAIN
        return found

    def report(
        self, registration: Registration, session: str, events: Sequence[Seen]
    ) -> None:
        """Tell what we saw of a meeting, instead of what we told before."""
        rows = [
            {"at": each.at * 1000, "what": each.what, "note": each.note}
            for each in events
        ]
        path = f"{self._room}/introductions/{legal_session(session)}/events"
        body = {"name": registration.name, "events": rows}
        self._ask(answers.nothing, "PUT", path, body, registration.token)

    def meeting(self, registration: Registration, session: str) -> list[Seen]:
        """What both peers and the rendezvous saw of a meeting of ours."""
        query = urlencode({"name": registration.name})
        path = f"{self._room}/introductions/{legal_session(session)}/events?{query}"
        return self._ask(answers.meeting, "GET", path, token=registration.token)

    def leave(self, registration: Registration) -> None:
        """Give the name back; if it was lost already, that is no error."""
        path = self._peer(registration.name)
        try:
            self._ask(answers.nothing, "DELETE", path, token=registration.token)
        except (PeerNotFound, NameTaken):
            return

    def call_off(self) -> None:
        """Let calls that wait fail at once, now and later; the others go on."""
        for server in self._servers:
            server.call_off()

    def close(self) -> None:
        """Close the connections; names stay held until their leases end."""
        self.call_off()
        self._following.close()
        for server in self._servers:
            server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *why: object) -> None:
        self.close()

    @property
    def _room(self) -> str:
        return f"/rooms/{quote(self.room, safe='')}"

    def _peer(self, name: str) -> str:
        return f"{self._room}/peers/{quote(legal_name(name), safe='')}"

    def _ask(
        self,
        read: Callable[[Any], Answer],
        method: str,
        path: str,
        body: object = None,
        token: str = "",
        wait: float = 0.0,
    ) -> Answer:
        data = None if body is None else json.dumps(body, allow_nan=False).encode()

        def ask(server: Exchange) -> Answer:
            sent = time.monotonic()
            reply = server.ask(method, path, data, token, wait)
            return self._understood(read, *reply, server.url, sent)

        return self._of_any(ask)

    def _follow(self, name: str, place: Place, path: str) -> Events:
        """Begin an answer that goes on."""

        def begin(server: Exchange) -> Events:
            lines = server.follow(f"{path}&follow=true", place.token)

            def read(line: bytes) -> Events:  # written some time after it was asked for
                asked = -inf
                return self._understood(
                    answers.inbox, lines.status, line, server.url, asked
                )

            return self._following.begin(name, Followed(place, lines, read))

        return self._of_any(begin)

    def _of_any(self, ask: Callable[[Exchange], Answer]) -> Answer:
        """Ask the servers in turn, beginning with the one that answered last."""
        first, whys = self._at, []
        for step in range(len(self._servers)):
            place = (first + step) % len(self._servers)
            try:
                answer = ask(self._servers[place])
                self._at = place
                return answer
            except RendezvousAway as why:
                whys.append(why)
        raise answers.all_away(whys)

    def _understood(
        self,
        read: Callable[[Any], Answer],
        status: int,
        content: bytes,
        url: str,
        sent: float,
    ) -> Answer:
        def heard(answer: Any) -> Answer:
            for now in answers.nows(answer):
                self.clock.learn(now, sent, time.monotonic())
            return read(answer)

        return answers.understood(heard, status, content, url)
