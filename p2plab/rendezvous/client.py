"""A peer's side of the rendezvous: its calls, and errors that say what to do."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address
from typing import Final, Self, TypeVar
from urllib.parse import quote, urlsplit

import requests
from pydantic import TypeAdapter, ValidationError
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from p2plab.core.meeting import Seen
from p2plab.core.validation import on_one_line
from p2plab.errors import (
    NameTaken,
    P2PLabError,
    PeerNotFound,
    RendezvousAway,
    RendezvousError,
)
from p2plab.rendezvous.model import (
    BEGINNING,
    DEFAULT_LEASE,
    LOBBY,
    MAX_PAGE,
    Event,
    Inbox,
    Listed,
    Meeting,
    Page,
    Problem,
    Registration,
    Renewed,
    State,
    legal_address,
    legal_name,
    legal_session,
)

MAX_ANSWER: Final = 1 << 20  # bytes; a page of a hundred peers has less than 60,000
MAX_PAGES: Final = 10_000
THREADS: Final = 64  # that call at a time, without connecting anew each time
GATEWAY: Final = (502, 503, 504)  # a gateway's words for "nobody is there"

REGISTRATION: Final = TypeAdapter(Registration)
RENEWED: Final = TypeAdapter(Renewed)
LISTED: Final = TypeAdapter(Listed)
PAGE: Final = TypeAdapter(Page)
STATE: Final = TypeAdapter(State)
INBOX: Final = TypeAdapter(Inbox)
MEETING: Final = TypeAdapter(Meeting)
PROBLEM: Final = TypeAdapter(Problem)
NOTHING: Final = TypeAdapter(None)

Answer = TypeVar("Answer")


class RendezvousClient:
    """Talks to the rendezvous; may be used from several threads, which never wait for
    each other.

    urls: of servers that share one Redis; when one is away the next is asked, and a
        working one is kept.
    timeout: seconds to connect, and seconds of silence before we give up. What does not
        wait is asked once more, so all in all it may take twice as long.
    Every call raises RendezvousAway when nobody answers, or Redis is away behind it,
    and RendezvousError for any other refusal.
    """

    def __init__(
        self, urls: str | Sequence[str], timeout: float = 2.0, room: str = LOBBY
    ) -> None:
        if timeout <= 0:
            raise ValueError(f"timeout must be above 0 s, got {timeout}")
        self.urls = [
            legal_url(each) for each in ([urls] if isinstance(urls, str) else urls)
        ]
        if not self.urls:
            raise ValueError("urls must name at least one server")
        self.timeout = timeout
        self.room = legal_name(room)
        self._at = 0  # the server that answered last
        self._session = requests.Session()
        self._session.trust_env = False  # no .netrc, and proxies only as `proxies` says
        self._session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
        self._session.headers["Accept-Encoding"] = "identity"
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=THREADS))

    @property
    def url(self) -> str:
        """The server that is asked first."""
        return self.urls[self._at]

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
        token = token or secrets.token_urlsafe(32)
        return self._ask(REGISTRATION, "PUT", self._peer(name), claim, token)

    def heartbeat(self, registration: Registration) -> Registration:
        """Start the lease anew; returns it with a fresh nonce.

        Raises PeerNotFound when it has ended (register again), NameTaken when somebody
        else has the name by now.
        """
        path = f"{self._peer(registration.name)}/heartbeat"
        renewed = self._ask(RENEWED, "POST", path, token=registration.token)
        return replace(registration, lease=renewed.lease, nonce=renewed.nonce)

    def peers(self) -> list[Listed]:
        """All peers of the room, in the order of their names."""
        found: list[Listed] = []
        cursor = ""
        for _ in range(MAX_PAGES):
            query = f"limit={MAX_PAGE}&cursor={quote(cursor, safe='')}"
            page = self._ask(PAGE, "GET", f"{self._room}/peers?{query}")
            found += page.peers
            if not page.next:
                return found
            cursor = page.next
        raise RendezvousError(f"the list of peers at {self.url} does not end")

    def peer(self, name: str) -> Listed:
        """Look one peer up. Raises PeerNotFound."""
        return self._ask(LISTED, "GET", self._peer(name))

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
        return self._ask(STATE, "POST", path, wish, registration.token).state

    def answer(
        self, registration: Registration, session: str, accept: bool, why: str = ""
    ) -> None:
        """Accept or refuse for good (why: at most 200 characters), or withdraw."""
        consent = {"name": registration.name, "accept": accept, "why": why}
        path = f"{self._room}/introductions/{legal_session(session)}"
        self._ask(STATE, "POST", path, consent, registration.token)

    def inbox(
        self, registration: Registration, after: str = BEGINNING, wait: float = 0.0
    ) -> tuple[list[Event], str]:
        """What came in after a place, and the next place; some may come twice.

        wait: seconds to wait for something, up to 25. Raises PeerNotFound, NameTaken.
        """
        path = f"{self._peer(registration.name)}/inbox?after={after}&wait={wait}"
        found = self._ask(INBOX, "GET", path, token=registration.token, wait=wait)
        return found.events, found.next

    def report(
        self, registration: Registration, session: str, events: Sequence[Seen]
    ) -> None:
        """Tell what we saw of a meeting, instead of what we told before."""
        rows = [{"at": e.at, "what": e.what, "note": e.note} for e in events]
        path = f"{self._room}/introductions/{legal_session(session)}/events"
        body = {"name": registration.name, "events": rows}
        self._ask(NOTHING, "PUT", path, body, registration.token)

    def meeting(self, registration: Registration, session: str) -> list[Seen]:
        """What both peers and the rendezvous saw of a meeting of ours."""
        path = f"{self._room}/introductions/{legal_session(session)}/events"
        path += f"?name={quote(registration.name, safe='')}"
        found = self._ask(MEETING, "GET", path, token=registration.token)
        return [Seen(each.at, each.what, each.note, each.who) for each in found.events]

    def leave(self, registration: Registration) -> None:
        """Give the name back; if it was lost already, that is no error."""
        path = self._peer(registration.name)
        try:
            self._ask(NOTHING, "DELETE", path, token=registration.token)
        except (PeerNotFound, NameTaken):
            return

    def close(self) -> None:
        """Close the connections; names stay held until their leases end."""
        self._session.close()

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
        kind: TypeAdapter[Answer],
        method: str,
        path: str,
        body: object = None,
        token: str = "",
        wait: float = 0.0,
    ) -> Answer:
        """Ask the servers in turn, beginning with the one that answered last.

        What does not wait is asked once more, since every call may be repeated.
        wait: seconds that the other side may take.
        """
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        data = None
        if body is not None:
            data = json.dumps(body, allow_nan=False).encode()
            headers["Content-Type"] = "application/json"
        first, whys = self._at, dict[str, RendezvousAway]()
        for step in range(len(self.urls) * (1 if wait else 2)):
            place = (first + step) % len(self.urls)
            url = self.urls[place]
            try:
                with self._session.request(
                    method,
                    url + path,
                    data=data,
                    headers=headers,
                    timeout=(self.timeout, self.timeout + wait),
                    allow_redirects=False,
                    proxies=proxies(url),
                    stream=True,
                ) as response:
                    content = whole(response)
                    location = response.headers.get("Location", "")
                status = response.status_code
                answer = understood(kind, status, content, url, location)
            except RendezvousAway as why:
                whys[url] = why
            except (requests.RequestException, HTTPError, OSError) as why:
                whys[url] = away(url, self.timeout, why)
            else:
                self._at = place
                return answer
        if len(whys) == 1:
            raise whys.popitem()[1]
        said = "; ".join(map(str, whys.values()))
        raise RendezvousAway(f"none of {len(whys)} rendezvous servers answers: {said}")


def legal_url(url: str) -> str:
    """A server's URL without a slash at its end. Raises ValueError."""
    wish = "url must look like http://127.0.0.1:8080"
    try:
        parts = urlsplit(url.strip())
        _ = parts.port  # which is read, and checked, only now
    except ValueError:  # whose words may hold a piece of a password
        raise ValueError(f"{wish}, and this one cannot be read") from None
    if parts.username or parts.password:
        raise ValueError(f"{wish}: without a user name and a password")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{wish}, got {shown(url)!r}")
    return url.strip().rstrip("/")


