"""The short way from a request to its endpoint; FastAPI only describes it.

FastAPI's own way validates, solves dependencies and serialises in Python, which takes
more than half of the time of a look-up. Here the same signatures are read once.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, get_type_hints
from urllib.parse import parse_qsl

from fastapi.routing import APIRoute
from pydantic import BaseModel, create_model
from starlette.types import ASGIApp, Receive, Scope, Send

from p2plab.rendezvous.database import Refused
from p2plab.rendezvous.model import legal_address
from p2plab.rendezvous.refusals import (
    BODY_PATIENCE,
    MAX_BODY,
    Invalid,
    not_allowed,
    refusal,
)

CALLER: Final = "caller"  # the parameter that tells who asks
FORM: Final = "form"  # and the one that takes the body
JSON: Final = (b"content-type", b"application/json")
LINES: Final = [
    (b"content-type", b"application/x-ndjson"),
    (b"x-accel-buffering", b"no"),  # a proxy's word for what must not be held back
]

Reply = BaseModel | tuple[int, BaseModel] | None


class Caller:
    """Who asks, and what answers it.

    seen: the caller's address as the socket tells it; no header is believed.
    token: of `Authorization: Bearer TOKEN`, or empty.
    begun: whether something was said, after which there is no other answer.
    """

    __slots__ = ("_send", "begun", "seen", "service", "token")

    def __init__(self, scope: Scope, send: Send, service: Any) -> None:
        self._send, self.begun = send, False
        self.seen = legal_address(str(scope["client"][0]).partition("%")[0])
        self.service = service
        scheme, _, token = header(scope, b"authorization").partition(" ")
        self.token = token.strip() if scheme.lower() == "bearer" else ""

    async def say(self, reply: BaseModel) -> None:
        """Send a reply as one line, of which more may follow."""
        if not self.begun:
            self.begun = True
            await self._send(
                {"type": "http.response.start", "status": 200, "headers": LINES}
            )
        await self._line(reply.__pydantic_serializer__.to_json(reply) + b"\n", True)

    async def end(self, last: bytes = b"") -> None:
        """Send the last line."""
        await self._line(last, False)

    async def _line(self, body: bytes, more: bool) -> None:
        await self._send(
            {"type": "http.response.body", "body": body, "more_body": more}
        )


class Endpoint:
    """A route as FastAPI knows it, ready to be called."""

    def __init__(self, route: APIRoute, owners_only: Callable[..., Any]) -> None:
        self.match = route.path_regex.match
        self.methods: set[str] = set(route.methods or ())
        self.status = route.status_code or 200
        self.call: Callable[..., Awaitable[Reply]] = route.endpoint
        hints = get_type_hints(route.endpoint, include_extras=True)
        who = hints[CALLER].__metadata__[0]
        self.owners_only = who.dependency is owners_only
        form = hints.get(FORM)
        self.form: type[BaseModel] | None = form
        fields: dict[str, Any] = {
            name: (hints[name], each.default if each.default is not each.empty else ...)
            for name, each in inspect.signature(route.endpoint).parameters.items()
            if name not in (CALLER, FORM)
        }
        self.places = create_model("Places", **fields)

    async def start(
        self, scope: Scope, receive: Receive, caller: Caller, places: dict[str, Any]
    ) -> Awaitable[Reply]:
        """Return the call that makes the reply. Raises what `refusal` can answer.

        places: the parameters of the path.
        """
        if query := scope["query_string"]:
            places = dict(parse_qsl(query.decode("latin-1"), True)) | places
        values = vars(self.places.model_validate(places))
        if self.owners_only and not caller.token:
            raise Refused("token_missing")
        if self.form is not None:
            body = await read_json(scope, receive)
            values[FORM] = self.form.model_validate_json(body)
        return self.call(caller, **values)


class ShortWay:
    """Answers the routes; whatever else is asked goes to the application behind.

    A caller that waits costs memory for each coroutine on the way, so there are few.
    owners_only: the dependency that says that a route needs a token.
    """

    def __init__(
        self,
        app: ASGIApp,
        routes: Sequence[APIRoute],
        service: object,
        owners_only: Callable[..., Any],
    ) -> None:
        self.app = app
        self.service = service
        self.endpoints = [Endpoint(route, owners_only) for route in routes]
        methods = {each for endpoint in self.endpoints for each in endpoint.methods}
        self.by_method = {
            method: [each for each in self.endpoints if method in each.methods]
            for method in methods
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint, places = self._find(scope)
        if endpoint is None:
            return await self.app(scope, receive, send)
        if scope["method"] not in endpoint.methods:
            return await self._not_allowed(scope, receive, send)
        caller = Caller(scope, send, self.service)
        try:
            call = await endpoint.start(scope, receive, caller, places)
            del places
            reply = await call
        except HungUp:
            return None
        except Exception as error:
            refused = refusal(error)
            if caller.begun:
                return await caller.end(bytes(refused.body) + b"\n")
            return await refused(scope, receive, send)
        if caller.begun:
            return await caller.end()
        status = endpoint.status
        if isinstance(reply, tuple):
            status, reply = reply
        return await answer(send, status, reply)

    def _find(self, scope: Scope) -> tuple[Endpoint | None, dict[str, Any]]:
        """Return the route of a request; of those at its path, if there are only others
        than its method, any.
        """
        if scope["type"] != "http":
            return None, {}
        path, method = scope["path"], scope["method"]
        for endpoint in (*self.by_method.get(method, ()), *self.endpoints):
            if match := endpoint.match(path):
                return endpoint, match.groupdict()
        return None, {}

    async def _not_allowed(self, scope: Scope, receive: Receive, send: Send) -> None:
        here = (each for each in self.endpoints if each.match(scope["path"]))
        allowed = {method for each in here for method in each.methods}
        await not_allowed(allowed)(scope, receive, send)


async def answer(send: Send, status: int, reply: BaseModel | None) -> None:
    """Send the reply as JSON; nothing has no body."""
    body, headers = b"", list[tuple[bytes, bytes]]()
    if reply is not None:
        body = reply.__pydantic_serializer__.to_json(reply)
        headers = [JSON, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class HungUp(Exception):
    """The caller has gone in the middle of its request."""


def header(scope: Scope, wanted: bytes) -> str:
    """Return the value of a header, empty without it."""
    for name, value in scope["headers"]:
        if name == wanted:
            return str(value, "latin-1")
    return ""


async def read_json(scope: Scope, receive: Receive) -> bytes:
    """Return the body. Raises Refused and HungUp."""
    kind = header(scope, b"content-type").partition(";")[0].strip().lower()
    try:
        async with asyncio.timeout(BODY_PATIENCE):
            body = await read_body(receive)
    except TimeoutError:
        raise Refused("body_too_slow") from None
    if kind != "application/json" or not body:
        raise Invalid("The body must be a JSON object, sent as application/json.")
    return body


async def read_body(receive: Receive) -> bytes:
    """Return the body, as far as it is not too large."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise HungUp
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            raise Refused("body_too_large")
        more = message.get("more_body", False)
    return body
