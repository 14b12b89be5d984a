"""Which addresses of this machine others are told, with and without a default route."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
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
    NOWHERE,
    address_near,
    listening_on,
    own_addresses,
    shut_in,
)
from p2plab.rendezvous.model import Registration
from p2plab.rendezvous.server import RendezvousServer, tell_where


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let a machine have these addresses, in the order in which its system tells."""

    def have(*these: str) -> None:
        monkeypatch.setattr(addresses, "_on_the_way", lambda *_: "")
        monkeypatch.setattr(addresses, "_of_interfaces", lambda: iter(these))

    return have


def test_addresses_are_found_without_a_default_route_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_it = own_addresses()
    ask = addresses._on_the_way
    monkeypatch.setattr(
        addresses, "_on_the_way", lambda to: "" if to in NOWHERE else ask(to)
    )
    assert set(own_addresses()) == set(with_it)
    assert not any(ip_address(each).is_loopback for each in with_it)


HERE, SIX = "http://127.0.0.1:8000", "2001:db8::5"


@pytest.mark.parametrize(
    ("interfaces", "four", "all_of_them", "near"),
    [
        (["127.0.0.1", "::1"], [], [], {"0.0.0.0": "127.0.0.1", "::": "::1"}),
        (["0.0.0.0", "::", "fe80::1"], [], [], {"": "127.0.0.1", "::": "::1"}),
        ([SIX, "fe80::1"], [], [SIX], {"::": SIX, "127.0.0.1": "127.0.0.1"}),
        (
            [SIX, "169.254.3.4", "", "10.0.0.5", "192.168.1.7", "10.0.0.5"],
            ["10.0.0.5", "192.168.1.7", "169.254.3.4"],
            ["10.0.0.5", "192.168.1.7", "169.254.3.4", SIX],
            {"0.0.0.0": "10.0.0.5", "::": "10.0.0.5", "192.168.1.7": "192.168.1.7"},
        ),
    ],
)
def test_others_are_told_what_they_can_reach_and_never_everywhere(
    own: Any,
    interfaces: list[str],
    four: list[str],
    all_of_them: list[str],
    near: dict[str, str],
) -> None:
    own(*interfaces)
    assert own_addresses("0.0.0.0") == four
    assert own_addresses() == all_of_them
    assert {host: address_near(HERE, host) for host in near} == near
    six_alone = bool(all_of_them) and not four
    assert listening_on("0.0.0.0") == ("::" if six_alone else "0.0.0.0")


VETH = """
echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad
ip link add eth0 type veth peer name eth1
ip link set eth0 up; ip link set eth1 up
"""
NETWORKS = {
    "lo alone": ("", ["none"]),
    "no address yet": ("ip link add eth0 type veth peer name eth1", ["none"]),
    "IPv6 alone": (
        VETH + "ip addr add 2001:db8::5/64 dev eth0 nodad",
        ["http://[2001:db8::5]"],
    ),
    "zones alone": (VETH, ["none"]),
    "both": (
        VETH + "ip addr add 2001:db8::5/64 dev eth0 nodad\n"
        "ip addr add 192.168.7.5/24 dev eth0",
        ["http://192.168.7.5", "http://[2001:db8::5]"],
    ),
}
MEET = """
import sys, p2plab, ifaddr
from p2plab.rendezvous.server import RendezvousServer, tell_where
host = sys.argv[1]
with RendezvousServer(host, redis_url="") as server:
    tell_where(server)
    urls = [server.url, *server.urls_elsewhere]
    for link in ifaddr.get_adapters() if server.host == "::" else []:
        zoned = [ip.ip[0] for ip in link.ips if ip.ip[0].startswith("fe80")]
        urls += [f"http://[{each}%{link.name}]:{server.port}" for each in zoned]
    for url in urls:
        with p2plab.Peer("a", url, host=host) as a:
            with p2plab.Peer("b", url, host=host) as b:
                a.register(), b.register()
                a.send_text("b", "hello")
                a.introduce("b").contact.wait()
    print("all met", *a.rendezvous.urls, a.host)
"""


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
@pytest.mark.parametrize("network", NETWORKS)
def test_on_any_network_peers_register_meet_and_tell_no_address_in_vain(
    network: str, host: str
) -> None:
    needs_ipv6()
    new = ["unshare", "--net", "--map-root-user"]
    if not shutil.which(new[0]) or subprocess.run([*new, "ip", "link"]).returncode:
        pytest.skip("no network namespaces here")
    setup, elsewhere = NETWORKS[network]
    if host == "0.0.0.0" and len(elsewhere) == 2:
        elsewhere = elsewhere[:1]  # IPv4 alone, where it is there
    script = f'ip link set lo up\n{setup}\nexec "$@"'
    command = [*new, "sh", "-ec", script, "sh", sys.executable, "-c", MEET, host]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    told = re.findall(r"(?:machines|or): (none|http.*):?", run.stdout)
    assert [each.rpartition(":")[0] or each for each in told] == elsewhere
    assert "all met" in run.stdout


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
