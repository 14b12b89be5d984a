"""A peer's side of the rendezvous: its calls, and errors that say what to do."""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import socket
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import replace
from http.client import BadStatusLine, HTTPException
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote, unquote, urlsplit

import requests
from pydantic import TypeAdapter, ValidationError
from requests.adapters import HTTPAdapter
from urllib3.exceptions import ConnectTimeoutError, HTTPError
from urllib3.exceptions import TimeoutError as HTTPTimeout

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
    Inbox,
    Listed,
    Meeting,
    News,
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


class Adapter(HTTPAdapter):
    """requests' own, and the zone of an address (fe80::1%eth0) stays as it is."""

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> Any:
        """Where to connect, and how."""
        where, tls = super().build_connection_pool_key_attributes(request, verify, cert)
        host = unquote(where["host"])
        return {**where, "host": f"[{host}]" if ":" in host else host}, tls


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
        if any(each.startswith("https") for each in self.urls):
            self._session.verify = authorities()
        self._session.headers["Accept-Encoding"] = "identity"
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, Adapter(pool_maxsize=THREADS))

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
    ) -> tuple[list[News], str]:
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
        first, failed = self._at, dict[str, Exception]()
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
                    content = whole(response, url)
                moved_to = response.headers.get("Location", "")
                answer = understood(kind, response.status_code, content, url, moved_to)
            except (RendezvousAway, requests.RequestException) as why:
                failed[url] = why
            except (HTTPError, OSError) as why:
                failed[url] = why
            else:
                self._at = place
                return answer
        whys = [away(url, self.timeout, why) for url, why in failed.items()]
        if len(whys) == 1:
            raise whys[0]
        said = "; ".join(map(str, whys))
        raise RendezvousAway(f"none of {len(whys)} rendezvous servers answers: {said}")


def authorities() -> str | bool:
    """The certificates to trust: a file or folder that REQUESTS_CA_BUNDLE names.

    True: the usual ones. Raises ValueError for what holds none. (A session that asks no
    proxy does not look there by itself.)
    """
    place = os.environ.get("REQUESTS_CA_BUNDLE")
    if not place:
        return True
    try:
        folder = Path(place).is_dir()
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(
            None if folder else place, place if folder else None
        )
    except OSError as why:
        said = why.strerror or str(why)
        raise ValueError(
            f"no certificate can be read from {place!r}, which the variable "
            f"REQUESTS_CA_BUNDLE names ({said}): it must be in the format PEM"
        ) from None
    return place


def legal_url(url: str) -> str:
    """A server's URL without a slash at its end. Raises ValueError."""
    url = url.strip()
    wrong = not url.isprintable() or " " in url
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # reading a port may fail, too
    except ValueError:
        host = None
    if wrong or not host or parts.scheme not in ("http", "https") or parts.query:
        raise ValueError(f"url must look like http://127.0.0.1:8080, got {shown(url)}")
    if "@" in parts.netloc or parts.fragment:
        raise ValueError(
            f"url must have neither a user nor a password, got {shown(url)}: peers "
            "show the rendezvous who they are by tokens of their own"
        )
    return url.rstrip("/")


def proxies(url: str) -> dict[str, str]:
    """Return the environment's proxies for a server; none where it is near."""
    host = urlsplit(url).hostname or ""
    try:
        near = not ip_address(host.partition("%")[0]).is_global
    except ValueError:  # a name
        near = "." not in host or host.endswith(".local")
    return {} if near else dict(requests.utils.get_environ_proxies(url))


def shown(url: str) -> str:
    """A URL for a message: quoted, not too long, and nothing of a password is in it."""
    return repr(re.sub(r"(?s)(^\w+://)?.*@", r"\1…@", url)[:200])


def whole(response: requests.Response, url: str) -> bytes:
    """Return what an answer says, which has a limit. Raises RendezvousError."""
    content: bytes = response.raw.read(MAX_ANSWER + 1)
    if len(content) > MAX_ANSWER:
        raise RendezvousError(
            f"what answers at {url} is not a p2plab rendezvous: its answer has more "
            f"than {MAX_ANSWER} bytes. Check the address and the port"
        )
    left = response.raw.length_remaining  # None where its headers do not tell
    if left or (left is None and not content):  # headers may be cut, too
        raise ConnectionError("the answer was cut")
    return content


