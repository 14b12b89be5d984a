"""Texts and ACKs in a TCP stream, which keeps the order of bytes but no borders."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from enum import IntEnum
from hmac import compare_digest
from typing import NamedTuple

from p2plab.errors import BadContent, CorruptPacket, Forged
from p2plab.net.session import TAG_SIZE

#     0        4      5            13           21     22       22 + n
#    ┌────────┬──────┬────────────┬────────────┬──────┬────────┬──────────────┐
#    │ length │ kind │ client key │   number   │  n   │  name  │     text     │
#    │ uint32 │ T, A │   uint64   │   uint64   │ byte │ n ≤ 128│   ≤ 64 KiB   │
#    └────────┴──────┴────────────┴────────────┴──────┴────────┴──────────────┘
#             └─────────────── length counts these bytes ────────────────────┘
#
# Network byte order; name and text in UTF-8. An ACK repeats the id (key and number)
# of the text that arrived, and has no name and no text. In a session (see handshake)
# a tag of TAG_SIZE bytes follows each frame.

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
    name = utf8(visible(frame.name), MAX_NAME, "name")
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


def visible(name: str) -> str:
    """The name itself; BadContent if a character of it shows nothing, or hides others.

    A line feed or a change of direction would let a name look like another one.
    """
    if isinstance(name, str) and not name.isprintable():
        place, bad = next(each for each in enumerate(name) if not each[1].isprintable())
        raise BadContent(
            f"character {place + 1} of the name cannot be shown (U+{ord(bad):04X}): "
            "remove it"
        )
    return name


class Decoder:
    """Cuts a stream of bytes into frames again: feed it, then pull until None.

    tag: makes the tag that must follow each frame; None if there are no tags.
    """

    def __init__(self, tag: Callable[[bytes], bytes] | None = None) -> None:
        self._bytes = bytearray()
        self._tag = tag

    def __len__(self) -> int:
        """How many bytes wait for the rest of their frame."""
        return len(self._bytes)

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream, cut anywhere."""
        self._bytes += data

    def next_frame(self) -> Frame | None:
        """The next whole frame; CorruptPacket if these bytes cannot be one.

        Forged, a CorruptPacket, if its tag is not the one that was due. After either
        nobody knows where a frame begins: drop the connection.
        """
        if len(self._bytes) < LENGTH.size:
            return None
        (length,) = LENGTH.unpack_from(self._bytes)
        if not HEAD.size <= length <= MAX_BODY:  # refused before it is waited for
            raise CorruptPacket(f"a frame's body cannot have {length:,} bytes")
        end = LENGTH.size + length
        whole = end if self._tag is None else end + TAG_SIZE
        if len(self._bytes) < whole:
            return None
        frame, tag = bytes(self._bytes[:end]), bytes(self._bytes[end:whole])
        del self._bytes[:whole]
        if self._tag is not None and not compare_digest(self._tag(frame), tag):
            raise Forged("a frame was forged, changed, repeated or left out")
        return _parse(frame[LENGTH.size :])


def _parse(body: bytes) -> Frame:
    kind, key, number, n = HEAD.unpack_from(body)
    name, text = body[HEAD.size : HEAD.size + n], body[HEAD.size + n :]
    if len(name) < n or n > MAX_NAME or len(text) > MAX_TEXT:
        raise CorruptPacket("a name or a text does not fit into its frame")
    if kind == FrameKind.ACK and (name or text):
        raise CorruptPacket("an ACK carries neither a name nor a text")
    try:
        id = MessageId(key, number)
        return Frame(FrameKind(kind), id, visible(name.decode()), text.decode())
    except (ValueError, BadContent) as error:  # an unknown kind, or no UTF-8, or ...
        raise CorruptPacket(f"not a frame of ours: {error}") from error


@dataclass(slots=True)
class Line:
    """A TCP connection that speaks in frames; every wait has a limit in seconds.

    Whatever goes wrong with the connection is an OSError, a timeout in write too:
    half a frame may be on its way then, and only a new connection helps.
    tag: makes the tag that follows each frame that we write; None if there are no tags.
    """

    socket: socket.socket
    decoder: Decoder = field(default_factory=Decoder)
    tag: Callable[[bytes], bytes] | None = None

    def __post_init__(self) -> None:
        # Nagle's algorithm would hold an ACK behind another ACK, or a text sent again,
        # until TCP has acknowledged the one before, which TCP puts off by 40 ms and
        # more: an experiment with our timeout would measure somebody else's.
        with suppress(OSError):  # already broken: the first read or write will say so
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def write(self, frame: bytes, timeout: float) -> None:
        self.socket.settimeout(timeout)
        self.socket.sendall(frame if self.tag is None else frame + self.tag(frame))

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
