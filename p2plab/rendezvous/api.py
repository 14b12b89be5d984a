"""The rendezvous over HTTP: register, beat, list, look up, leave."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Header, Path, Query, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from redis.asyncio import Redis

from p2plab.rendezvous.model import (
    DEFAULT_LEASE,
    MAX_ADDRESSES,
    MAX_LEASE,
    MAX_NAME_BYTES,
    MAX_PAGE,
    MIN_LEASE,
    Limits,
    PeerInfo,
    legal_address,
    legal_name,
)
from p2plab.rendezvous.refusals import refuse_in_one_shape, responses
from p2plab.rendezvous.store import Grant, Page, Refused, Store


class Claim(BaseModel):
    """What a peer says about itself. lease: wished, in seconds."""

    model_config = ConfigDict(strict=True, extra="forbid")

    addresses: list[Annotated[str, AfterValidator(legal_address)]] = Field(
        min_length=1, max_length=MAX_ADDRESSES, examples=[["192.168.1.7"]]
    )
    tcp_port: int = Field(ge=1, le=65535, examples=[5001])
    udp_port: int = Field(ge=1, le=65535, examples=[5002])
    lease: float = Field(DEFAULT_LEASE, ge=MIN_LEASE, le=MAX_LEASE)


class Lease(BaseModel):
    """How long a name stays its owner's, in seconds from now."""

    lease: float


class Info(BaseModel):
    """What answers here. peers: names held now. docs: where to try the requests."""

    service: str = "p2plab rendezvous"
    peers: int
    docs: str = "/docs"


async def store_of(request: Request) -> Store:
    """The store that the server put there when it started."""
    store = request.app.state.store
    assert isinstance(store, Store)
    return store


async def token_of(authorization: Annotated[str, Header()] = "") -> str:
    """The token of `Authorization: Bearer TOKEN`, empty without one."""
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


async def seen_of(request: Request) -> str:
    """The caller's address as the socket tells it; no header is believed."""
    assert request.client is not None, "a TCP connection has two ends"
    return legal_address(request.client.host.partition("%")[0])


Names = Annotated[Store, Depends(store_of)]
Token = Annotated[str, Depends(token_of)]
Seen = Annotated[str, Depends(seen_of)]
Name = Annotated[str, Path(examples=["ann"]), AfterValidator(legal_name)]
Cursor = Annotated[str, Query(max_length=MAX_NAME_BYTES)]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]

router = APIRouter()


@router.get("/", responses=responses())
async def info(store: Names) -> Info:
    """Say what answers here, and that Redis does too."""
    return Info(peers=await store.count())


@router.get("/peers", responses=responses())
async def page(store: Names, cursor: Cursor = "", limit: Limit = MAX_PAGE) -> Page:
    """List the peers in the order of names; go on with cursor = the answer's next."""
    return await store.page(cursor, limit)


@router.get("/peers/{name}", responses=responses(404))
async def look_up(name: Name, store: Names) -> PeerInfo:
    """Tell where a peer can be reached."""
    return await store.get(name)


@router.put(
    "/peers/{name}",
    status_code=201,
    responses=responses(408, 409, 413, 429)
    | {200: {"model": Grant, "description": "The owner came back."}},
)
async def register(
    name: Name, claim: Claim, store: Names, token: Token, seen: Seen, response: Response
) -> Grant:
    """Take a free name (201), or refresh it with its token (200)."""
    peer = PeerInfo(name, tuple(claim.addresses), claim.tcp_port, claim.udp_port, seen)
    grant = await store.claim(peer, claim.lease, token)
    if grant.token is None:
        response.status_code = 200
    return grant


@router.post("/peers/{name}/heartbeat", responses=responses(401, 403, 404))
async def heartbeat(name: Name, store: Names, token: Token) -> Lease:
    """Start the lease anew."""
    if not token:
        raise Refused("token_missing")
    return Lease(lease=await store.beat(name, token))


@router.delete("/peers/{name}", status_code=204, responses=responses(401, 403, 404))
async def leave(name: Name, store: Names, token: Token) -> None:
    """Give the name back."""
    if not token:
        raise Refused("token_missing")
    await store.leave(name, token)


def make_app(redis: Redis, limits: Limits) -> FastAPI:
    """The service over one Redis, which it closes when it ends."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await redis.aclose()

    app = FastAPI(
        title="p2plab rendezvous",
        description="Peers register here, find each other, and then talk directly.",
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.state.store = Store(redis, limits)
    app.state.routes = router.routes
    app.include_router(router)
    refuse_in_one_shape(app)
    return app
