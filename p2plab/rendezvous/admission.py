"""A peer's presence: its name, kept; whom it lets in; and being introduced itself."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Literal, TypeVar, get_args

from p2plab.errors import (
    IntroductionRefused,
    P2PLabError,
    PeerNotFound,
    PeerUnreachable,
    RendezvousAway,
    RendezvousError,
)
from p2plab.net.threads import spawn
from p2plab.rendezvous.client import RendezvousClient
from p2plab.rendezvous.model import (
    BEGINNING,
    INTRODUCTION_LIFE,
    MAX_WAIT,
    MAX_WHY,
    Met,
    News,
    Notice,
    Registration,
)

REPEAT: Final = 1.0  # s between two knocks of one introduction
PAUSE: Final = 0.5  # s before another try, while the rendezvous is away
A_PERSON: Final = 30.0  # s to answer: the other program may ask its user
SESSIONS: Final = 1_000  # that we remember

Policy = Literal["room", "ask", "nobody"]
POLICIES: Final = get_args(Policy)
Told = TypeVar("Told")


@dataclass(slots=True)
class Request:
    """Somebody who waits for our word. asked_at: since when, by time.monotonic [s]."""

    peer: str
    session: str
    _settle: Callable[[Request, bool, str], None] = field(repr=False)
    asked_at: float = field(default_factory=time.monotonic, repr=False)

    def accept(self) -> None:
        """Let both learn how to reach each other. Raises RendezvousError."""
        self._settle(self, True, "")

    def refuse(self, why: str = "") -> None:
        """Say no; why: words for the other, up to 200 characters."""
        self._settle(self, False, why)


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
        """Give the name back, once; if the rendezvous is away, its lease ends it."""
        if self._ended.is_set():
            return
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
                with suppress(PeerNotFound):
                    self.registration = self.client.heartbeat(self.registration)
                    self._on_grant(self.registration)
                    self.trouble = None
                    continue
                self.take(self.registration.lease)
            except P2PLabError as why:
                self.trouble = why


class Admission:
    """Keeps one call waiting at our inbox, in a thread, while we have a name.

    lease: our name; closing gives it back. accept: whom to let in: everybody of our
        "room"; whom we "ask" about, by `requests`; "nobody".
    on_met, on_request, on_withdrawn: called from the thread with each Met, and each
        Request, also when whoever has asked waits no more.
    note: told of each step: the session, a word for it, and about whom.
    trouble: why the inbox could not be read the last time, or None.
    asking: whom we wait for, and until when by time.monotonic [s]; by session.
    """

    def __init__(
        self,
        lease: Lease,
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
        self._lease, self._client = lease, lease.client
        self._closed = threading.Event()
        self._news = threading.Condition()  # for all that follows
        self._sessions: OrderedDict[str, News | None] = OrderedDict()
        self._requests: dict[str, Request] = {}
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to wait, once we have a name; starting twice is starting once."""
        if self._thread is None:
            self._thread = spawn(self._watch)

    def close(self) -> None:
        """Give our name back; calls that wait for an answer withdraw it, and fail."""
        self._closed.set()
        with self._news:
            self._news.notify_all()
            self._news.wait_for(lambda: not self.asking, 2 * self._client.timeout)
        self._lease.end()  # which ends the call at our inbox, too
        if self._thread not in (None, threading.current_thread()):
            # Where the rendezvous says nothing any more, it ends by itself later.
            self._thread.join(2 * self._client.timeout)

    @property
    def requests(self) -> list[Request]:
        """Who waits for our word, the oldest first."""
        now = time.monotonic()
        with self._news:
            waiting = list(self._requests.values())
        return [each for each in waiting if now - each.asked_at < INTRODUCTION_LIFE]

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
        with self._news:
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
            if outcome is not None:
                words = f": {outcome.why}" if outcome.why else ""
                raise IntroductionRefused(f"the peer {to} does not want to meet{words}")
            if left <= REPEAT:
                raise PeerUnreachable(
                    f"the peer {to} has not answered yet: its program may be asking "
                    "its person; the request is withdrawn, so ask again when the "
                    "person is there, or find out whether the program still runs"
                )
        raise P2PLabError("this peer is closed")

    def _owner(self) -> Registration:
        registration = self._lease.registration
        if registration is None:
            raise P2PLabError("register first: only who has a name can be introduced")
        return registration

    def _remember(self, session: str) -> None:
        with self._news:
            self._sessions[session] = None
            while len(self._sessions) > SESSIONS:
                self._sessions.popitem(last=False)

    def _outcome(self, session: str, seconds: float) -> News | None:
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
                events, after = self._client.inbox(registration, place, MAX_WAIT)
                for event in () if self._closed.is_set() else events:
                    self._take(event)
                place = after  # what could not be answered is read once more
                self.trouble = None
            except P2PLabError as why:
                self.trouble = why
                self._closed.wait(PAUSE)

    def _take(self, event: News) -> None:
        """Deal with what came in; what we know already came twice.

        Raises RendezvousAway when an answer did not get through.
        """
        if event.what == "asked":
            if event.session not in self._sessions:
                self._note(event.session, "asked", event.peer)
                self._consider(event)
                self._remember(event.session)
            return
        if event.what == "withdrawn":
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

    def _consider(self, event: Notice) -> None:
        if self.accept != "ask":
            yes = self.accept == "room"
            try:
                self._say(event.session, yes, "" if yes else "it talks to nobody now")
            except RendezvousAway:
                raise
            except P2PLabError:
                pass  # it is over, or its caller has gone
            return
        request = Request(event.peer, event.session, self._settle)
        with self._news:
            # The rendezvous has forgotten the overdue ones, too.
            waiting = [*self.requests, request]
            self._requests = {each.session: each for each in waiting}
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


def settle(requests: Sequence[Request], act: Callable[[Request], None]) -> None:
    """Answer all requests of one peer; only the last one's error is for a person.

    Who has asked again may have given the earlier ones up.
    """
    *earlier, last = requests
    for each in earlier:
        with suppress(P2PLabError):
            act(each)
    act(last)


def tell(listener: Callable[[Told], None] | None, what: Told) -> None:
    """Call whoever listens; its errors are its own, and the thread goes on."""
    if listener is not None:
        with suppress(Exception):
            listener(what)