def proxies(url: str) -> dict[str, str]:
    """Return the environment's proxies for a server; none where it is near."""
    host = urlsplit(url).hostname or ""
    try:
        near = not ip_address(host.partition("%")[0]).is_global
    except ValueError:  # a name
        near = "." not in host or host.endswith(".local")
    return {} if near else dict(requests.utils.get_environ_proxies(url))


def whole(response: requests.Response) -> bytes:
    """Return what an answer says, which has a limit. Raises RendezvousError."""
    content: bytes = response.raw.read(MAX_ANSWER + 1)
    if len(content) > MAX_ANSWER:
        raise RendezvousError(f"an answer has more than {MAX_ANSWER} bytes")
    left = response.raw.length_remaining  # None where its headers do not tell
    if left or (left is None and not content):  # headers may be cut, too
        raise ConnectionError("the answer was cut")
    return content


def understood(
    kind: TypeAdapter[Answer],
    status: int,
    content: bytes,
    url: str,
    location: str = "",
) -> Answer:
    """Return what an answer's JSON says, checked, or raise the refusal."""
    try:
        if 200 <= status < 300:
            return kind.validate_json(content or b"null")
        problem = PROBLEM.validate_json(content)
    except ValidationError:
        raise not_understood(status, url, location, content) from None
    raise refused(problem, url)


