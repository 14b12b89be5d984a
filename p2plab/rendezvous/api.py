"""The rendezvous over HTTP: names, lists, introductions, inboxes."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import asdict, replace
from functools import lru_cache, partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, FastAPI, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from redis.exceptions import RedisClusterException, RedisError
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from p2plab.rendezvous.model import (
    BEGINNING,
    MAX_NAME_BYTES,
    MAX_PAGE,
    MAX_WAIT,
    Claim,
    Consent,
    Inbox,
    Listed,
    Meeting,
    Name,
    Page,
    Problem,
    Quotas,
    Registration,
    Renewed,
    Report,
    Session,
    State,
    Wish,
    legal_address,
)
from p2plab.rendezvous.store import Refused, Store, source_of

MAX_BODY: Final = 4096  # bytes
BODY_PATIENCE: Final = 5.0  # seconds for a body to arrive
RETRY_REDIS: Final = 1.0  # seconds
MAKE_ROOM: Final = 5.0  # seconds until a call that had to make room should come again

Look = Callable[[float], Coroutine[Any, Any, Inbox]]

# Why a request is refused: for each status, what is wrong and what to do, by a word.
PROBLEMS: Final = {
    401: {
        "token_missing": "This needs the owner's token. Send the header "
        "'Authorization: Bearer TOKEN' with the token that came with the name.",
    },
    403: {
        "not_owner": "Another peer holds this name; the token is not its owner's. "
        "Register another name, or wait until the other peer leaves.",
    },
    404: {
        "no_such_peer": "No peer of this name is registered; perhaps its lease has "
        "ended. Look at the list of peers.",
        "not_registered": "This name is not registered; perhaps its lease has ended. "
        "If it is your own name, register it again.",
        "no_such_introduction": "There is no such introduction of yours; perhaps it is "
        "over. Ask for a new one, with a new session.",
        "no_such_path": "There is nothing at this path. See /docs for the paths.",
    },
    405: {
        "method_not_allowed": "This path does not know this method. Use one of the "
        "methods in the header Allow; see /docs.",
    },
    408: {
        "body_too_slow": f"The body did not arrive within {BODY_PATIENCE:g} s. Send it "
        "at once, with its true Content-Length.",
    },
    409: {
        "name_alike": "This name looks like one that another peer holds: they differ "
        "in capitals or in the width of letters only. Choose another name.",
        "name_taken": "Another peer holds this name. Choose another name, or wait; the "
        "owner comes back with its token.",
        "session_taken": "This session belongs to another introduction. Choose another "
        "one, at random.",
        "answered_already": "This introduction was answered already, and not like "
        "this. Ask for a new introduction in the other direction.",
    },
    410: {
        "caller_gone": "The peer that asked waits no more, or is not registered any "
        "more. Let it ask again.",
    },
    413: {"body_too_large": f"The body has more than {MAX_BODY} bytes. Send less."},
    422: {
        "not_json": "The body is not JSON in UTF-8. Send a JSON object.",
        "invalid": "The request is not as it should be. Correct it; see /docs.",
    },
    429: {
        "too_many_names": "Too many new names came from your address within a minute. "
        "Wait, then try again; refreshing a name that you hold is not limited.",
        "too_many_introductions": "Too many introductions were asked for within a "
        "minute. Wait, then try again; repeating one is not limited.",
        "too_many_waiting": "Too many calls of your name or your address wait here. "
        "Let one request wait at a time, or use another server.",
        "too_many_look_ups": "Too many look-ups came from your address within a "
        "second. Wait a second, then ask again.",
    },
    500: {"bug": "The rendezvous made a mistake. Please report what you sent."},
    503: {
        "room_full": "The room holds as many names as it can. Wait until others leave "
        "or their leases end, or take another room.",
        "too_many_rooms": "The rendezvous holds as many rooms as it can. Take a room "
        "that exists, or wait until one is empty.",
        "redis_away": "The rendezvous cannot use its Redis. Try again in a moment, and "
        "tell whoever runs it. Names that Redis has kept are still held.",
    },
}
DESCRIPTION: Final = (
    "Peers register here, are introduced, and then talk directly.\n\nRefusals:\n\n"
    + "\n".join(
        f"- {status} `{word}`: {message}"
        for status, words in PROBLEMS.items()
        for word, message in words.items()
    )
)


class Service:
    """What answers requests.

    store: where everything is kept, while the service runs.
    stun_port: where STUN is answered, or None.
    """

    def __init__(self, limits: Quotas) -> None:
        self.limits = limits
        self.store: Store
        self.stun_port: int | None = None
        self._closed = False
        self._waiting: dict[str, list[asyncio.Task[Inbox]]] = {}  # the oldest first
        self._sources: Counter[str] = Counter()  # of those who wait
        self._second = 0
        self._looks: Counter[tuple[object, ...]] = Counter()  # in this second

    @property
    def waiting(self) -> int:
        """How many calls wait at their inboxes."""
        return self._sources.total()

    async def wait(
        self, request: Request, name: str, source: str, look: Look, seconds: float
    ) -> Inbox | None:
        """Return what `look` finds within so many seconds.

        None when the caller hangs up, or we close. Of one name the newest call makes
        the oldest go, whose connection is most likely dead. Raises Refused:
        too_many_waiting.
        """
        if self._sources[source] >= self.limits.waiting_per_source:
            raise Refused("too_many_waiting", MAKE_ROOM)
        tasks = self._waiting.setdefault(name, [])
        if len(tasks) >= self.limits.waiting_per_name:
            tasks[0].cancel()
        task = asyncio.create_task(look(0 if self._closed else seconds))
        gone = asyncio.create_task(hung_up(request))
        tasks.append(task)
        self._sources[source] += 1
        try:
            await asyncio.wait([task, gone], return_when=asyncio.FIRST_COMPLETED)
            if task.done() and not task.cancelled():
                return task.result()
            if gone.done() or self._closed:
                return None
            raise Refused("too_many_waiting", MAKE_ROOM)
        finally:
            task.cancel()
            gone.cancel()
            tasks.remove(task)
            if not tasks:
                self._waiting.pop(name, None)
            self._sources[source] -= 1
            if not self._sources[source]:
                del self._sources[source]

    def close(self) -> None:
        """Send every call home; from now on nobody waits."""
        self._closed = True
        for tasks in self._waiting.values():
            for task in tasks:
                task.cancel()

    def count_look(self, *of: object) -> None:
        """Count a look-up of a source. Raises Refused: too_many_look_ups."""
        now = time.monotonic()
        if int(now) != self._second:
            self._second = int(now)
            self._looks.clear()
        self._looks[of] += 1
        if self._looks[of] > self.limits.look_ups_per_second:
            raise Refused("too_many_look_ups", self._second + 1 - now)


async def hung_up(request: Request) -> None:
    """Wait until the caller of a request has closed its connection."""
    with suppress(Refused):  # of a body that nobody has announced to us
        while (await request.receive())["type"] != "http.disconnect":
            pass


# ---- what the paths depend on; a plain `def` would be run in another thread

bearer = HTTPBearer(auto_error=False, description="The token of who has the name.")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]


async def service_of(request: Request) -> Service:
    """What answers."""
    service: Service = request.app.state.service
    return service


async def seen_at(request: Request) -> str:
    """The caller's address as the socket tells it; no header is believed."""
    return address_at(request.client.host if request.client else "127.0.0.1")


