"""A peer's side of the rendezvous: five calls, and errors that say what to do."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from typing import Any, Self, TypeVar
from urllib.parse import quote, urlsplit

import requests

from p2plab.errors import (
    NameTaken,
    P2PLabError,
    PeerNotFound,
    RendezvousAway,
    RendezvousError,
)
from p2plab.rendezvous.model import (
    DEFAULT_LEASE,
    MAX_LEASE,
    MAX_PAGE,
    MIN_LEASE,
    PeerInfo,
    Registration,
    legal_address,
    legal_name,
)

MAX_ANSWER = 1 << 20  # bytes; a page of a hundred peers has less than 60,000
MAX_PAGES = 10_000
AWAY = (502, 503, 504)  # a gateway's words for it

Answer = TypeVar("Answer")


class RendezvousClient:
    """Talks to the rendezvous at a URL; may be used from several threads.

    timeout: seconds to connect, and seconds of silence before we give up.
    Every call raises RendezvousAway when nobody answers, or Redis is away behind it,
    and RendezvousError for any other refusal.
    """

    def __init__(self, url: str, timeout: float = 2.0) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"url must look like http://127.0.0.1:8080, got {url!r}")
        if timeout <= 0:
            raise ValueError(f"timeout must be above 0 s, got {timeout}")
        self.url = url.rstrip("/")
        self.timeout = timeout
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy, no password from ~/.netrc
        self._lock = threading.Lock()  # a session is not promised to be thread-safe

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

        def registration(answer: Any) -> Registration:
            peer = peer_info(answer["peer"])
            proof = str(answer["token"] or token)
            return Registration(peer.name, proof, granted(answer), peer.seen)

        return self._ask(registration, "PUT", peer_path(name), claim, token)

    def heartbeat(self, registration: Registration) -> float:
        """Start the lease anew; returns its seconds.

        Raises PeerNotFound when it has ended (register again), NameTaken when somebody
        else has the name by now.
        """
        path = f"{peer_path(registration.name)}/heartbeat"
        return self._ask(granted, "POST", path, token=registration.token)

    def peers(self) -> list[PeerInfo]:
        """All peers, in the order of their names."""

        def page(answer: Any) -> tuple[list[PeerInfo], str]:
            return [peer_info(peer) for peer in answer["peers"]], answer["next"] or ""

        found: list[PeerInfo] = []
        cursor = ""
        for _ in range(MAX_PAGES):
            path = f"/peers?limit={MAX_PAGE}&cursor={quote(cursor, safe='')}"
            peers, cursor = self._ask(page, "GET", path)
            found += peers
            if not cursor:
                return found
        raise RendezvousError(f"the list of peers at {self.url} does not end")

    def peer(self, name: str) -> PeerInfo:
        """Look one peer up. Raises PeerNotFound."""
        return self._ask(peer_info, "GET", peer_path(name))

    def leave(self, registration: Registration) -> None:
        """Give the name back; if it was lost already, that is no error."""
        path = peer_path(registration.name)
        try:
            self._ask(lambda answer: None, "DELETE", path, token=registration.token)
        except (PeerNotFound, NameTaken):
            return

    def close(self) -> None:
        """Close the connection; names stay held until their leases end."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *why: object) -> None:
        self.close()

    def _ask(
        self,
        read: Callable[[Any], Answer],
        method: str,
        path: str,
        body: object = None,
        token: str = "",
    ) -> Answer:
        """One request; `read` takes what we need out of the answer's JSON."""
        status, content = self._exchange(method, path, body, token)
        try:
            answer = json.loads(content) if content else None
            if 200 <= status < 300:
                return read(answer)
            refusal = refused(answer, self.url)
        except (KeyError, TypeError, ValueError, RecursionError):
            raise not_understood(status, self.url) from None
        raise refusal

    def _exchange(
        self, method: str, path: str, body: object, token: str
    ) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        data = None if body is None else json.dumps(body, allow_nan=False)
        try:
            with (
                self._lock,
                self._session.request(
                    method,
                    self.url + path,
                    data=data,
                    headers=headers,
                    timeout=self.timeout,
                    allow_redirects=False,
                    stream=True,
                ) as response,
            ):
                return response.status_code, read_all(response)
        except requests.RequestException as error:
            raise away(self.url, self.timeout, error) from error


def peer_path(name: str) -> str:
    """The path of a peer. Raises ValueError for an illegal name."""
    return f"/peers/{quote(legal_name(name), safe='')}"


def peer_info(answer: Any) -> PeerInfo:
    """A peer as the rendezvous describes it, checked: it may be somebody else's."""
    ports = int(answer["tcp_port"]), int(answer["udp_port"])
    if not all(1 <= port <= 65535 for port in ports):
        raise ValueError(f"ports are in 1..65535, got {ports}")
    addresses = tuple(legal_address(address) for address in answer["addresses"])
    if not addresses:
        raise ValueError("a peer has at least one address")
    return PeerInfo(
        legal_name(answer["name"]), addresses, *ports, legal_address(answer["seen"])
    )


def granted(answer: Any) -> float:
    """The seconds of a lease, checked: renewing it must not become a flood."""
    lease = float(answer["lease"])
    if not MIN_LEASE <= lease <= MAX_LEASE:
        raise ValueError(f"a lease has {MIN_LEASE} to {MAX_LEASE} s, got {lease}")
    return lease


def read_all(response: requests.Response) -> bytes:
    """The answer, up to a size."""
    content = b""
    for piece in response.iter_content(1 << 16):
        content += piece
        if len(content) > MAX_ANSWER:
            raise RendezvousError(f"an answer has more than {MAX_ANSWER} bytes")
    return content


def refused(answer: Any, url: str) -> P2PLabError:
    """The error that stands for a refusal."""
    text = f"{answer['message']} {answer['do']}"
    match answer["error"]:
        case "name_taken" | "not_owner":
            wait = float(answer["retry_after"] or 0)
            if wait:
                text += f" Its lease ends in {wait:.0f} s unless it is renewed."
            return NameTaken(text, wait)
        case "no_such_peer":
            return PeerNotFound(text)
        case "redis_away":
            return RendezvousAway(f"{text} (rendezvous {url})")
        case _:
            return RendezvousError(text)


def not_understood(status: int, url: str) -> RendezvousError:
    """The error for an answer that no rendezvous gives."""
    if status in AWAY:
        return RendezvousAway(
            f"something in front of {url} says that the rendezvous is away "
            f"(HTTP {status}): try again in a moment, or ask who runs it"
        )
    return RendezvousError(
        f"what answers at {url} is not a p2plab rendezvous (HTTP {status}): "
        "check the address and the port"
    )


def away(url: str, timeout: float, error: Exception) -> RendezvousAway:
    """The error for no answer at all."""
    slow = isinstance(error, requests.Timeout)
    what = f"gave no answer within {timeout:g} s" if slow else "does not answer"
    return RendezvousAway(
        f"the rendezvous at {url} {what}: check the address, and whether it runs "
        "(p2plab.Lab() in a notebook or `p2plab rendezvous` in a shell starts one)"
    )