def refused(problem: Problem, url: str) -> P2PLabError:
    """The error that stands for a refusal."""
    text = problem.message
    wait = problem.retry_after or 0.0
    match problem.error:
        case "name_taken" | "name_alike" | "not_owner":
            if wait:
                text += f" Its lease ends in {wait:.0f} s unless it is renewed."
            return NameTaken(text, wait)
        case "no_such_peer" | "not_registered":
            return PeerNotFound(text)
        case "redis_away":
            return RendezvousAway(f"{text} (rendezvous {url})")
        case _:
            return RendezvousError(text)


def not_understood(
    status: int, url: str, location: str = "", content: bytes = b""
) -> RendezvousError:
    """The error for an answer that no rendezvous gives."""
    if 300 <= status < 400 and location:
        return RendezvousError(
            f"{url} sends everybody to {shown(location)} (HTTP {status}): if the "
            "rendezvous is there, take that address"
        )
    if status == 407:
        return RendezvousError(
            f"a proxy on the way to {url} wants a password (HTTP 407): write it into "
            f"HTTP_PROXY, or let NO_PROXY name the host"
        )
    if b"HTTPS" in content or b"https" in content[:300]:
        return RendezvousError(
            f"the port at {url} wants TLS (HTTP {status}): write https:// in the "
            "address in place of http://"
        )
    if status in GATEWAY:
        return RendezvousAway(
            f"something in front of {url} says that the rendezvous is away "
            f"(HTTP {status}): try again in a moment, or ask who runs it"
        )
    return RendezvousError(
        f"what answers at {url} is not a p2plab rendezvous (HTTP {status}): "
        "check the address and the port"
    )


START = (
    "check the address, and whether it runs (p2plab.Lab() in a notebook or "
    "`p2plab rendezvous` in a shell starts one)"
)
# A pattern of what went wrong, and the cause with its cure.
TROUBLES = (
    (
        "self.signed|CERTIFICATE_VERIFY_FAILED|certificate verify failed",
        "has a certificate that this computer does not trust ({why}): let "
        "REQUESTS_CA_BUNDLE name a file with the certificate, or take the http:// "
        "address",
    ),
    (
        "WRONG_VERSION_NUMBER|wrong version number|record layer",
        "does not speak TLS: write http:// in the address in place of https://",
    ),
    (
        "ProxyError|Tunnel connection failed",
        "is behind a proxy that does not let us through ({why}): let NO_PROXY name the "
        "host, or correct HTTP_PROXY",
    ),
    (
        "Too many open files",
        "cannot be asked, since this program has as many files open as the system "
        "allows: close some peers, or raise the limit (ulimit -n)",
    ),
    (
        "Name or service not known|getaddrinfo|nodename nor servname|NameResolution|"
        "name resolution|No address associated|label",
        "has a host that nobody knows: correct the name in the address",
    ),
    (
        "unreachable|No route",
        "is in a network that this computer does not reach ({why}): join it, or "
        "correct the address",
    ),
    ("refused|10061", "does not answer, nothing listens there: " + START),
    (
        "BadStatusLine|RemoteDisconnected|closed connection without|reset by peer|"
        "Connection aborted|IncompleteRead|ProtocolError|was cut",
        "hung up without a whole answer: perhaps its port wants TLS (https:// in the "
        "address), it is no rendezvous, or it has just ended; " + START,
    ),
)


def away(url: str, timeout: float, error: BaseException) -> RendezvousAway:
    """The error for no answer at all: with the cause that it has."""
    if isinstance(error, requests.Timeout):
        return RendezvousAway(
            f"the rendezvous at {url} gave no answer within {timeout:g} s: it may be "
            f"busy, or packets get lost: try again, or {START}"
        )
    chain = [error]
    while (inner := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(inner)
    said = "; ".join(f"{type(each).__name__} {each}" for each in chain)
    causes = [each for each in chain if isinstance(each, OSError) and str(each)]
    last = causes[-1] if causes else error
    why = shown(getattr(last, "strerror", None) or str(last) or type(last).__name__)
    found = (words for pattern, words in TROUBLES if re.search(pattern, said))
    words = next(found, "does not answer ({why}): " + START)
    return RendezvousAway(f"the rendezvous at {url} {words.format(why=why)}")


def shown(text: str) -> str:
    """Return what others say on one line, not too long, without a login in a URL."""
    return on_one_line(re.sub(r"//[^/@]*@", "//", text))[:200]
