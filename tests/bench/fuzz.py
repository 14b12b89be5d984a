"""Throws damaged bytes at everything that reads what came over a wire, and counts."""

from __future__ import annotations

import argparse
import json
import os
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any, Final

from fuzz_peers import (
    HELLO,
    ID,
    KEY,
    NONCE,
    Machine,
    Talk,
    chat,
    connecting,
    conversation,
    listening,
    read_as,
    with_answer,
    with_proof,
)
from peak import peak
from processes import resident
from pydantic import BaseModel, TypeAdapter, ValidationError

from p2plab import errors
from p2plab.content.chunks import cut
from p2plab.content.offer import Offer
from p2plab.content.sample import sample_picture
from p2plab.core import packet
from p2plab.core.packet import HEADER_SIZE, Kind, Packet
from p2plab.net import frames, stun
from p2plab.net.session import TAG_SIZE, Session, inside
from p2plab.protocols import PROTOCOLS, Setup
from p2plab.rendezvous import client, model
from p2plab.rendezvous.client import understood

INPUTS: Final = 1_000_000
NO_TAG: Final = bytes(TAG_SIZE)
EDGES: Final = (0, 1, 0x7F, 0x80, 0xFE, 0xFF)
SIZES: Final = (1, 2, 4, 8)
LONGEST: Final = 70_000  # bytes of an input
VALUES: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**400, 1e308, 0.5, -0.0),
    *("", "ann", "\ud800", "\u202e", "\0", "x" * 5_000, "127.0.0.1", "::1", "Infinity"),
    *([], {}, [[]], ["192.168.1.7"] * 9, {"name": "ann"}, "00c0ffee00c0ffee"),
)


@dataclass(frozen=True, slots=True)
class Target:
    """Something that reads bytes of others.

    read: reads them. expected: what it may raise. samples: what it takes gladly.
    repair: makes damaged bytes fit a checksum or a length again, so that they get
    further. share: of all inputs, beside the other targets.
    """

    read: Callable[[bytes], object]
    expected: tuple[type[Exception], ...]
    samples: Sequence[bytes]
    repair: Callable[[bytes], bytes] | None = None
    is_json: bool = False
    share: float = 1.0


def with_checksum(datagram: bytes) -> bytes:
    """Let a packet's checksum fit."""
    if len(datagram) < HEADER_SIZE:
        return datagram
    return datagram[:-4] + zlib.crc32(datagram[:-4]).to_bytes(4, "little")


def with_length(message: bytes) -> bytes:
    """Let the length in a STUN message fit."""
    if len(message) < 20:
        return message
    return message[:2] + ((len(message) - 20) & 0xFFFC).to_bytes(2) + message[4:]


def with_body_length(frame: bytes) -> bytes:
    """Let the length of a frame fit."""
    return (max(len(frame) - 4 - TAG_SIZE, 0)).to_bytes(4) + frame[4:-TAG_SIZE] + NO_TAG


def read_stun(datagram: bytes) -> None:
    message = stun.parse(datagram)
    _ = message.address, message.unknown
    if message.kind == stun.ERROR:
        _ = message.error


def read_frames(data: bytes) -> None:
    """Feed a stream in three parts, as TCP may cut it."""
    stream, third = bytearray(), len(data) // 3 + 1
    for at in range(0, len(data), third):
        stream += data[at : at + third]
        list(frames.take_frames(stream, lambda frame: NO_TAG))
    assert len(stream) <= 4 + frames.MAX_BODY + TAG_SIZE, "it keeps more than a frame"


class Sealed:
    """A session that reads what its peer has sealed, and what others have made."""

    def __init__(self) -> None:
        self.theirs = Session(ID, KEY, "caller", "ann")
        self.ours = Session(ID, KEY, "callee", "bob")

    def samples(self) -> list[bytes]:
        return [self.theirs.seal(each) for each in packets()]

    def again(self, datagram: bytes) -> bytes:
        """Let a damaged datagram come from the peer itself."""
        return self.theirs.seal(inside(datagram))

    def read(self, datagram: bytes) -> None:
        packet.decode(self.ours.open(datagram))


def body(form: type[BaseModel]) -> Callable[[bytes], object]:
    """Return what reads a request's body."""
    return form.model_validate_json


def answer(kind: TypeAdapter[Any]) -> Callable[[bytes], object]:
    """Return what reads an answer of a rendezvous, which may be anybody's."""
    return lambda content: understood(kind, 200, content, "http://127.0.0.1")


def packets() -> list[bytes]:
    """Return a packet of every kind."""
    return [
        packet.encode(Packet(kind, 5, b"payload" * 20, 1.5, 2.5), 7, 9) for kind in Kind
    ]


