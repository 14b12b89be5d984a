"""The rendezvous does what its own OpenAPI description says, whatever is sent."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import requests
from fastapi.routing import APIRoute
from hypothesis import HealthCheck, given, settings
from processes import LIFTED

from p2plab.rendezvous.api import router
from p2plab.rendezvous.model import Quotas
from p2plab.rendezvous.server import RendezvousServer

WHY = "schemathesis is not installed: make test installs it"
schemathesis = pytest.importorskip("schemathesis", reason=WHY)
checks = pytest.importorskip("schemathesis.specs.openapi.checks", reason=WHY)

EXAMPLES = int(os.environ.get("P2PLAB_EXAMPLES", "10"))  # of each operation
CLAIM = {"addresses": ["192.168.1.7"], "tcp_port": 5001, "udp_port": 5002}
TOKEN = "t" * 32
# A description cannot say what a name is, nor that strangers find no introduction; and
# what a query holds besides, is ignored, as everywhere.
NOT_SAID = [
    checks.positive_data_acceptance,
    checks.negative_data_rejection,
    checks.ignored_auth,
]
WORDS = {
    "room": "lobby",
    "name": "ann",
    "from": "ann",
    "to": "ann",
    "session": "00c0ffee00c0ffee",
}


@pytest.fixture(scope="module")
def server() -> Iterator[RendezvousServer]:
    limits = Quotas(**LIFTED)
    with RendezvousServer(redis_url="", limits=limits) as running:
        yield running


OPERATIONS = {
    f"{method} {route.path}": (route.path, method.lower())
    for route in router.routes
    if isinstance(route, APIRoute)
    for method in route.methods or ()
}


def known(case: Any) -> None:
    """Let it be about those who are there; the description cannot say who is."""
    for part in (case.path_parameters, case.query, case.body):
        if isinstance(part, dict):
            part.update({word: WORDS[word] for word in WORDS if word in part})


@pytest.mark.parametrize("kind", ["right", "wrong"])
@pytest.mark.parametrize("wish", OPERATIONS)
def test_every_answer_is_one_that_the_description_lists(
    server: RendezvousServer, wish: str, kind: str
) -> None:
    if kind == "wrong" and wish in ("GET /", "GET /rooms/{room}/peers/{name}"):
        return  # there is nothing to get wrong, as far as a description goes
    description = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    path, method = OPERATIONS[wish]
    modes = schemathesis.GenerationMode
    mode = modes.POSITIVE if kind == "right" else modes.NEGATIVE
    owner = {"Authorization": f"Bearer {TOKEN}"}
    room = f"{server.url}/rooms/lobby"

    @given(case=description[path][method].as_strategy(generation_mode=mode))
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: Any) -> None:
        session.put(f"{room}/peers/ann", json=CLAIM, headers=owner)
        wish = {"from": "ann", "to": "ann", "session": WORDS["session"]}
        session.post(f"{room}/introductions", json=wish, headers=owner)
        if kind == "right":
            known(case)
        with suppress(KeyError, ValueError, TypeError):  # nobody waits here
            if 0 < float(case.query["wait"]) <= 25:
                case.query["wait"] = 0.001
        case.call_and_validate(session=session, headers=owner, excluded_checks=NOT_SAID)

    with requests.Session() as session:
        session.trust_env = False
        ask()