async def owner(credentials: Credentials) -> str:
    """The token that was sent. Raises Refused."""
    if credentials is None or not credentials.credentials:
        raise Refused("token_missing")
    return credentials.credentials


async def count_look(request: Request) -> None:
    """Let a source look so often in a second, and no more.

    Only GET is counted, which nobody needs to keep a name, and inboxes by themselves: a
    class that has looked too often loses nothing but a second.
    """
    here, seen = await service_of(request), await seen_at(request)
    here.count_look(source_of(seen), request.url.path.endswith("/inbox"))


Here = Annotated[Service, Depends(service_of)]
Seen = Annotated[str, Depends(seen_at)]
Token = Annotated[str, Depends(owner)]
LOOK: Final = [Depends(count_look)]
InRoom = Annotated[Name, Path(examples=["lobby"])]
OfPeer = Annotated[Name, Path(examples=["ann"])]
InSession = Annotated[Session, Path()]


# ---- the paths

router = APIRouter(
    responses={"default": {"model": Problem, "description": "Why it is refused."}},
)


@router.get("/", dependencies=LOOK)
async def info(here: Here) -> dict[str, str]:
    """Say what answers here, and that Redis does too. docs: where to try requests."""
    await here.store.ping()
    return {"service": "p2plab rendezvous", "docs": "/docs"}


