"""The tests' own redis-servers, beside whatever else takes ports of this machine."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import redis_server
from redis_server import BUS, ThreeNodes, free_port


def test_no_port_is_handed_out_twice_or_to_outgoing_connections() -> None:
    ports = [free_port() for _ in range(100)]
    assert len(set(ports)) == 100
    assert max(ports) + BUS < 32_768


@pytest.mark.parametrize("above", [0, BUS])
def test_a_port_in_use_is_not_handed_out(
    monkeypatch: pytest.MonkeyPatch, above: int
) -> None:
    taken, free = free_port(), free_port()
    monkeypatch.setattr(redis_server, "UNUSED", iter([taken, free]))
    with socket.create_server(("127.0.0.1", taken + above)):
        assert free_port() == free


@pytest.mark.parametrize("above", [0, BUS])
def test_a_node_whose_port_was_taken_before_it_could_bind_starts_on_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, above: int
) -> None:
    taken = free_port()
    ports = iter([taken, *(free_port() for _ in range(20))])
    monkeypatch.setattr(redis_server, "free_port", lambda: next(ports))
    with (
        socket.create_server(("127.0.0.1", taken + above)),
        ThreeNodes(tmp_path) as cluster,
    ):
        assert str(taken) not in cluster.url
        assert all(node.process for node in cluster.nodes)
