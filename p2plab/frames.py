"""Texts and ACKs in a TCP stream, which keeps the order of bytes but no borders."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from p2plab.errors import BadContent, CorruptPacket

#     0        4      5            13           21     22       22 + n
#    ┌────────┬──────┬────────────┬────────────┬──────┬────────┬──────────────┐
#    │ length │ kind │ client key │   number   │  n   │  name  │     text     │
#    │ uint32 │ T, A │   uint64   │   uint64   │ byte │ n ≤ 128│   ≤ 64 KiB   │
#    └────────┴──────┴────────────┴────────────┴──────┴────────┴──────────────┘
#             └─────────────── length counts these bytes ────────────────────┘
#
# Network byte order; name and text in UTF-8. An ACK repeats the id (key and number)
# of the text that arrived, and has no name and no text.

LENGTH = struct.Struct("!I")
HEAD = struct.Struct("!BQQB")
MAX_NAME = 128  # bytes of UTF-8
MAX_TEXT = 65_536  # bytes of UTF-8
READ_SIZE = 65_536  # bytes taken from a socket at once
MAX_BODY = HEAD.size + MAX_NAME + MAX_TEXT


class FrameKind(IntEnum):
    """What a frame carries; a packet sniffer shows the letter."""

    TEXT = ord("T")
    ACK = ord("A")


class MessageId(NamedTuple):
    """Names one text for ever, over whichever connection it comes."""

    key: int  # random, one per client
    number: int  # counts that client's texts


@dataclass(frozen=True, slots=True)
class Frame:
    """One text or one ACK."""

    kind: FrameKind
    id: MessageId
    name: str = ""
    text: str = ""


def encode(frame: Frame) -> bytes:
    """The frame as bytes; BadContent if the name or the text cannot be carried."""
    name = utf8(frame.name, MAX_NAME, "name")
    text = utf8(frame.text, MAX_TEXT, "text")
    body = HEAD.pack(frame.kind, *frame.id, len(name)) + name + text
    return LENGTH.pack(len(body)) + body


def utf8(words: str, limit: int, what: str) -> bytes:
    """The words in UTF-8; BadContent if they are no text or longer than the limit."""
    if not isinstance(words, str):
        raise BadContent(f"a {what} is a str, got {type(words).__name__}")
    try:
        data = words.encode()
    except UnicodeEncodeError as error:
        raise BadContent(
            f"character {error.start + 1} of the {what} is half a character (a lone "
            "surrogate), which UTF-8 cannot carry: remove it"
        ) from error
    if len(data) > limit:
        raise BadContent(
            f"the {what} has {len(data):,} bytes in UTF-8, and {limit:,} are allowed: "
            "shorten it or send it in parts"
        )
    return data


class Decoder:
    """Cuts a stream of bytes into frames again: feed it, then pull until None."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def __len__(self) -> int:
        """How many bytes wait for the rest of their frame."""
        return len(self._bytes)

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream, cut anywhere."""
        self._bytes += data

    def next_frame(self) -> Frame | None:
        """The next whole frame; CorruptPacket if these bytes cannot be one.

        After CorruptPacket nobody knows where a frame begins: drop the connection.
        """
        if len(self._bytes) < LENGTH.size:
            return None
        (length,) = LENGTH.unpack_from(self._bytes)
        if not HEAD.size <= length <= MAX_BODY:  # refused before it is waited for
            raise CorruptPacket(f"a frame's body cannot have {length:,} bytes")
        end = LENGTH.size + length
        if len(self._bytes) < end:
            return None
        body = bytes(self._bytes[LENGTH.size : end])
        del self._bytes[:end]
        return _parse(body)


def _parse(body: bytes) -> Frame:
    kind, key, number, n = HEAD.unpack_from(body)
    name, text = body[HEAD.size : HEAD.size + n], body[HEAD.size + n :]
    if len(name) < n or n > MAX_NAME or len(text) > MAX_TEXT:
        raise CorruptPacket("a name or a text does not fit into its frame")
    if kind == FrameKind.ACK and (name or text):
        raise CorruptPacket("an ACK carries neither a name nor a text")
    try:
        return Frame(
            FrameKind(kind), MessageId(key, number), name.decode(), text.decode()
        )
    except ValueError as error:  # an unknown kind, or bytes that are not UTF-8
        raise CorruptPacket(f"not a frame of ours: {error}") from error


@dataclass(slots=True)
class Line:
    """A TCP connection that speaks in frames; every wait has a limit in seconds.

    Whatever goes wrong with the connection is an OSError, a timeout in write too:
    half a frame may be on its way then, and only a new connection helps.
    """

    socket: socket.socket
    decoder: Decoder = field(default_factory=Decoder)

    def __post_init__(self) -> None:
        # Nagle's algorithm would hold an ACK behind another ACK, or a text sent again,
        # until TCP has acknowledged the one before, which TCP puts off by 40 ms and
        # more: an experiment with our timeout would measure somebody else's.
        with suppress(OSError):  # already broken: the first read or write will say so
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def write(self, frame: bytes, timeout: float) -> None:
        self.socket.settimeout(timeout)
        self.socket.sendall(frame)

    def read(self, timeout: float) -> Iterator[Frame]:
        """Wait once for bytes, and yield the frames that they complete."""
        self.socket.settimeout(max(timeout, 0.001))  # 0 would not wait, but raise
        try:
            data = self.socket.recv(READ_SIZE)
        except TimeoutError:
            return
        if not data:
            raise ConnectionResetError("the peer closed the connection")
        self.decoder.feed(data)
        while (frame := self.decoder.next_frame()) is not None:
            yield frame

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
        with suppress(OSError):  # the other side was quicker
            self.socket.shutdown(socket.SHUT_RDWR)
