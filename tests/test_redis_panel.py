"""What Redis holds, on the screen: keys, expiry, entries, and no secret."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from loopback import eventually
from stores import cluster as cluster  # a fixture, as the next one
from stores import real as real

from p2plab.peer.peer import Peer
from p2plab.rendezvous.server import RendezvousServer
from p2plab.ui import RedisPanel
from p2plab.ui.redis_panel import table


@pytest.fixture(params=["", "real", "cluster"])
def server(request: pytest.FixtureRequest) -> Iterator[RendezvousServer]:
    url = request.getfixturevalue(request.param).url if request.param else ""
    with RendezvousServer(redis_url=url) as server:
        yield server


def test_names_leases_and_meetings_are_there_and_their_secrets_are_not(
    server: RendezvousServer,
) -> None:
    with Peer("ann", server.url) as ann, Peer("bob", server.url) as bob:
        ann.register(lease=30)
        bob.register(lease=30)
        met = ann.introduce("bob").met
        found = {each.key.partition(":lobby:")[2]: each for each in server.contents()}
        assert {"p:ann", "p:bob", "names", "exp", "in:ann"} <= {*found}
        assert found["p:ann"].type == "hash"
        assert 0 < (found["p:ann"].expires_in or 0) <= 30
        assert found["names"].expires_in is None
        assert dict(found[f"i:{met.session}"].entries)["state"] == "met"
        assert found["in:ann"].type == "stream"
        told = repr(server.contents())
        assert ann.registration is not None
        for secret in (met.key.hex(), ann.registration.token, ann.registration.nonce):
            assert secret not in told
        assert "… (a hash)" in dict(found["p:ann"].entries)["token"]
        page = str(table(server.contents()))
        assert re.search(r"in \d+ s", page)
        assert re.search(r"\d{13}|{p2p}", page) is None


def test_the_table_follows_what_happens_and_closing_it_stops_the_looks() -> None:
    with RendezvousServer(redis_url="") as server:
        panel = RedisPanel(server, key="test")
        with Peer("ann", server.url) as ann:
            ann.register()
            eventually(
                lambda: ">ann, in room lobby</th>" in panel.table.value, "ann is there"
            )
        eventually(
            lambda: ">ann, in room lobby</th>" not in panel.table.value, "ann has left"
        )
        assert "The store in this process holds" in panel.status.value
        panel.close()


def test_what_lies_in_redis_stays_text() -> None:
    with RendezvousServer(redis_url="") as server, Peer("ann", server.url) as ann:
        ann.register()
        (name, *_) = server.contents()
        evil = "<img src=x onerror=alert(1)>"
        row = type(name)(evil, "hash", None, 9, ((evil, evil),))
        page = table([row])
        assert evil not in page
        assert page.count("onerror") == 3
        assert "9 in all, of which" in page