@router.get("/rooms/{room}/peers/{name}", dependencies=LOOK)
async def look_up(here: Here, room: InRoom, name: OfPeer) -> Listed:
    """Say whether a peer is there; how to reach it, an introduction tells."""
    return await here.store.get(room, name)


@router.put(
    "/rooms/{room}/peers/{name}",
    status_code=201,
    responses={200: {"model": Registration, "description": "The owner came back."}},
)
async def register(
    here: Here,
    room: InRoom,
    name: OfPeer,
    claim: Claim,
    seen: Seen,
    credentials: Credentials,
    response: Response,
) -> Registration:
    """Take a free name, or come back to it with its token."""
    token = credentials.credentials if credentials else ""
    granted, created = await here.store.claim(room, name, claim, seen, token)
    response.status_code = 201 if created else 200
    return replace(granted, stun_port=here.stun_port)


@router.post("/rooms/{room}/peers/{name}/heartbeat")
async def heartbeat(here: Here, room: InRoom, name: OfPeer, token: Token) -> Renewed:
    """Start the lease anew."""
    return await here.store.beat(room, name, token)


@router.delete("/rooms/{room}/peers/{name}", status_code=204, response_model=None)
async def leave(here: Here, room: InRoom, name: OfPeer, token: Token) -> None:
    """Give the name back."""
    await here.store.leave(room, name, token)


@router.get("/rooms/{room}/peers", dependencies=LOOK)
async def page(
    here: Here,
    room: InRoom,
    cursor: Annotated[str, Query(max_length=MAX_NAME_BYTES)] = "",
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = MAX_PAGE,
) -> Page:
    """List the peers in the order of names; go on with cursor = the answer's next."""
    return await here.store.page(room, cursor, limit)


@router.post("/rooms/{room}/introductions", status_code=202)
async def introduce(
    here: Here, room: InRoom, wish: Wish, token: Token, seen: Seen
) -> State:
    """Ask a peer whether it wants to be introduced; asking again knocks again."""
    return await here.store.ask(room, wish.caller, token, wish.session, wish.to, seen)


@router.post("/rooms/{room}/introductions/{session}")
async def answer(
    here: Here, room: InRoom, session: InSession, consent: Consent, token: Token
) -> State:
    """Accept or refuse, once; the inboxes of both tell what came of it.

    Who has asked withdraws by refusing, as long as there is no answer.
    """
    return await here.store.answer(
        room, consent.name, token, session, consent.accept, consent.why
    )


@router.get("/rooms/{room}/peers/{name}/inbox", dependencies=LOOK)
async def inbox(
    here: Here,
    request: Request,
    room: InRoom,
    name: OfPeer,
    token: Token,
    seen: Seen,
    after: Annotated[str, Query(pattern=r"^[0-9]{1,15}-[0-9]{1,15}$")] = BEGINNING,
    wait: Annotated[float, Query(ge=0, le=MAX_WAIT, allow_inf_nan=False)] = 0,
) -> Inbox:
    """Read one's inbox, or wait until something comes; all again without `after`."""
    look = partial(here.store.inbox, room, name, token, after)
    if not wait:
        return await look(0)
    source, whose = source_of(seen), f"{room}/{name}"
    return await here.wait(request, whose, source, look, wait) or Inbox([], after)


@router.put(
    "/rooms/{room}/introductions/{session}/events",
    status_code=204,
    response_model=None,
)
async def report(
    here: Here, room: InRoom, session: InSession, report: Report, token: Token
) -> None:
    """Say what one has seen of a meeting."""
    events = [event.model_dump() for event in report.events]
    await here.store.report(room, report.name, token, session, events)


@router.get("/rooms/{room}/introductions/{session}/events", dependencies=LOOK)
async def meeting(
    here: Here,
    room: InRoom,
    session: InSession,
    name: Annotated[Name, Query()],
    token: Token,
) -> Meeting:
    """Tell one of the two what both and the rendezvous have seen."""
    return Meeting(await here.store.meeting(room, name, token, session))


