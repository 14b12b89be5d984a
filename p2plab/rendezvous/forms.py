"""The JSON of the rendezvous: what is asked, and what is answered."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from p2plab.rendezvous.introductions import Entry
from p2plab.rendezvous.model import (
    DEFAULT_LEASE,
    MAX_ADDRESSES,
    MAX_EVENTS,
    MAX_LEASE,
    MAX_WHY,
    MIN_LEASE,
    legal_address,
    legal_name,
    legal_session,
)

START: float = 0.05  # s after the answer at which both begin to probe

Address = Annotated[str, AfterValidator(legal_address)]
PeerName = Annotated[str, AfterValidator(legal_name), Field(examples=["ann"])]
Session = Annotated[
    str, AfterValidator(legal_session), Field(examples=["00c0ffee00c0ffee"])
]
Port = Annotated[int, Field(ge=1, le=65535, examples=[5001])]


class Form(BaseModel):
    """What a caller sends: nothing more, and nothing of another kind."""

    model_config = ConfigDict(strict=True, extra="forbid")


class Claim(Form):
    """What a peer says about itself. lease: wished, in seconds."""

    addresses: list[Address] = Field(
        min_length=1, max_length=MAX_ADDRESSES, examples=[["192.168.1.7"]]
    )
    tcp_port: Port
    udp_port: Port
    lease: float = Field(DEFAULT_LEASE, ge=MIN_LEASE, le=MAX_LEASE)


class Wish(Form):
    """Who wants to be introduced to whom. session: chosen by the caller."""

    caller: PeerName = Field(alias="from")
    to: PeerName
    session: Session


class Consent(Form):
    """What the one who was asked says, or with a refusal the one who has asked.

    why: words for the caller of a refusal.
    """

    name: PeerName
    accept: bool
    why: str = Field("", max_length=MAX_WHY)


class Observation(Form):
    """One thing that a peer saw. at: the server's clock [ms since 1970]."""

    at: float = Field(ge=0, le=1e15, allow_inf_nan=False)
    what: str = Field(min_length=1, max_length=40)
    note: str = Field("", max_length=MAX_WHY)


class Report(Form):
    """What a peer saw of a meeting; it replaces what it has reported before."""

    name: PeerName
    events: list[Observation] = Field(max_length=MAX_EVENTS)


class Info(BaseModel):
    """What answers here. docs: where to try the requests."""

    service: str = "p2plab rendezvous"
    docs: str = "/docs"


class Record(BaseModel):
    """What the rendezvous knows of a peer, told to that peer alone."""

    name: str
    addresses: list[str]
    tcp_port: int
    udp_port: int
    seen: str


class Granted(BaseModel):
    """A name given. lease: seconds. token: null for who came with its own.

    nonce: the user name of STUN requests to stun_port. now: [ms since 1970].
    """

    peer: Record
    lease: float
    token: str | None
    nonce: str
    stun_port: int | None
    now: int


class Renewed(BaseModel):
    """How long a name stays its owner's, in seconds from now; and a fresh nonce."""

    lease: float
    nonce: str


class Public(BaseModel):
    """What everybody may know of a peer. since: [ms since 1970]."""

    name: str
    since: int


class List(BaseModel):
    """A part of the list. next: the cursor of the next one. at: see /changes."""

    peers: list[Public]
    next: str | None
    at: str


class Coming(BaseModel):
    """Somebody came or went."""

    name: str
    what: str = Field(examples=["join", "leave"])


class News(BaseModel):
    """What changed. at: where to go on. reset: some was missed, so list anew."""

    changes: list[Coming]
    at: str
    reset: bool


class State(BaseModel):
    """How far an introduction is. now: [ms since 1970]."""

    session: str
    state: str = Field(examples=["asked", "met", "refused", "withdrawn"])
    now: int


class Settled(BaseModel):
    """What became of an introduction. now: [ms since 1970]."""

    state: str = Field(examples=["met", "refused", "withdrawn"])
    now: int


class AskedEvent(BaseModel):
    """Somebody wants to be introduced to you, or waits for that no more."""

    id: str
    what: Literal["asked", "withdrawn"]
    session: str
    peer: str
    now: int


class MetEvent(BaseModel):
    """You have been introduced. candidates: kind, address, UDP port; the best first.

    key: 32 bytes in hex. start_in: seconds from now at which both begin.
    """

    id: str
    what: Literal["met"] = "met"
    session: str
    peer: str
    role: Literal["caller", "callee"]
    candidates: list[tuple[Literal["host", "observed"], str, int]]
    addresses: list[str]
    tcp_port: int
    udp_port: int
    since: int
    key: str
    start_in: float
    now: int


class RefusedEvent(BaseModel):
    """Whom you asked does not want to."""

    id: str
    what: Literal["refused"] = "refused"
    session: str
    peer: str
    why: str
    now: int


class Inbox(BaseModel):
    """What came in. next: after which event to go on."""

    events: list[AskedEvent | MetEvent | RefusedEvent]
    next: str


class Witness(BaseModel):
    """One thing that somebody saw; who: null for the rendezvous."""

    at: float
    who: str | None
    what: str
    note: str


class Meeting(BaseModel):
    """What both peers and the rendezvous saw, on the clock of the rendezvous."""

    events: list[Witness]


def event_of(entry: Entry, now: int) -> AskedEvent | MetEvent | RefusedEvent:
    """Return an entry of an inbox as JSON has it."""
    id, session, peer = entry.id, entry.session, entry.peer
    if entry.what in ("asked", "withdrawn"):
        what: Any = entry.what
        return AskedEvent(id=id, what=what, session=session, peer=peer, now=now)
    if entry.what == "refused":
        return RefusedEvent(id=id, session=session, peer=peer, why=entry.why, now=now)
    addresses, tcp, udp, _, *observed, since = entry.card.split("|")
    places = {("host", each, int(udp)): None for each in addresses.split(" ")}
    for each in filter(None, observed):
        address, _, port = each.partition(" ")
        if ("host", address, int(port)) not in places:
            places["observed", address, int(port)] = None
    return MetEvent(
        id=id,
        session=session,
        peer=peer,
        role=entry.role,  # type: ignore[arg-type]  # one of the two
        candidates=list(places),  # type: ignore[arg-type]  # as above
        addresses=addresses.split(" "),
        tcp_port=int(tcp),
        udp_port=int(udp),
        since=int(since),
        key=entry.key,
        start_in=max(entry.answered / 1000 + START - now / 1000, 0.0),
        now=now,
    )
