"""Every refusal of the rendezvous: one JSON shape, and a sentence on what to do."""

from __future__ import annotations

import asyncio
import json
import math

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from p2plab.rendezvous.store import Refused

MAX_BODY = 4096  # bytes
BODY_PATIENCE = 5.0  # seconds for a body to arrive
RETRY_REDIS = 1.0  # seconds

# What went wrong, word by word: status, what it means, what to do.
PROBLEMS = {
    "not_json": (422, "The body is not JSON in UTF-8.", "Send a JSON object."),
    "invalid": (422, "The request is not as it should be.", "Correct it; see /docs."),
    "token_missing": (
        401,
        "This needs the owner's token.",
        "Send the header 'Authorization: Bearer TOKEN' with the token that came with "
        "the name.",
    ),
    "not_owner": (
        403,
        "Another peer holds this name; the token is not its owner's.",
        "Register another name, or wait until the other peer leaves.",
    ),
    "no_such_peer": (
        404,
        "No peer of this name is registered; perhaps its lease has ended.",
        "Look at the list of peers; if it is your own name, register it again.",
    ),
    "no_such_path": (404, "There is nothing at this path.", "See /docs for the paths."),
    "method_not_allowed": (
        405,
        "This path does not know this method.",
        "Use one of the methods in the header Allow; see /docs.",
    ),
    "body_too_slow": (
        408,
        f"The body did not arrive within {BODY_PATIENCE:g} s.",
        "Send it at once, with its true Content-Length.",
    ),
    "name_taken": (
        409,
        "Another peer holds this name.",
        "Choose another name, or wait; the owner comes back with its token.",
    ),
    "body_too_large": (
        413,
        f"The body has more than {MAX_BODY} bytes.",
        "Send fewer addresses.",
    ),
    "too_many_names": (
        429,
        "Too many new names came from your address within a minute.",
        "Wait, then try again; refreshing a name that you hold is not limited.",
    ),
    "bug": (500, "The rendezvous made a mistake.", "Please report what you sent."),
    "rendezvous_full": (
        503,
        "The rendezvous holds as many names as it can.",
        "Wait until others leave or their leases end, then try again.",
    ),
    "redis_away": (
        503,
        "The rendezvous cannot reach its Redis.",
        "Try again in a moment; whoever runs it: start Redis, or correct its address. "
        "Names that Redis has kept are still held.",
    ),
}


class Problem(BaseModel):
    """Why a request was refused.

    error: one word for programs. do: what to do about it.
    retry_after: seconds until another try makes sense, null if waiting does not help.
    """

    error: str
    message: str
    do: str
    retry_after: float | None


def problem(
    word: str, retry_after: float | None = None, message: str | None = None
) -> Response:
    """The answer for one of PROBLEMS; `message` replaces the general one."""
    status, general, do = PROBLEMS[word]
    answer = {"error": word, "message": message or general, "do": do}
    headers = {}
    if retry_after is not None:
        headers["Retry-After"] = str(math.ceil(retry_after))
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    # Pure ASCII, because a message may quote half a character from the request.
    body = json.dumps(answer | {"retry_after": retry_after})
    return Response(body, status, headers, media_type="application/json")


def responses(*statuses: int) -> dict[int | str, dict[str, object]]:
    """The refusals of one path, for the OpenAPI description."""
    return {
        status: {
            "model": Problem,
            "description": " ".join(m for s, m, _ in PROBLEMS.values() if s == status),
        }
        for status in (*statuses, 422, 503)
    }


async def on_refused(request: Request, error: Exception) -> Response:
    """The store does not do it."""
    assert isinstance(error, Refused)
    return problem(error.reason, error.retry_after)


async def on_invalid(request: Request, error: Exception) -> Response:
    """A path, a query or a body is not as it should be: name the first three places."""
    assert isinstance(error, RequestValidationError)
    errors = error.errors()
    if any(e["type"] == "json_invalid" for e in errors):
        return problem("not_json")
    if any(e["loc"] == ("body",) for e in errors):
        wish = "The body must be a JSON object, sent as Content-Type: application/json."
        return problem("invalid", message=wish)
    places = [
        f"{'.'.join(map(str, e['loc'][1:]))}: {e['msg'].removeprefix('Value error, ')}"
        for e in errors[:3]
    ]
    return problem("invalid", message="; ".join(places))


async def on_http(request: Request, error: Exception) -> Response:
    """The framework's own refusals: an unknown path or method, an unreadable body."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        answer = problem("method_not_allowed")
        answer.headers["Allow"] = ", ".join(sorted(methods_at(request)))
        return answer
    return problem("no_such_path" if error.status_code == 404 else "not_json")


async def on_redis(request: Request, error: Exception) -> Response:
    """Redis is away, is still loading, wants a password, has no memory left, …"""
    message = f"{PROBLEMS['redis_away'][1][:-1]} ({type(error).__name__})."
    return problem("redis_away", RETRY_REDIS, message)


async def on_bug(request: Request, error: Exception) -> Response:
    """Nothing that a caller sends should lead here."""
    return problem("bug")


def methods_at(request: Request) -> set[str]:
    """The methods of all routes at this path; each route alone knows only its own."""
    routes: list[BaseRoute] = [*request.app.routes, *request.app.state.routes]
    here = (r for r in routes if r.matches(request.scope)[0] != Match.NONE)
    return {method for r in here for method in getattr(r, "methods", None) or ()}


class BodyLimit:
    """Reads a body before the application does, up to a size and a time."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        try:
            async with asyncio.timeout(BODY_PATIENCE):
                body = await read_body(receive)
        except TimeoutError:
            return await problem("body_too_slow")(scope, receive, send)
        if body is None:
            return None  # the caller has hung up in the middle
        if len(body) > MAX_BODY:
            return await problem("body_too_large")(scope, receive, send)
        whole: list[Message] = [{"type": "http.request", "body": body}]

        async def replay() -> Message:
            return whole.pop() if whole else await receive()

        return await self.app(scope, replay, send)


async def read_body(receive: Receive) -> bytes | None:
    """The body, or so much as shows that it is too large; None if it broke off."""
    body, more = b"", True
    while more and len(body) <= MAX_BODY:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def refuse_in_one_shape(app: FastAPI) -> None:
    """Give every refusal of the application the shape of Problem."""
    app.add_middleware(BodyLimit)
    app.add_exception_handler(Refused, on_refused)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(RedisError, on_redis)
    app.add_exception_handler(Exception, on_bug)
