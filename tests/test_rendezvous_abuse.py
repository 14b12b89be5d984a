"""Floods from one address: they are told to wait, and others notice nothing."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from abuse import (
    BAD,
    HONEST,
    HUNG_UP,
    SILENT,
    Damage,
    Flood,
    Introductions,
    Looks,
    Registrations,
    Silent,
    SilentClassmate,
    suffer,
    suffer_stun,
)
from processes import Server
from redis_server import RedisServer

from p2plab.rendezvous.model import Quotas

LIMITS = Quotas()
BRIEF = 1.5  # s of a flood, enough for all limits


@pytest.fixture(autouse=True)
def several_addresses() -> None:
    for address in (HONEST, BAD):
        with socket.socket() as probe:
            try:
                probe.bind((address, 0))
            except OSError:
                pytest.skip(f"{address} is no address of this machine")


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    folder: Path = tmp_path_factory.mktemp("redis")
    with RedisServer(folder, "--appendfsync", "no") as server:
        yield server


def flooded(redis: RedisServer, kind: type[Flood], **limits: int) -> Damage:
    redis.empty()
    with Server(redis.url, limits=limits, files=kind.files) as server:
        damage = asyncio.run(suffer(kind, server.address, BRIEF))
    # every name, every unread introduction, and every call of the honest ones
    assert damage.harm == []
    assert set(damage.statuses) <= {200, 201, 202, 429, HUNG_UP}
    return damage


def in_time(damage: Any, per_minute: int) -> float:
    """How often something may be done in a flood: as in a minute, and what comes free
    meanwhile.
    """
    return float(per_minute * (1 + (damage.seconds + 2) / 60))


def test_a_flood_of_names(redis: RedisServer) -> None:
    damage = flooded(redis, Registrations)
    assert damage.statuses[201] <= in_time(damage, LIMITS.names_per_minute)
    assert damage.statuses[429] > 0
    assert all(0 < pause <= 60 for pause in damage.pauses)


def test_a_flood_of_introductions(redis: RedisServer) -> None:
    damage = flooded(redis, Introductions)
    # it is aimed at two peers
    most = in_time(damage, LIMITS.introductions_to_per_source)
    assert damage.statuses[202] <= 2 * most
    assert damage.statuses[429] > 0
    assert all(0 < pause <= 60 for pause in damage.pauses)


def test_a_flood_of_look_ups(redis: RedisServer) -> None:
    damage = flooded(redis, Looks, look_ups_per_second=100)  # for slow machines, too
    seconds = damage.seconds + 2  # each that has begun
    assert 0 < damage.statuses[200] <= 100 * seconds
    assert damage.statuses[429] > 0
    assert set(damage.pauses) == {1}


@pytest.mark.parametrize("kind", [Silent, SilentClassmate])
def test_a_flood_of_silent_connections(redis: RedisServer, kind: type[Flood]) -> None:
    """More than the server may have files, from elsewhere and from one's own NAT."""
    assert SILENT > kind.files > 0
    assert flooded(redis, kind).statuses[HUNG_UP] > SILENT - kind.files


def test_a_flood_of_stun_requests() -> None:
    damage, refused = suffer_stun(BRIEF)
    assert damage.harm == []
    assert refused > 0
    assert damage.statuses[200] <= 50 * (BRIEF + 2)  # in each second that has begun
