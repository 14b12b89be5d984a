"""The rendezvous over HTTP: names, lists, introductions, inboxes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import APIRouter, Depends, FastAPI, Path, Query
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from pydantic import AfterValidator

from p2plab.errors import RendezvousError
from p2plab.rendezvous import forms
from p2plab.rendezvous.database import Refused
from p2plab.rendezvous.hub import Hub, Look
from p2plab.rendezvous.model import (
    MAX_NAME_BYTES,
    MAX_PAGE,
    MAX_WAIT,
    PeerInfo,
    legal_name,
    legal_session,
)
from p2plab.rendezvous.names import source_of
from p2plab.rendezvous.nodes import AWAY
from p2plab.rendezvous.refusals import refuse_in_one_shape, responses
from p2plab.rendezvous.short_way import Caller, ShortWay
from p2plab.rendezvous.store import Store

BEGINNING: Final = "0-0"
STREAM: Final = {
    "description": "One answer, or with `follow` one a line.",
    "content": {"application/x-ndjson": {}},
}


@dataclass(slots=True)
class Service:
    """What answers: the store, and the hub for those who wait.

    stun_port: where STUN is answered, or None.
    disagreement: why this server must not serve, or empty.
    """

    store: Store
    hub: Hub
    stun_port: int | None = None
    disagreement: str = ""
    loop: asyncio.AbstractEventLoop | None = None  # while it runs

    async def greet(self) -> None:
        """Agree with the other servers of this Redis, as soon as it answers."""
        self.disagreement = await self.store.database.agree()


def nobody() -> None:
    """Needs no token."""


anybody = HTTPBearer(auto_error=False, description="The token, for who has the name.")
owners = HTTPBearer(description="The token that came with the name.")

Anyone = Annotated[Caller, Depends(nobody)]
Claimant = Annotated[Caller, Depends(anybody)]
Owner = Annotated[Caller, Depends(owners)]
Room = Annotated[str, Path(examples=["lobby"]), AfterValidator(legal_name)]
Name = Annotated[str, Path(examples=["ann"]), AfterValidator(legal_name)]
Asked = Annotated[str, Query(examples=["ann"]), AfterValidator(legal_name)]
Session = Annotated[
    str, Path(examples=["00c0ffee00c0ffee"]), AfterValidator(legal_session)
]
Cursor = Annotated[str, Query(max_length=MAX_NAME_BYTES)]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]
After = Annotated[str, Query(pattern=r"^[0-9]{1,15}-[0-9]{1,15}$")]
Wait = Annotated[float, Query(ge=0, le=MAX_WAIT, allow_inf_nan=False)]

router = APIRouter()


def service_of(caller: Caller) -> Service:
    """What answers this caller. Raises Refused: shards_differ."""
    service: Service = caller.service
    if service.disagreement:
        raise Refused("shards_differ", 60.0)
    return service


@router.get("/", responses=responses(429))
async def info(caller: Anyone) -> forms.Info:
    """Say what answers here, and that Redis does too."""
    await service_of(caller).store.database.ping()
    return forms.Info()


@router.get("/rooms/{room}/peers/{name}", responses=responses(404, 429))
async def look_up(caller: Anyone, room: Room, name: Name) -> forms.Public:
    """Say whether a peer is there; how to reach it, an introduction tells."""
    found = await service_of(caller).store.names.get(room, name)
    return forms.Public(name=name, since=round(found.since * 1000))


@router.put(
    "/rooms/{room}/peers/{name}",
    status_code=201,
    response_model=forms.Granted,
    responses=responses(408, 409, 413, 429)
    | {200: {"model": forms.Granted, "description": "The owner came back."}},
)
async def register(
    caller: Claimant, room: Room, name: Name, form: forms.Claim
) -> tuple[int, forms.Granted]:
    """Take a free name (201), or come back to it with its token (200)."""
    service = service_of(caller)
    addresses = tuple(form.addresses)
    peer = PeerInfo(name, addresses, form.tcp_port, form.udp_port, caller.seen)
    grant = await service.store.names.claim(room, peer, form.lease, caller.token)
    record = forms.Record(
        name=name,
        addresses=form.addresses,
        tcp_port=form.tcp_port,
        udp_port=form.udp_port,
        seen=caller.seen,
    )
    return 201 if grant.created else 200, forms.Granted(
        peer=record,
        lease=grant.lease,
        token=grant.token,
        nonce=grant.nonce,
        stun_port=service.stun_port,
        now=grant.now,
    )


@router.post("/rooms/{room}/peers/{name}/heartbeat", responses=responses(401, 403, 404))
async def heartbeat(caller: Owner, room: Room, name: Name) -> forms.Renewed:
    """Start the lease anew."""
    names = service_of(caller).store.names
    lease, nonce = await names.beat(room, name, caller.token)
    return forms.Renewed(lease=lease, nonce=nonce)


@router.delete(
    "/rooms/{room}/peers/{name}", status_code=204, responses=responses(401, 403, 404)
)
async def leave(caller: Owner, room: Room, name: Name) -> None:
    """Give the name back."""
    await service_of(caller).store.names.leave(room, name, caller.token)


@router.get("/rooms/{room}/peers", responses=responses(429))
async def page(
    caller: Anyone, room: Room, cursor: Cursor = "", limit: Limit = MAX_PAGE
) -> forms.List:
    """List the peers in the order of names; go on with cursor = the answer's next."""
    found = await service_of(caller).store.names.page(room, cursor, limit)
    peers = [
        forms.Public(name=peer.name, since=round(peer.since * 1000))
        for peer in found.peers
    ]
    return forms.List(peers=peers, next=found.next, at=found.at)


