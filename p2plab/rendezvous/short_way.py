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

Reply = BaseModel | tuple[int, BaseModel] | None


class Caller:
    """Who asks, and what answers it.

    seen: the caller's address as the socket tells it; no header is believed.
    token: of `Authorization: Bearer TOKEN`, or empty.
    """

    __slots__ = ("seen", "service", "token")

    def __init__(self, scope: Scope, service: Any) -> None:
        self.seen = legal_address(str(scope["client"][0]).partition("%")[0])
        self.service = service
        scheme, _, token = header(scope, b"authorization").partition(" ")
        self.token = token.strip() if scheme.lower() == "bearer" else ""


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

    async def answer(
        self, scope: Scope, receive: Receive, service: Any, places: dict[str, Any]
    ) -> tuple[int, bytes]:
        """Return the status and the body. Raises what `refusal` has answers for.

        places: the parameters of the path.
        """
        if query := scope["query_string"]:
            places = dict(parse_qsl(query.decode("latin-1"), True)) | places
        values = dict(self.places.model_validate(places))
        caller = Caller(scope, service)
        if self.owners_only and not caller.token:
            raise Refused("token_missing")
        if self.form is not None:
            body = await read_json(scope, receive)
            values[FORM] = self.form.model_validate_json(body)
        reply = await self.call(caller, **values)
        status = self.status
        if isinstance(reply, tuple):
            status, reply = reply
        if reply is None:
            return status, b""
        return status, reply.__pydantic_serializer__.to_json(reply)


class ShortWay:
    """Answers the routes; whatever else is asked goes to the application behind.

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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        path, method, allowed = scope["path"], scope["method"], set[str]()
        for endpoint in self.endpoints:
            match = endpoint.match(path)
            if match is None:
                continue
            if method in endpoint.methods:
                places = match.groupdict()
                return await self._answer(endpoint, scope, receive, send, places)
            allowed |= endpoint.methods
        if allowed:
            return await not_allowed(allowed)(scope, receive, send)
        return await self.app(scope, receive, send)

    async def _answer(
        self,
        endpoint: Endpoint,
        scope: Scope,
        receive: Receive,
        send: Send,
        places: dict[str, Any],
    ) -> None:
        try:
            status, body = await endpoint.answer(scope, receive, self.service, places)
        except HungUp:
            return None
        except Exception as error:
            response = refusal(error)
            if response is None:
                raise
            return await response(scope, receive, send)
        headers = [JSON, (b"content-length", b"%d" % len(body))] if body else []
        start = {"type": "http.response.start", "status": status, "headers": headers}
        await send(start)
        await send({"type": "http.response.body", "body": body})
        return None


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