def understood(
    kind: TypeAdapter[Answer],
    status: int,
    content: bytes,
    url: str,
    moved_to: str = "",
) -> Answer:
    """Return what an answer's JSON says, checked, or raise the refusal.

    moved_to: where a redirection leads.
    """
    try:
        if 200 <= status < 300:
            return kind.validate_json(content or b"null")
        problem = PROBLEM.validate_json(content)
    except ValidationError:
        raise not_understood(status, url, moved_to, content) from None
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
    status: int, url: str, moved_to: str = "", content: bytes = b""
) -> RendezvousError:
    """The error for an answer that no rendezvous gives."""
    if status in GATEWAY:
        return RendezvousAway(
            f"something in front of {url} says that the rendezvous is away "
            f"(HTTP {status}): try again in a moment, or ask who runs it"
        )
    if 300 <= status < 400 and moved_to:
        to = shown(moved_to.partition("/rooms/")[0])
        return RendezvousError(
            f"{url} redirects to {to} (HTTP {status}), which peers do not follow: if "
            "that is the rendezvous, take that address; if it is a page to sign in to "
            "the network, sign in with a browser first"
        )
    if status == 400 and (b"HTTPS" in content or speaks_tls(url)):
        return RendezvousError(f"the rendezvous at {url} speaks TLS: {with_tls(url)}")
    if status == 407:
        return RendezvousError(
            f"a proxy on the way to {url} wants a password (HTTP 407): write it into "
            "HTTP_PROXY, or let NO_PROXY name the host"
        )
    return RendezvousError(
        f"what answers at {url} is not a p2plab rendezvous (HTTP {status}): "
        "check the address and the port; if this network has a page to sign in, open "
        "it in a browser first"
    )


def with_tls(url: str) -> str:
    """The cure where http meets TLS."""
    return f"write https{url.removeprefix('http')}"


def speaks_tls(url: str) -> bool:
    """Whether TLS answers there; its certificate is not looked at."""
    parts = urlsplit(url)
    try:
        ssl.get_server_certificate((parts.hostname or "", parts.port or 80), timeout=2)
    except (OSError, ValueError):
        return False
    return True


def away(url: str, timeout: float, error: Exception) -> RendezvousAway:
    """The error for no answer at all, with its true cause."""
    if isinstance(error, RendezvousAway):
        return error
    why = cause(url, timeout, [*causes(error)])
    return RendezvousAway(f"the rendezvous at {url} does not answer: {why}")


def causes(error: object) -> Iterator[BaseException]:
    """An error, and those that requests and urllib3 have wrapped into it."""
    if isinstance(error, BaseException):
        yield error
        for each in (*error.args, getattr(error, "reason", None), error.__cause__):
            yield from causes(each)


def cause(url: str, timeout: float, errors: Sequence[BaseException]) -> str:
    """What stands behind errors, the outermost first, and what to do about it."""
    check = (
        "check the address, and whether it runs (p2plab.Lab() in a notebook or "
        "`p2plab rendezvous` in a shell starts one)"
    )
    plain = url.startswith("http:")
    if isinstance(errors[0], requests.exceptions.ProxyError):
        said = on_one_line(str(errors[-1]))
        return (
            f"a proxy on the way does not let us through ({said}): correct "
            "HTTP_PROXY or HTTPS_PROXY, or let NO_PROXY name the host"
        )
    for each in reversed(errors):
        said = getattr(each, "strerror", None) or str(each) or type(each).__name__
        said = on_one_line(said)
        match each:
            case ssl.SSLCertVerificationError():
                return (
                    f"its certificate is not trusted ({each.verify_message}). If you "
                    "know that it is the right one, put it (or its authority's) in a "
                    "file, name the file in the variable REQUESTS_CA_BUNDLE, and make "
                    "the peer anew; it must be made for the name in the address, and "
                    "be valid today"
                )
            case ssl.SSLError() if each.reason:
                return (
                    f"TLS fails with what listens there ({each.reason}). If it was "
                    f"started without a certificate, write http{url[5:]}"
                )
            case socket.gaierror():
                return (
                    f"the name {urlsplit(url).hostname} cannot be looked up ({said}): "
                    "check its spelling and the network, or take the number of its "
                    "address"
                )
            case HTTPTimeout() | TimeoutError() | requests.Timeout():
                begun = not any(isinstance(e, ConnectTimeoutError) for e in errors)
                what = "it gave no answer" if begun else "no connection"
                return (
                    f"{what} within {timeout:g} s: it may be busy, or packets get "
                    f"lost: try again, or {check}"
                )
            case OSError(errno=errno.EMFILE | errno.ENFILE):
                return (
                    f"this computer lets us open no more files ({said}): close peers "
                    "and labs, restart the notebook's kernel, or raise the limit "
                    "(`ulimit -n 4096` before the start)"
                )
            case ConnectionRefusedError():
                return f"nobody listens there ({said}): {check}"
            case OSError(errno=errno.ENETUNREACH | errno.EHOSTUNREACH):
                return f"no way leads there ({said}): join its network, or {check}"
            case ConnectionError() | HTTPException() if plain and speaks_tls(url):
                return f"it speaks TLS: {with_tls(url)}"
            case BadStatusLine() if not isinstance(each, ConnectionError):
                return f"what listens there does not speak HTTP ({said}): {check}"
            case ConnectionError() | HTTPException():
                return f"the connection ended without a whole answer ({said}): {check}"
            case OSError(errno=int()):
                return f"{said}: {check}"
    said = str(errors[0]) or type(errors[0]).__name__
    return f"{said}: {check}"