def stun_messages() -> list[bytes]:
    """Return requests and answers."""
    number = stun.COOKIE + bytes(12)
    asked = stun.Message(stun.REQUEST, number, {stun.USERNAME: b"0-nonce"})
    mapped = stun.write_address(("192.0.2.1", 32853), number)
    mapped6 = stun.write_address(("2001:db8::1", 32853), number)
    told = [
        stun.Message(stun.SUCCESS, number, {stun.XOR_MAPPED_ADDRESS: each})
        for each in (mapped, mapped6)
    ]
    refused = stun.Message(stun.ERROR, number, {stun.ERROR_CODE: b"\0\0\4\x14why"})
    return [stun.encode(each) for each in (asked, *told, refused)]


def texts() -> list[bytes]:
    """Return a stream with a text and an ACK."""
    id = frames.MessageId(3, 4)
    said = frames.encode(frames.Frame(frames.TEXT, id, "hello")) + bytes(TAG_SIZE)
    ack = frames.encode(frames.Frame(frames.ACK, id)) + bytes(TAG_SIZE)
    return [said, said + ack + said]


def targets() -> dict[str, Target]:
    """Return all of them; sessions are made anew."""
    sealed = Sealed()
    content = cut(sample_picture(16)).content
    offers = [Offer("ann", content, Setup()).to_bytes()]
    corrupt, invalid = (errors.CorruptPacket,), (ValidationError,)
    refused = (errors.RendezvousError,)
    found = {
        "packet.decode": Target(packet.decode, corrupt, packets(), with_checksum),
        "Session.open": Target(sealed.read, corrupt, sealed.samples(), sealed.again),
        "stun.parse": Target(read_stun, corrupt, stun_messages(), with_length),
        "frames.take_frames": Target(read_frames, corrupt, texts(), with_body_length),
        "Offer.from_bytes": Target(
            Offer.from_bytes, (errors.BadContent,), offers, is_json=True
        ),
    }
    found |= peers()
    for form, sample in FORMS.items():
        given = [json.dumps(sample).encode()]
        name = f"forms.{form.__name__}"
        found[name] = Target(body(form), invalid, given, is_json=True, share=0.5)
    for answered, (kind, sample) in ANSWERS.items():
        given = [json.dumps(sample).encode()]
        name = f"answers.{answered}"
        found[name] = Target(answer(kind), refused, given, is_json=True, share=0.5)
    return found


def peers() -> dict[str, Target]:
    """Return those that only somebody with the key can reach."""
    corrupt = (errors.CorruptPacket,)  # Forged, too
    said, tag = texts()[0][:-TAG_SIZE], NO_TAG
    begun = [HELLO + tag + said, HELLO + bytes(40)]
    answered = [bytes(len(NONCE)) + tag + said]
    hangs_up = (*corrupt, OSError)
    found = {
        "Connection.admit": Target(
            partial(read_as, listening), hangs_up, begun, with_proof, share=0.5
        ),
        "Connection.prove": Target(
            partial(read_as, connecting), hangs_up, answered, with_answer, share=0.5
        ),
        "ChatServer": Target(chat, hangs_up, [said[4:]], share=0.03),
    }
    for name in PROTOCOLS:
        to_receiver, to_sender = conversation(name)
        for role, words in (("sender", to_sender), ("receiver", to_receiver)):
            machine, talk = Machine(name, role), Talk(name, role)
            found[f"{name} {role}"] = Target(
                machine.read, corrupt, words, with_checksum, share=0.5
            )
            found[f"UDP, {name} {role}"] = Target(
                talk.read, corrupt, talk.samples(), with_checksum, share=0.2
            )
    return found


SESSION: Final = "00c0ffee00c0ffee"
FORMS: Final[dict[type[BaseModel], dict[str, Any]]] = {
    model.Claim: {"addresses": ["192.168.1.7"], "tcp_port": 1, "udp_port": 2},
    model.Wish: {"from": "ann", "to": "bob", "session": SESSION},
    model.Consent: {"name": "bob", "accept": False, "why": "not now"},
    model.Report: {"name": "bob", "events": [{"at": 1.5, "what": "probe", "note": ""}]},
}
_MET: Final = {
    "what": "met",
    "session": SESSION,
    "peer": "bob",
    "role": "caller",
    "candidates": [{"kind": "host", "address": "192.168.1.7", "port": 5002}],
    "since": 1,
    "addresses": ["192.168.1.7"],
    "tcp_port": 1,
    "udp_port": 2,
    "start_in": 0.0,
    "key": KEY.hex(),
}
_SEEN: Final = {"at": 1.0, "who": "ann", "what": "a", "note": ""}
ANSWERS: Final[dict[str, tuple[TypeAdapter[Any], dict[str, Any]]]] = {
    "page": (client.PAGE, {"peers": [{"name": "ann", "since": 1}], "next": None}),
    "inbox": (client.INBOX, {"events": [_MET], "next": "1-0"}),
    "meeting": (client.MEETING, {"events": [_SEEN]}),
}