@router.get("/rooms/{room}/changes", responses=responses(429))
async def changes(
    caller: Anyone, room: Room, after: After = BEGINNING, wait: Wait = 0
) -> forms.News:
    """Say who came and went after a place (`at` of a list), or wait for it."""
    service = service_of(caller)

    async def look() -> Look[forms.News]:
        found = await service.store.changes.look(room, after)
        if not found.changes and not found.reset:
            return Look(None, found.ends)
        news = [forms.Coming(name=c.name, what=c.what) for c in found.changes]
        return Look(forms.News(changes=news, at=found.at, reset=found.reset))

    key, source = service.store.changes.key(room), source_of(caller.seen)
    news = await service.hub.wait(key, source, wait, look)
    return news or forms.News(changes=[], at=after, reset=False)


@router.post(
    "/rooms/{room}/introductions",
    status_code=202,
    responses=responses(401, 403, 404, 408, 409, 413, 429),
)
async def introduce(caller: Owner, room: Room, form: forms.Wish) -> forms.State:
    """Ask a peer whether it wants to be introduced; asking again knocks again."""
    state, now = await service_of(caller).store.introductions.ask(
        room, form.caller, caller.token, form.session, form.to, caller.seen
    )
    return forms.State(session=form.session, state=state, now=now)


@router.post(
    "/rooms/{room}/introductions/{session}",
    responses=responses(401, 403, 404, 408, 409, 410, 413),
)
async def answer(
    caller: Owner, room: Room, session: Session, form: forms.Consent
) -> forms.Settled:
    """Accept or refuse, once; the inboxes of both tell what came of it.

    Who has asked withdraws by refusing, as long as there is no answer.
    """
    state, now = await service_of(caller).store.introductions.answer(
        room, form.name, caller.token, session, form.accept, form.why
    )
    return forms.Settled(state=state, now=now)


@router.get(
    "/rooms/{room}/peers/{name}/inbox",
    response_model=forms.Inbox,
    responses=responses(401, 403, 404, 429) | {200: STREAM},
)
async def inbox(
    caller: Owner,
    room: Room,
    name: Name,
    after: After = BEGINNING,
    wait: Wait = 0,
    follow: bool = False,
) -> forms.Inbox | None:
    """Read one's inbox, or wait until something comes; all again without `after`.

    With `follow`, the answer is a line of JSON at once and for all that comes, until
    nothing has come for the time to wait; so a peer need not ask again each time.
    """
    service, token = service_of(caller), caller.token
    place, silent = after, not follow

    async def look() -> Look[forms.Inbox]:
        nonlocal place, silent
        entries, last, now = await service.store.introductions.read(
            room, name, token, place
        )
        if not entries and silent:
            return Look(None)
        place, silent = last, True
        events = [forms.event_of(entry, now) for entry in entries]
        return Look(forms.Inbox(events=events, next=place))

    key = service.store.introductions.inbox_key(room, name)
    tell = caller.say if follow else None
    source = source_of(caller.seen)
    found = await service.hub.wait(key, source, wait, look, once=True, tell=tell)
    return found or forms.Inbox(events=[], next=place)


@router.put(
    "/rooms/{room}/introductions/{session}/events",
    status_code=204,
    responses=responses(401, 404, 408, 413),
)
async def report(
    caller: Owner, room: Room, session: Session, form: forms.Report
) -> None:
    """Say what one has seen of a meeting."""
    events = [event.model_dump() for event in form.events]
    await service_of(caller).store.introductions.report(
        room, form.name, caller.token, session, events
    )


@router.get(
    "/rooms/{room}/introductions/{session}/events", responses=responses(401, 404, 429)
)
async def meeting(
    caller: Owner, room: Room, session: Session, name: Asked
) -> forms.Meeting:
    """Tell one of the two what both and the rendezvous have seen."""
    rows = await service_of(caller).store.introductions.meeting(
        room, name, caller.token, session
    )
    return forms.Meeting(events=[forms.Witness(**row) for row in rows])


def make_app(service: Service) -> ShortWay:
    """The service as an ASGI application; it closes its Redis when it ends."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.loop = asyncio.get_running_loop()
        with suppress(*AWAY):  # who asks is told, and the hub goes on trying
            await service.greet()
        if not service.disagreement:
            service.hub.start(service.greet)
            yield
        await service.hub.close()
        await service.store.database.nodes.aclose()
        if service.disagreement:
            raise RendezvousError(service.disagreement)

    app = FastAPI(
        title="p2plab rendezvous",
        description="Peers register here, are introduced, and then talk directly.",
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.include_router(router)
    refuse_in_one_shape(app)
    routes = [route for route in router.routes if isinstance(route, APIRoute)]
    return ShortWay(app, routes, service, owners)
