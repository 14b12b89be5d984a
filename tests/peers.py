"""A rendezvous and peers who have registered, for tests of what peers do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from p2plab.peer.peer import Peer
from p2plab.rendezvous.model import Quotas
from p2plab.rendezvous.server import RendezvousServer


@contextmanager
def joined(server: RendezvousServer, name: str, **options: Any) -> Iterator[Peer]:
    with Peer(name, server.url, **options) as peer:
        peer.register()
        yield peer


@pytest.fixture(scope="module")
def server() -> Iterator[RendezvousServer]:
    with RendezvousServer(redis_url="", limits=Quotas(names_per_minute=10**6)) as run:
        yield run


@pytest.fixture
def alice(server: RendezvousServer) -> Iterator[Peer]:
    with joined(server, "alice") as peer:
        yield peer


@pytest.fixture
def bob(server: RendezvousServer) -> Iterator[Peer]:
    with joined(server, "bob") as peer:
        yield peer
