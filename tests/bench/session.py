"""What does a proof cost? Seals beside a checksum, texts over a proven connection."""

from __future__ import annotations

import hashlib
import hmac
import random
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from p2plab.core.packet import DATA, Packet, encode
from p2plab.net.chat import ChatClient
from p2plab.net.chat_server import ChatServer
from p2plab.net.frames import Address
from p2plab.net.session import CALLEE, CALLER, TAG_SIZE, Session

ROUNDS = 200  # short ones: the best of them had the machine to itself
KEY = random.Random(1).randbytes(32)


def nanoseconds(ways: Mapping[str, Callable[[], object]], calls: int) -> list[float]:
    """Return what one call of each costs in its best round; they take turns."""
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(ROUNDS):
        for name, call in ways.items():
            start = time.perf_counter_ns()
            for _ in range(calls):
                call()
            took = (time.perf_counter_ns() - start) / calls
            best[name] = min(best[name], took)
    return list(best.values())


def introduced() -> tuple[Session, Session]:
    """Return both sides of one session."""
    id = bytes(8)
    return Session(id, KEY, CALLER, "bob"), Session(id, KEY, CALLEE, "alice")


def open_next(session: Session, sealed: Iterator[bytes]) -> None:
    """Open a packet that was not here before."""
    session.open(next(sealed))


def seals(calls: int = 64) -> None:
    """Print the cost of a seal and of opening it, beside a CRC-32 of the same bytes."""
    print(f"{'ns per packet':<24}{'crc32':>8}{'seal':>8}{'open':>8}")
    for size in (0, 1_200):
        datagram = encode(Packet(DATA, 1, bytes(size)))
        alice, bob = introduced()
        sealed = iter([alice.seal(datagram) for _ in range(ROUNDS * calls)])
        ways: dict[str, Callable[[], object]] = {
            "crc32": partial(zlib.crc32, datagram),
            "seal": partial(alice.seal, datagram),
            "open": partial(open_next, bob, sealed),
        }
        costs = "".join(f"{cost:>8,.0f}" for cost in nanoseconds(ways, calls))
        print(f"{f'{size:,} bytes of payload':<24}{costs}")


def tags(calls: int = 200) -> None:
    """Print what keyed hashes of the standard library cost."""
    data = bytes(1_244)  # a packet of 1,200 bytes with its seal's header
    blake = hashlib.blake2b(key=KEY, digest_size=TAG_SIZE)
    sha = hmac.new(KEY, digestmod="sha256")

    def copied(keyed: hashlib.blake2b | hmac.HMAC) -> bytes:
        tag = keyed.copy()
        tag.update(data)
        return tag.digest()

    ways: dict[str, Callable[[], object]] = {
        "keyed BLAKE2b, copied": partial(copied, blake),
        "keyed BLAKE2b, anew": lambda: hashlib.blake2b(data, key=KEY).digest(),
        "keyed BLAKE2s, anew": lambda: hashlib.blake2s(data, key=KEY).digest(),
        "HMAC-SHA-256, copied": partial(copied, sha),
        "hmac.digest, SHA-256": partial(hmac.digest, KEY, data, "sha256"),
        "hmac.digest, SHA-512": partial(hmac.digest, KEY, data, "sha512"),
    }
    print(f"\nns per tag of {len(data):,} bytes")
    for name, cost in zip(ways, nanoseconds(ways, calls), strict=True):
        print(f"{name:<24}{cost:>8,.0f}")


def once(address: Address, session: Session) -> None:
    """Send a text over a connection of its own."""
    with ChatClient("alice") as client:
        client.send_text(address, "x" * 100, session)


def texts() -> None:
    """Print what a text over a kept connection costs, and one over a new one."""
    alice, bob = introduced()
    with (
        ChatServer({bob.id: bob}.get, inbox_limit=1_000_000) as server,
        ChatClient("alice") as client,
    ):
        to = server.address
        ways: dict[str, Callable[[], object]] = {
            "kept connection": partial(client.send_text, to, "x" * 100, alice),
            "new connection": partial(once, to, alice),
        }
        costs = nanoseconds(ways, 3)
    print("\nµs per text and its ACK, loopback")
    for name, cost in zip(ways, costs, strict=True):
        print(f"{name:<24}{cost / 1e3:>8,.0f}")


if __name__ == "__main__":
    seals()
    tags()
    texts()
