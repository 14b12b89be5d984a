"""A TCP connection between two peers: each proves who it is, then they speak in frames.

TCP keeps the order of bytes, and knows no borders between texts: a frame has both.
"""

from __future__ import annotations

import itertools
import secrets
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from hmac import compare_digest
from typing import Final, NamedTuple

from p2plab.errors import BadContent, CorruptPacket, Forged
from p2plab.net.session import ID_SIZE, OTHER, TAG_SIZE, Session

Address = tuple[str, int]  # host and port

#     0        4      5            13           21               21 + n
#    ┌────────┬──────┬────────────┬────────────┬────────────────┬──────────┐
#    │ length │ kind │ client key │   number   │      text      │   tag    │
#    │ uint32 │ T, A │   uint64   │   uint64   │ n ≤ 64 Ki bytes│ 16 bytes │
#    └────────┴──────┴────────────┴────────────┴────────────────┴──────────┘
#             └────────── length counts these bytes ────────────┘
#
# Network byte order; the text in UTF-8. An ACK repeats the id (key and number) of the
# text that arrived, and has no text.
TEXT: Final = b"T"
ACK: Final = b"A"
LENGTH: Final = struct.Struct("!I")
HEAD: Final = struct.Struct("!cQQ")
MAX_TEXT: Final = 65_536  # bytes of UTF-8
MAX_BODY: Final = HEAD.size + MAX_TEXT
READ_SIZE: Final = 65_536  # bytes taken from a socket at once

# The handshake that comes before the first frame:
#
# who connects → who listens    "p2t1" │ session (8 bytes) │ nonce (16)
# who listens → who connects    nonce (16) │ proof (16)
# who connects → who listens    proof (16), and at once its first frame
#
# Each side then has a key of its own for this connection, derived from the session's
# key, its role, and both nonces. Tag number n of a side is the keyed BLAKE2b of n and
# of its n-th frame; its proof is number 0, of no bytes. So a proof or frame of another
# connection, of the other direction or of another place in the stream fits nowhere,
# and since roles differ, nobody can make us prove ourselves to ourselves.
# On loopback the handshake adds 50 µs to a new connection's 210, and the tags of a text
# and its ACK 3 µs to 36 (tests/bench/session.py).
_MAGIC: Final = b"p2t1"
_NONCE_SIZE: Final = 16
_HELLO: Final = struct.Struct(f"!4s{ID_SIZE}s{_NONCE_SIZE}s")
_ANSWER: Final = struct.Struct(f"!{_NONCE_SIZE}s{TAG_SIZE}s")
_NUMBER: Final = struct.Struct("!Q")


class MessageId(NamedTuple):
    """Names one text for ever, over whichever connection it comes."""

    key: int  # random, one per client
    number: int  # counts that client's texts


class Frame(NamedTuple):
    """One text or one ACK. kind: TEXT or ACK."""

    kind: bytes
    id: MessageId
    text: str = ""


def encode(frame: Frame) -> bytes:
    """Return the frame as bytes, without its tag.

    Raises BadContent for a text that is no str, or cannot be carried.
    """
    if not isinstance(frame.text, str):
        raise BadContent(f"a text is a str, got {type(frame.text).__name__}")
    try:
        text = frame.text.encode()
    except UnicodeEncodeError as error:
        raise BadContent(
            f"character {error.start + 1} of the text is half a character (a lone "
            "surrogate), which UTF-8 cannot carry: remove it"
        ) from error
    if len(text) > MAX_TEXT:
        raise BadContent(
            f"the text has {len(text):,} bytes in UTF-8, and {MAX_TEXT:,} are allowed: "
            "shorten it or send it in parts"
        )
    return LENGTH.pack(HEAD.size + len(text)) + HEAD.pack(frame.kind, *frame.id) + text


def _parse(body: bytes) -> Frame:
    kind, key, number = HEAD.unpack_from(body)
    text = body[HEAD.size :]
    if kind not in (TEXT, ACK) or (kind == ACK and text):
        raise CorruptPacket("neither a text nor an ACK")
    try:
        return Frame(kind, MessageId(key, number), text.decode())
    except ValueError as error:
        raise CorruptPacket(f"a text that is not UTF-8: {error}") from error


class Tags:
    """The tags of one direction of a connection, each with the next number.

    speaker: the role of the side that makes them. nonces: of who connects, then of who
    listens.
    """

    def __init__(self, session: Session, speaker: str, nonces: bytes) -> None:
        self._keyed = session.keyed(speaker, b"connection " + nonces)
        self._numbers = itertools.count()

    def __call__(self, frame: bytes) -> bytes:
        tag = self._keyed.copy()
        tag.update(_NUMBER.pack(next(self._numbers)))
        tag.update(frame)
        return tag.digest()


