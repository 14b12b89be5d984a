"""Every refusal of the rendezvous: one JSON shape, and a sentence on what to do."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Set

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, ValidationError
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from p2plab.rendezvous.database import Refused

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
        "Look at the list of peers.",
    ),
    "not_registered": (
        404,
        "This name is not registered; perhaps its lease has ended.",
        "If it is your own name, register it again.",
    ),
    "no_such_introduction": (
        404,
        "There is no such introduction of yours; perhaps it is over.",
        "Ask for a new one, with a new session.",
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
    "session_taken": (
        409,
        "This session belongs to another introduction.",
        "Choose another one, at random.",
    ),
    "answered_already": (
        409,
        "This introduction was answered already, and not like this.",
        "Ask for a new introduction in the other direction.",
    ),
    "caller_gone": (
        410,
        "The peer that asked waits no more, or is not registered any more.",
        "Let it ask again.",
    ),
    "body_too_large": (413, f"The body has more than {MAX_BODY} bytes.", "Send less."),
    "too_many_names": (
        429,
        "Too many new names came from your address within a minute.",
        "Wait, then try again; refreshing a name that you hold is not limited.",
    ),
    "too_many_introductions": (
        429,
        "Too many introductions were asked for within a minute.",
        "Wait, then try again; repeating one that you have asked for is not limited.",
    ),
    "too_many_waiting": (
        429,
        "Too many callers of your name or your address wait here.",
        "Let one request wait at a time, or use another server.",
    ),
    "too_many_look_ups": (
        429,
        "Too many look-ups came from your address within a second.",
        "Wait a second, then ask again; changes?wait=25 tells what is new by itself.",
    ),
    "bug": (500, "The rendezvous made a mistake.", "Please report what you sent."),
    "room_full": (
        503,
        "The room holds as many names as it can.",
        "Wait until others leave or their leases end, or take another room.",
    ),
    "too_many_rooms": (
        503,
        "The rendezvous holds as many rooms as it can.",
        "Take a room that exists, or wait until one is empty.",
    ),
    "shards_differ": (
        503,
        "This server was started with another number of shards than the others.",
        "Whoever runs it: start it with the number that its log or `p2plab rendezvous` "
        "names.",
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


def refusal(error: Exception) -> Response:
    """The answer for an error; one that nobody foresaw is logged."""
    match error:
        case Invalid():
            return problem("invalid", message=error.message)
        case Refused():
            return problem(error.reason, error.retry_after)
        case ValidationError():
            return invalid(error)
        case RedisError() | OSError():
            # Redis is away, is still loading, wants a password, has no memory left, …
            message = f"{PROBLEMS['redis_away'][1][:-1]} ({type(error).__name__})."
            return problem("redis_away", RETRY_REDIS, message)
        case _:
            logging.getLogger("uvicorn.error").error("a bug", exc_info=error)
            return problem("bug")


class Invalid(Refused):
    """A part of a request is not as it should be."""

    def __init__(self, message: str) -> None:
        super().__init__("invalid")
        self.message = message


def invalid(error: ValidationError) -> Response:
    """A path, a query or a body is not as it should be: name the first three places."""
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    if any(e["type"] == "json_invalid" for e in errors):
        return problem("not_json")
    if any(e["loc"] == () for e in errors):
        wish = "The body must be a JSON object, sent as Content-Type: application/json."
        return problem("invalid", message=wish)
    places = [
        f"{'.'.join(map(str, e['loc']))}: {e['msg'].removeprefix('Value error, ')}"
        for e in errors[:3]
    ]
    return problem("invalid", message="; ".join(places))


def not_allowed(allowed: Set[str]) -> Response:
    """The path is right and the method is not."""
    answer = problem("method_not_allowed")
    answer.headers["Allow"] = ", ".join(sorted(allowed))
    return answer


async def on_http(request: Request, error: Exception) -> Response:
    """The framework's own refusals, for paths that are not ours."""
    assert isinstance(error, HTTPException)
    if error.status_code != 405:
        return problem("no_such_path")
    here = [r for r in request.app.routes if r.matches(request.scope)[0] != Match.NONE]
    methods = {method for r in here for method in getattr(r, "methods", None) or ()}
    return not_allowed(methods)


async def on_bug(request: Request, error: Exception) -> Response:
    """Nothing that a caller sends should lead here."""
    return problem("bug")


def refuse_in_one_shape(app: FastAPI) -> None:
    """Give every refusal of the application the shape of Problem."""
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(Exception, on_bug)
