"""What does a proof cost? Seals beside a checksum, texts with and without a session."""

from __future__ import annotations

import hashlib
import hmac
import random
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial

from p2plab.core.packet import DATA, Packet, encode
from p2plab.net.chat import ChatClient, ChatServer
from p2plab.net.inbox import Address
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


def once(address: Address, session: Session | None) -> None:
    """Send a text over a connection of its own."""
    with ChatClient("alice") as client:
        client.send_text(address, "x" * 100, session=session)


def texts() -> None:
    """Print what a text over a kept connection costs, and one over a new one."""
    alice, bob = introduced()
    kept: dict[str, Callable[[], object]] = {}
    new: dict[str, Callable[[], object]] = {}
    with ExitStack() as stack:
        for name, ours, theirs in (
            ("no session", None, None),
            ("in a session", alice, {bob.id: bob}.get),
        ):
            server = ChatServer(sessions=theirs, inbox_limit=1_000_000)
            stack.enter_context(server)
            client = stack.enter_context(ChatClient("alice"))
            to = server.address
            kept[name] = partial(client.send_text, to, "x" * 100, session=ours)
            new[name] = partial(once, to, ours)
        costs = nanoseconds(kept, 20), nanoseconds(new, 3)
    print(f"\n{'µs per text, loopback':<24}{'kept connection':>16}{'new one':>10}")
    for name, cost, cost_new in zip(kept, *costs, strict=True):
        print(f"{name:<24}{cost / 1e3:>16,.0f}{cost_new / 1e3:>10,.0f}")


if __name__ == "__main__":
    seals()
    tags()
    texts()
