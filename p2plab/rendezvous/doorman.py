"""A peer's doorman: waits for who wants to be introduced, and introduces us."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Literal, TypeVar

from p2plab.errors import (
    IntroductionRefused,
    P2PLabError,
    PeerNotFound,
    PeerUnreachable,
    RendezvousAway,
)
from p2plab.net.threads import spawn
from p2plab.rendezvous.answers import Event
from p2plab.rendezvous.callers import Request
from p2plab.rendezvous.client import BEGINNING, RendezvousClient
from p2plab.rendezvous.lua import INTRODUCTION_LIFE
from p2plab.rendezvous.model import (
    MAX_WAIT,
    MAX_WHY,
    Asked,
    Declined,
    Met,
    Registration,
    Withdrawn,
)

REPEAT: Final = 1.0  # s between two knocks of one introduction
PAUSE: Final = 0.5  # s before another try, while the rendezvous is away
A_PERSON: Final = 30.0  # s to answer: the other program may ask its user
SESSIONS: Final = 1_000  # that we remember

Policy = Literal["room", "ask", "nobody"]
POLICIES: Final = ("room", "ask", "nobody")
Told = TypeVar("Told")


class Doorman:
    """Keeps one call waiting at our inbox, in a thread, while we have a name.

    registration: what we have now. accept: whom to let in: everybody of our "room";
    whom we "ask" about, by `requests`; "nobody".
    on_met, on_request, on_withdrawn: called from the thread with each Met, and each
        Request, also when whoever has asked waits no more.
    note: told of each step: the session, a word for it, and about whom.
    trouble: why the inbox could not be read the last time, or None.
    asking: whom we wait for, and until when by time.monotonic [s]; by session.
    """

    def __init__(
        self,
        client: RendezvousClient,
        registration: Callable[[], Registration | None],
        accept: Policy = "room",
        on_met: Callable[[Met], None] | None = None,
        on_request: Callable[[Request], None] | None = None,
        note: Callable[[str, str, str], None] = lambda session, what, note: None,
    ) -> None:
        if accept not in POLICIES:
            raise ValueError(f"accept must be one of {POLICIES}, got {accept!r}")
        self.accept: Policy = accept
        self.on_met, self.on_request = on_met, on_request
        self.on_withdrawn: Callable[[Request], None] | None = None
        self.asking: dict[str, tuple[str, float]] = {}
        self._note = note
        self.trouble: P2PLabError | None = None
        self._client, self._registration = client, registration
        self._closed = threading.Event()
        self._news = threading.Condition()  # for all that follows
        self._sessions: OrderedDict[str, Met | Declined | None] = OrderedDict()
        self._requests: dict[str, Request] = {}
        self._owed: dict[str, tuple[bool, str]] = {}  # answers that did not get through
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to wait, once we have a name; starting twice is starting once."""
        if self._thread is None:
            self._thread = spawn(self._watch)

    def close(self) -> None:
        """Stop waiting; calls that wait for an answer withdraw it, and fail."""
        self._closed.set()
        self._client.call_off()
        with self._news:
            self._news.notify_all()
            self._news.wait_for(lambda: not self.asking, 2 * self._client.timeout)
        if self._thread not in (None, threading.current_thread()):
            self._thread.join()

    @property
    def requests(self) -> list[Request]:
        """Who waits for our word, the oldest first."""
        with self._news:
            return self._waiting()

    def forget_gone(self) -> None:
        """Drop the requests of peers that have left. Raises RendezvousError."""
        for request in self.requests:
            try:
                self._client.peer(request.peer)
            except PeerNotFound:
                self._forget(request)

    def introduce(self, to: str, timeout: float = A_PERSON) -> Met:
        """Ask a peer to meet, and wait for its answer, up to `timeout` seconds.

        Whatever else ends the waiting withdraws it. Raises PeerNotFound,
        IntroductionRefused with the other's words, PeerUnreachable when it does not
        answer in time, RendezvousAway, RendezvousError.
        """
        registration, session = self._owner(), secrets.token_hex(8)
        if to == registration.name:
            raise P2PLabError(f"the peer {to} is this peer itself: choose another one")
        self._remember(session)
        end = time.monotonic() + timeout
        self.asking[session] = to, end
        try:
            return self._ask(registration, to, session, end)
        except (IntroductionRefused, RendezvousAway):
            raise
        except BaseException as why:
            try:
                self._client.answer(registration, session, False)
            except P2PLabError:  # away, and it ends by itself; or too late
                late = isinstance(why, PeerUnreachable)
                if late and isinstance(met := self._outcome(session, REPEAT), Met):
                    return met
            raise
        finally:
            with self._news:
                del self.asking[session]
                self._news.notify_all()

    def _ask(
        self, registration: Registration, to: str, session: str, end: float
    ) -> Met:
        tries = 0
        while not self._closed.is_set():
            self._note(session, "introduce", to)
            try:
                self._client.introduce(registration, to, session)
            except RendezvousAway:
                if tries == 0:
                    raise
            tries += 1
            left = end - time.monotonic()
            outcome = self._outcome(session, min(left, REPEAT))
            if isinstance(outcome, Met):
                return outcome
            if isinstance(outcome, Declined):
                words = f": {outcome.why}" if outcome.why else ""
                raise IntroductionRefused(f"the peer {to} does not want to meet{words}")
            if left <= REPEAT:
                raise PeerUnreachable(
                    f"the peer {to} has not answered yet: its program may be asking "
                    "its person; the request is withdrawn, so ask again when the "
                    "person is there, or find out whether the program still runs"
                )
        raise P2PLabError("this peer is closed")

    def _waiting(self) -> list[Request]:
        now = time.monotonic()
        return [each for each in self._requests.values() if now < each.until]

    def _owner(self) -> Registration:
        registration = self._registration()
        if registration is None:
            raise P2PLabError("register first: only who has a name can be introduced")
        return registration

    def _remember(self, session: str) -> None:
        with self._news:
            self._sessions[session] = None
            while len(self._sessions) > SESSIONS:
                self._sessions.popitem(last=False)

    def _outcome(self, session: str, seconds: float) -> Met | Declined | None:
        with self._news:
            self._news.wait_for(
                lambda: self._closed.is_set() or self._sessions.get(session), seconds
            )
            return self._sessions.get(session)

    def _watch(self) -> None:
        place, token = BEGINNING, ""
        while not self._closed.is_set():
            try:
                registration = self._owner()
                if registration.token != token:  # another inbox
                    place, token = BEGINNING, registration.token
                wait = PAUSE if self._owed else MAX_WAIT
                events, place = self._client.inbox(registration, place, wait)
                self.trouble = None
            except P2PLabError as why:
                self.trouble = why
                self._closed.wait(PAUSE)
                continue
            for event in events:
                self._take(event)
            for session, (accept, words) in list(self._owed.items()):
                self._answer(session, accept, words)

    def _take(self, event: Event) -> None:
        """Deal with what came in; what we know already came twice."""
        if isinstance(event, Asked):
            if event.session not in self._sessions:
                self._remember(event.session)
                self._note(event.session, "asked", event.peer)
                self._consider(event)
            return
        if isinstance(event, Withdrawn):
            self._owed.pop(event.session, None)
            if request := self._requests.get(event.session):
                self._forget(request)
                tell(self.on_withdrawn, request)
            return
        with self._news:
            if self._sessions.get(event.session, event) is not None:
                return  # known, or nothing of ours
        if isinstance(event, Met):
            self._note(event.session, "met", event.peer)
            tell(self.on_met, event)  # before those who wait for it go on
        with self._news:
            self._sessions[event.session] = event
            self._news.notify_all()

    def _consider(self, event: Asked) -> None:
        if self.accept != "ask":
            yes = self.accept == "room"
            self._answer(event.session, yes, "" if yes else "it talks to nobody now")
            return
        until = time.monotonic() + INTRODUCTION_LIFE / 1000
        request = Request(event.peer, event.session, self._settle, until)
        with self._news:
            # The rendezvous has forgotten the overdue ones, too.
            self._requests = {each.session: each for each in self._waiting()}
            self._requests[event.session] = request
        tell(self.on_request, request)

    def _settle(self, request: Request, accept: bool, why: str) -> None:
        """What a person decides; an error is theirs to see, and while the rendezvous is
        away they may try again; any other one says that it is over.
        """
        try:
            self._say(request.session, accept, why[:MAX_WHY])
        except RendezvousAway:
            raise
        except P2PLabError:
            self._forget(request)
            raise
        self._forget(request)

    def _forget(self, request: Request) -> None:
        with self._news:
            self._requests.pop(request.session, None)

    def _say(self, session: str, accept: bool, why: str) -> None:
        self._note(session, "accept" if accept else "refuse", "")
        self._client.answer(self._owner(), session, accept, why)

    def _answer(self, session: str, accept: bool, why: str) -> None:
        """Answer by policy; while the rendezvous is away, that has to wait."""
        self._owed.pop(session, None)
        try:
            self._say(session, accept, why)
        except RendezvousAway:
            self._owed[session] = accept, why
        except P2PLabError:
            pass  # it is over, or its caller has gone


def tell(listener: Callable[[Told], None] | None, what: Told) -> None:
    """Call whoever listens; its errors are its own, and the thread goes on."""
    if listener is not None:
        with suppress(Exception):
            listener(what)