def damaged(rng: Random, target: Target) -> bytes:
    """Return one of the samples, changed in some places."""
    data = bytearray(rng.choice(target.samples))
    if target.is_json and rng.random() < 0.7:
        return changed_json(rng, bytes(data))
    for _ in range(rng.choice((0, 1, 1, 1, 2, 4, 16))):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(7):
            case 0 if data:
                data[at % len(data)] ^= 1 << rng.randrange(8)
            case 1 if data:
                data[at % len(data)] = rng.choice(EDGES)
            case 2:
                del data[at : at + rng.choice(SIZES)]
            case 3:
                del data[at:]
            case 4:
                data[at:at] = rng.randbytes(rng.choice((1, 4, 40)))
            case 5:
                size = rng.choice(SIZES)
                data[at : at + size] = rng.choice(EDGES).to_bytes(1) * size
            case _:
                part = data[at : at + rng.choice((4, 16, 64))]
                data[at:at] = part * rng.choice((1, 2, 200))
        del data[LONGEST:]
    if target.repair is not None and rng.random() < 0.5:
        return target.repair(bytes(data))
    return bytes(data)


def changed_json(rng: Random, data: bytes) -> bytes:
    """Return JSON with other values, more fields, or fewer."""
    value = json.loads(data)
    for _ in range(rng.choice((0, 1, 1, 2, 3))):
        parent, new = rng.choice(list(containers(value))), deepcopy(rng.choice(VALUES))
        places: list[Any] = list(
            parent if isinstance(parent, dict) else range(len(parent))
        )
        if not places or rng.random() < 0.1:
            if isinstance(parent, dict):
                parent[rng.choice(("x", "", "name", "\ud800"))] = new
            else:
                parent.append(new)
        elif rng.random() < 0.2:
            del parent[rng.choice(places)]
        else:
            parent[rng.choice(places)] = new
    text = json.dumps(value, ensure_ascii=rng.random() < 0.5)
    if rng.random() < 0.02:
        text = "[" * 3_000 + text
    return text.encode(errors="surrogatepass")


def containers(value: Any) -> Iterator[Any]:
    """Yield a JSON value's objects and arrays, itself first."""
    if isinstance(value, dict | list):
        yield value
        for each in value.values() if isinstance(value, dict) else value:
            yield from containers(each)


class Surprise(AssertionError):
    """An error that nobody expects."""


def throw(name: str, target: Target, count: int, seed: int) -> Counter[str]:
    """Throw so many inputs; return how often it was read, and each error raised.

    Raises Surprise with the input for any other error.
    """
    rng, outcomes = Random(f"{name} {seed}"), Counter[str]()
    for number in range(count):
        data = damaged(rng, target)
        try:
            target.read(data)
        except target.expected as why:
            outcomes[type(why).__name__] += 1
        except Exception as why:
            raise Surprise(f"{name}, seed {seed}, input {number}: {data!r}") from why
        else:
            outcomes["read"] += 1
    return outcomes


def fuzz(inputs: int, seed: int) -> None:
    """Throw inputs at all targets, and print what came of it."""
    everything = targets()
    shares = sum(target.share for target in everything.values())
    total, start = 0, time.perf_counter()
    row = "{:<30}{:>10}{:>10}{:>12}{:>12}  {}"
    print(row.format("", "inputs", "read", "inputs/s", "memory", "refused as"))
    for name, target in everything.items():
        throw(name, target, 1_000, seed + 1)  # let caches fill
        before, begin = resident([os.getpid()]) or 0, time.perf_counter()
        count = round(inputs * target.share / shares) + 1
        outcomes = throw(name, target, count, seed)
        seconds = time.perf_counter() - begin
        grown = (resident([os.getpid()]) or 0) - before
        total += count
        read = outcomes.pop("read", 0)
        words = ", ".join(f"{word} {n:,}" for word, n in outcomes.most_common())
        figures = f"{count:,}", f"{read:,}", f"{count / seconds:,.0f}"
        print(row.format(name, *figures, f"{grown / 1e6:+.1f} MB", words), flush=True)
    seconds = time.perf_counter() - start
    print(f"{total:,} inputs in {seconds:.0f} s, seed {seed}: no surprise")
    print(f"the most memory at any time: {peak() / 1e6:,.0f} MB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=INPUTS, help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="(%(default)s)")
    wishes = parser.parse_args()
    fuzz(wishes.inputs, wishes.seed)
