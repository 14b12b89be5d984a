"""What a rendezvous answers, checked: it may be somebody else's."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from p2plab.errors import (
    NameTaken,
    P2PLabError,
    PeerNotFound,
    RendezvousAway,
    RendezvousError,
)
from p2plab.rendezvous.model import (
    MAX_ADDRESSES,
    MAX_LEASE,
    MAX_WHY,
    MIN_LEASE,
    Asked,
    Candidate,
    Change,
    Declined,
    Listed,
    Met,
    Registration,
    Seen,
    Withdrawn,
    legal_address,
    legal_name,
    legal_session,
)

KEY: Final = 32  # bytes
MAX_START: Final = 10.0  # seconds that we would wait with the first probe
AWAY: Final = (502, 503, 504)  # a gateway's words for it

# What reading an answer raises that is not as it should be, with endless numbers, too.
NONSENSE: Final = (
    *(KeyError, TypeError, ValueError, AttributeError),
    *(RecursionError, OverflowError),
)

Event = Asked | Withdrawn | Met | Declined
Answer = TypeVar("Answer")


class News(NamedTuple):
    """What changed in a room. at: where to go on.

    reset: some changes were missed, so the room must be listed anew.
    """

    changes: list[Change]
    at: str
    reset: bool


def registration(answer: Any, token: str, room: str) -> Registration:
    """A name that was granted."""
    peer = answer["peer"]
    stun_port = answer.get("stun_port")
    return Registration(
        legal_name(peer["name"]),
        str(answer["token"] or token),
        lease(answer),
        legal_address(peer["seen"]),
        room,
        str(answer["nonce"]),
        None if stun_port is None else port(stun_port),
    )


def lease(answer: Any) -> float:
    """The seconds of a lease: renewing it must not become a flood."""
    seconds = float(answer["lease"])
    if not MIN_LEASE <= seconds <= MAX_LEASE:
        raise ValueError(f"a lease has {MIN_LEASE} to {MAX_LEASE} s, got {seconds}")
    return seconds


def listed(answer: Any) -> Listed:
    """A peer as everybody may know it."""
    return Listed(legal_name(answer["name"]), moment(answer["since"]))


def page(answer: Any) -> tuple[list[Listed], str, str]:
    """A part of the list, the cursor of the next one or "", and where changes begin."""
    peers = [listed(peer) for peer in answer["peers"]]
    return peers, str(answer["next"] or ""), str(answer["at"])


def news(answer: Any) -> News:
    """What changed in a room."""
    changes = []
    for each in answer["changes"]:
        if each["what"] not in ("join", "leave"):
            raise ValueError("a change is a join or a leave")
        changes.append(Change(legal_name(each["name"]), each["what"]))
    return News(changes, str(answer["at"]), bool(answer["reset"]))


def inbox(answer: Any) -> tuple[list[Event], str]:
    """What came in, and where to go on."""
    return [event(each) for each in answer["events"]], str(answer["next"])


def event(answer: Any) -> Event:
    """One thing that came in."""
    session = legal_session(str(answer["session"]))
    peer, now = legal_name(answer["peer"]), moment(answer["now"])
    match answer["what"]:
        case "asked":
            return Asked(session, peer, now)
        case "withdrawn":
            return Withdrawn(session, peer, now)
        case "refused":
            return Declined(session, peer, str(answer["why"])[:MAX_WHY], now)
        case "met":
            return met(answer, session, peer, now)
        case other:
            raise ValueError(f"an inbox has no {other!r}")


def met(answer: Any, session: str, peer: str, now: float) -> Met:
    """An introduction that took place."""
    addresses = tuple(legal_address(address) for address in answer["addresses"])
    candidates = tuple(
        Candidate(str(kind), legal_address(address), port(number))
        for kind, address, number in answer["candidates"]
    )
    if not addresses or len(candidates) > MAX_ADDRESSES + 2:
        raise ValueError("a peer has some addresses, and not too many")
    key, start_in = bytes.fromhex(answer["key"]), float(answer["start_in"])
    if len(key) != KEY or not 0 <= start_in <= MAX_START:
        raise ValueError("a key has 32 bytes, and both begin soon")
    if answer["role"] not in ("caller", "callee"):
        raise ValueError("a peer is the caller or the callee")
    return Met(
        session,
        peer,
        answer["role"],
        candidates,
        addresses,
        port(answer["tcp_port"]),
        port(answer["udp_port"]),
        key,
        start_in,
        moment(answer["since"]),
        now,
    )


def meeting(answer: Any) -> list[Seen]:
    """What was seen of a meeting, in the order of time."""
    return [
        Seen(
            moment(each["at"]),
            str(each["what"]),
            str(each["note"]),
            None if each["who"] is None else legal_name(each["who"]),
        )
        for each in answer["events"]
    ]


def nows(answer: Any) -> list[float]:
    """What time it was at the rendezvous when it wrote this, if it says so."""
    if not isinstance(answer, dict):
        return []
    rows = [answer, *answer.get("events", [])]
    return [moment(each["now"]) for each in rows if "now" in each]


def port(value: Any) -> int:
    """A port that a peer can listen on."""
    number = int(value)
    if not 1 <= number <= 65535:
        raise ValueError(f"ports are in 1..65535, got {number}")
    return number


def moment(value: Any) -> float:
    """Milliseconds since 1970, as seconds."""
    seconds = float(value) / 1000
    if not 0 <= seconds <= 1e12:
        raise ValueError(f"a moment is a number of milliseconds, got {value!r}")
    return seconds


def nothing(answer: Any) -> None:
    """Take nothing out of an answer."""


def understood(
    read: Callable[[Any], Answer], status: int, content: bytes, url: str
) -> Answer:
    """Return what `read` takes out of an answer's JSON, or raise the refusal.

    The last line of an answer that goes on may be a refusal, too.
    """
    try:
        answer = json.loads(content) if content else None
        late = isinstance(answer, dict) and "error" in answer
        if 200 <= status < 300 and not late:
            return read(answer)
        refusal = refused(answer, url)
    except NONSENSE:
        raise not_understood(status, url) from None
    raise refusal


def refused(answer: Any, url: str) -> P2PLabError:
    """The error that stands for a refusal."""
    text = f"{answer['message']} {answer['do']}"
    wait = float(answer["retry_after"] or 0)
    match answer["error"]:
        case "name_taken" | "not_owner":
            if wait:
                text += f" Its lease ends in {wait:.0f} s unless it is renewed."
            return NameTaken(text, wait)
        case "no_such_peer" | "not_registered":
            return PeerNotFound(text)
        case "redis_away" | "shards_differ":
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


def all_away(whys: Sequence[RendezvousAway]) -> RendezvousAway:
    """The error when no server is left to ask: what each of them said."""
    if len(whys) == 1:
        return whys[0]
    said = "; ".join(map(str, whys))
    return RendezvousAway(f"none of {len(whys)} rendezvous servers answers: {said}")