def take_frames(stream: bytearray, tag: Callable[[bytes], bytes]) -> Iterator[Frame]:
    """Take the whole frames from the beginning of a stream, cut anywhere.

    tag: makes the tag that must follow each frame.
    Raises Forged if a frame's tag is not the one that was due, and CorruptPacket if
    these bytes cannot be a frame. Nobody knows then where the next one begins: drop the
    connection.
    """
    while len(stream) >= LENGTH.size:
        (length,) = LENGTH.unpack_from(stream)
        if not HEAD.size <= length <= MAX_BODY:  # refused before it is waited for
            raise CorruptPacket(f"a frame's body cannot have {length:,} bytes")
        end = LENGTH.size + length
        if len(stream) < end + TAG_SIZE:
            return
        frame, tagged = bytes(stream[:end]), bytes(stream[end : end + TAG_SIZE])
        del stream[: end + TAG_SIZE]
        if not compare_digest(tag(frame), tagged):
            raise Forged("a frame was forged, changed, repeated or left out")
        yield _parse(frame[LENGTH.size :])


class Connection:
    """One end of a TCP connection: `prove` or `admit` first, then `write` and `read`.

    Every wait has a limit in seconds. Whatever goes wrong with the connection is an
    OSError, a timeout in `write` too: half a frame may be on its way then, and only a
    new connection helps.
    session: what both sides have proven, or None before.
    ended: whether we have hung up.
    """

    def __init__(self, socket: socket.socket, address: Address) -> None:
        self.socket, self.address = socket, address
        self.session: Session | None = None
        self.ended = False

    @property
    def peer(self) -> str:
        """Who has proven to be at the other end; empty before."""
        return "" if self.session is None else self.session.peer

    def prove(self, session: Session, timeout: float) -> None:
        """As the one who connects: prove the session to each other.

        timeout: for all of it. Raises Forged if the other side cannot know the key, and
        OSError if it says too little, too late, or hangs up, as it does to strangers.
        """
        deadline = time.perf_counter() + timeout
        nonce = secrets.token_bytes(_NONCE_SIZE)
        self.socket.settimeout(timeout)
        self.socket.sendall(_HELLO.pack(_MAGIC, session.id, nonce))
        other, proof = _ANSWER.unpack(self._exactly(_ANSWER.size, deadline))
        self._derive(session, nonce + other)
        self._check(proof)
        self.socket.sendall(self._ours(b""))
        self.session = session

    def admit(
        self, sessions: Callable[[bytes], Session | None], timeout: float
    ) -> None:
        """As the one who listens: let both sides prove a session.

        sessions: finds the session of an id. timeout: for all of it. Raises Forged for
        a stranger, and OSError if it says too little, or too late.
        """
        deadline = time.perf_counter() + timeout
        magic, id, nonce = _HELLO.unpack(self._exactly(_HELLO.size, deadline))
        session = sessions(id) if magic == _MAGIC else None
        if session is None:
            raise Forged("these are not the first words of anybody whom we know")
        other = secrets.token_bytes(_NONCE_SIZE)
        self._derive(session, nonce + other)
        self.socket.settimeout(timeout)
        self.socket.sendall(_ANSWER.pack(other, self._ours(b"")))
        self._check(self._exactly(TAG_SIZE, deadline))
        self.session = session

    def write(self, frame: bytes, timeout: float) -> None:
        """Send a frame and its tag."""
        self.socket.settimeout(timeout)
        self.socket.sendall(frame + self._ours(frame))

    def read(self, timeout: float) -> Iterator[Frame]:
        """Wait once for bytes, and yield the frames that they complete."""
        self.socket.settimeout(max(timeout, 0.001))  # 0 would not wait, but raise
        try:
            data = self.socket.recv(READ_SIZE)
        except TimeoutError:
            return
        if not data:
            raise ConnectionResetError("the peer closed the connection")
        self._stream += data
        yield from take_frames(self._stream, self._theirs)

    def alive(self) -> bool:
        """False once the peer has closed or reset the connection."""
        self.socket.settimeout(0)
        try:
            return self.socket.recv(1, socket.MSG_PEEK) != b""
        except BlockingIOError:
            return True  # nothing to read, and no end either
        except OSError:
            return False

    def hang_up(self) -> None:
        """End it from any thread; whoever reads or writes is woken."""
        self.ended = True
        with suppress(OSError):  # the other side was quicker
            self.socket.shutdown(socket.SHUT_RDWR)

    def _derive(self, session: Session, nonces: bytes) -> None:
        self._ours = Tags(session, session.role, nonces)
        self._theirs = Tags(session, OTHER[session.role], nonces)
        self._stream = bytearray()
        # Nagle's algorithm would hold an ACK behind another ACK, or a text sent again,
        # until TCP has acknowledged the one before, which TCP puts off by 40 ms and
        # more: an experiment with our timeout would measure somebody else's.
        with suppress(OSError):  # broken already: the next read or write will say so
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _check(self, proof: bytes) -> None:
        if not compare_digest(self._theirs(b""), proof):
            raise Forged("the other side does not know the session's key")

    def _exactly(self, size: int, deadline: float) -> bytes:
        """Read so many bytes, however they come; OSError if they do not by then."""
        data = b""
        while len(data) < size:
            self.socket.settimeout(max(deadline - time.perf_counter(), 0.001))
            part = self.socket.recv(size - len(data))
            if not part:
                raise ConnectionResetError("the other side hung up before its proof")
            data += part
        return data