# ---- refusals, all in the shape of Problem


def problem(
    word: str, retry_after: float | None = None, message: str | None = None
) -> Response:
    """The answer for one of PROBLEMS; `message` replaces the general one."""
    status = next(each for each in PROBLEMS if word in PROBLEMS[each])
    told = Problem(word, message or PROBLEMS[status][word], retry_after)
    headers = {}
    if retry_after is not None:
        headers["Retry-After"] = str(math.ceil(retry_after))
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    # Pure ASCII, because a message may quote half a character from the request.
    body = json.dumps(asdict(told))
    return Response(body, status, headers, media_type="application/json")


async def on_refused(request: Request, error: Exception) -> Response:
    """What the store does not do."""
    assert isinstance(error, Refused)
    return problem(error.reason, error.retry_after)


async def on_invalid(request: Request, error: Exception) -> Response:
    """A path, a query or a body is not as it should be: name the first three places."""
    assert isinstance(error, RequestValidationError)
    errors: Sequence[Any] = error.errors()
    if any(each["loc"] == ("body",) for each in errors):
        wish = "The body must be a JSON object, sent as Content-Type: application/json."
        return problem("invalid", message=f"{wish} See /docs.")
    places = [
        f"{'.'.join(map(str, each['loc'][1:]))}: "
        f"{each['msg'].removeprefix('Value error, ')}"
        for each in errors[:3]
    ]
    if any(each["type"] == "json_invalid" for each in errors):
        return problem("not_json")
    return problem("invalid", message=f"{'; '.join(places)}. Correct it; see /docs.")


async def on_http(request: Request, error: Exception) -> Response:
    """The framework's own refusals: of bodies, and of paths that are not ours."""
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, Refused):
        return await on_refused(request, error.__cause__)
    if error.status_code == 400:
        return problem("not_json")
    if error.status_code != 405:
        return problem("no_such_path")
    here = [r for r in router.routes if r.matches(request.scope)[0] != Match.NONE]
    methods = {method for r in here for method in getattr(r, "methods", None) or ()}
    refusal = problem("method_not_allowed")
    refusal.headers.update(error.headers or {})
    if methods:  # of all that have this path, not only of the first
        refusal.headers["Allow"] = ", ".join(sorted(methods))
    return refusal


async def on_redis(request: Request, error: Exception) -> Response:
    """Redis is away, is still loading, wants a password, has no memory left, …"""
    why = await (await service_of(request)).store.trouble(error)
    message = f"{PROBLEMS[503]['redis_away']} The cause: {why}."
    return problem("redis_away", RETRY_REDIS, message)


async def on_bug(request: Request, error: Exception) -> Response:
    """Nothing that a caller sends should lead here."""
    return problem("bug")


class SmallBodies:
    """Lets an application read a body only if it is small and comes soon."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Be an ASGI application."""
        left, end = MAX_BODY, time.monotonic() + BODY_PATIENCE
        more = True

        async def limited() -> Message:
            nonlocal left, more
            if not more:
                return await receive()  # it waits for the connection's end
            try:
                async with asyncio.timeout(end - time.monotonic()):
                    message = await receive()
            except TimeoutError:
                raise Refused("body_too_slow") from None
            more = message.get("more_body", False)
            left -= len(message.get("body", b""))
            if left < 0:
                raise Refused("body_too_large")
            return message

        await self._app(scope, limited if scope["type"] == "http" else receive, send)


@lru_cache(4096)
def address_at(host: str) -> str:
    """The address of a socket as everybody writes it."""
    return legal_address(host.partition("%")[0])


def make_app(
    service: Service, lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]]
) -> ASGIApp:
    """The service as an ASGI application."""
    app = FastAPI(
        title="p2plab rendezvous",
        description=DESCRIPTION,
        lifespan=lifespan,
        redirect_slashes=False,
        exception_handlers={
            Refused: on_refused,
            RequestValidationError: on_invalid,
            HTTPException: on_http,
            RedisError: on_redis,
            RedisClusterException: on_redis,
            OSError: on_redis,
            Exception: on_bug,
        },
    )
    app.state.service = service
    app.include_router(router)
    app.add_middleware(SmallBodies)
    return app
