"""Which addresses of this machine others are told, with and without a default route."""

from __future__ import annotations

import threading
import warnings
from ipaddress import ip_address
from typing import Any

import pytest
from loopback import needs_ipv6

from p2plab.peer.lab import Lab
from p2plab.peer.peer import Peer
from p2plab.rendezvous import addresses
from p2plab.rendezvous.addresses import (
    address_near,
    lan_address,
    own_addresses,
    shut_in,
)
from p2plab.rendezvous.model import Registration
from p2plab.rendezvous.server import RendezvousServer, tell_where


@pytest.fixture
def no_default_route(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide what only the default route tells."""
    ask = addresses._on_the_way
    hidden = addresses.NOWHERE.values()
    monkeypatch.setattr(
        addresses,
        "_on_the_way",
        lambda to, version: "" if to in hidden else ask(to, version),
    )


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let a machine have these addresses, in the order in which its system tells."""

    def have(*these: str) -> None:
        monkeypatch.setattr(addresses, "_on_the_way", lambda *_: "")
        monkeypatch.setattr(
            addresses,
            "_of",
            lambda v: [a for a in these if a and ip_address(a).version == v],
        )

    return have


def test_addresses_are_found_without_a_default_route_too(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    with_it = own_addresses()
    request.getfixturevalue("no_default_route")
    assert set(own_addresses()) == set(with_it)
    assert lan_address() in (*with_it, "127.0.0.1")
    assert not any(ip_address(each).is_loopback for each in with_it)


def test_a_self_assigned_address_comes_last_and_loopback_never(own: Any) -> None:
    own("127.0.0.1", "169.254.3.4", "", "10.0.0.5", "192.168.1.7", "10.0.0.5")
    assert own_addresses() == ["10.0.0.5", "192.168.1.7", "169.254.3.4"]
    assert lan_address() == address_near("http://127.0.0.1:8000") == "10.0.0.5"
    own()
    assert own_addresses() == []
    assert lan_address() == "127.0.0.1"


def test_all_addresses_are_printed_for_other_machines(
    own: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with RendezvousServer("0.0.0.0", redis_url="") as server:
        own("10.0.0.5", "192.168.1.7")
        tell_where(server)
        own()
        tell_where(server)
    port, lines = server.port, capsys.readouterr().out.splitlines()
    assert lines[1:3] == [
        f"other machines: http://10.0.0.5:{port}",
        f"             or: http://192.168.1.7:{port}",
    ]
    assert lines[4].startswith("other machines: none, as this one has no network yet")


def test_a_lab_that_lets_others_in_tells_an_address_that_they_reach(own: Any) -> None:
    own("192.168.1.7")
    with Lab(host="0.0.0.0") as lab:
        assert lab.url == f"http://192.168.1.7:{lab.server.port}"
        assert lab.peer("ada").rendezvous.url == f"http://127.0.0.1:{lab.server.port}"
    with Lab() as lab:
        assert lab.url.startswith("http://127.0.0.1:")


@pytest.mark.parametrize(
    ("host", "seen", "alone"),
    [
        ("127.0.0.1", "192.168.1.7", True),
        ("::1", "2001:db8::7", True),
        ("127.0.0.1", "127.0.0.1", False),
        ("0.0.0.0", "192.168.1.7", False),
        ("192.168.1.7", "192.168.1.7", False),
    ],
)
def test_who_listens_to_itself_and_is_seen_from_elsewhere_is_told_the_cure(
    host: str, seen: str, alone: bool
) -> None:
    why = shut_in(host, Registration("ada", "token", 60, seen))
    assert (why is not None) == alone
    if alone:
        assert "ada is registered, but listens on" in str(why)
        assert "--host 0.0.0.0" in str(why)
    assert shut_in(host, None) is None


def test_a_peer_warns_at_registering_that_others_cannot_reach_it() -> None:
    here = own_addresses()
    with RendezvousServer("0.0.0.0", redis_url="") as server:
        url = next(iter(server.urls_elsewhere), server.url)
        with Peer("ada", url) as ada, warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            ada.register()
            quiet = threading.Thread(target=ada.register)
            quiet.start()
            quiet.join()
            assert len(told) == bool(here), "in another thread nothing is said"
            assert (ada.trouble is not None) == bool(here)
        assert not here or "--host 0.0.0.0" in str(told[0].message)
        with Peer("bob", url, host="0.0.0.0") as bob:
            bob.register()
            assert bob.trouble is None


@pytest.mark.parametrize(
    ("host", "these", "bound", "told"),
    [
        ("0.0.0.0", ["10.0.0.5", "fd00::5"], "0.0.0.0", ["10.0.0.5"]),
        ("0.0.0.0", ["fd00::5", "fe80::1"], "::", ["[fd00::5]"]),
        ("0.0.0.0", ["fe80::1"], "0.0.0.0", []),
        ("0.0.0.0", [], "0.0.0.0", []),
        ("::", ["10.0.0.5", "fd00::5", "fe80::1"], "::", ["10.0.0.5", "[fd00::5]"]),
        ("::", [], "::", []),
    ],
)
def test_who_listens_everywhere_is_told_where_others_reach_it(
    own: Any, host: str, these: list[str], bound: str, told: list[str]
) -> None:
    needs_ipv6()
    own(*these)
    with Lab(host=host) as lab:
        server = lab.server
        assert server.host == bound
        assert server.urls_elsewhere == [f"http://{at}:{server.port}" for at in told]
        assert "0.0.0.0" not in server.url
        assert "[::]" not in server.url
        ann, _ = lab.peer("ann"), lab.peer("bob")
        assert ann.send_text("bob", "hi").attempts == 1
