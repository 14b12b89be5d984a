"""The load side of the benchmarks: one way to speak HTTP and WebSocket for all."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from statistics import quantiles
from typing import Any, NamedTuple, Self

Address = tuple[str, int]


class Reply(NamedTuple):
    """An HTTP answer; headers in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Return what the body says."""
        return json.loads(self.body)


class _Stream(asyncio.Protocol):
    """Bytes that arrive, given to whoever waits for a whole message.

    A Protocol, and not a StreamReader, which would cost more than some servers do.
    """

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.data = bytearray()
        self.ended = False
        self._waiter: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data
        self._tell()

    def connection_lost(self, error: Exception | None) -> None:
        self.ended = True
        self._tell()

    async def more(self) -> None:
        """Wait for more bytes. Raises ConnectionResetError when none will come."""
        if self.ended:
            raise ConnectionResetError("the server hung up")
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def _tell(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Line:
    """A connection; source: the address of ours that it comes from."""

    def __init__(self, server: Address, source: str | None = None) -> None:
        self.server = server
        self.host = f"{server[0]}:{server[1]}"
        self._source = (source, 0) if source else None
        self._stream = _Stream()

    async def open(self) -> Self:
        """Connect."""
        loop = asyncio.get_running_loop()
        self._stream = _Stream()
        await loop.create_connection(
            lambda: self._stream, *self.server, local_addr=self._source
        )
        return self

    def close(self) -> None:
        """Hang up."""
        if self._stream.transport is not None:
            self._stream.transport.abort()

    def write(self, data: bytes) -> None:
        assert self._stream.transport is not None, "not open"
        self._stream.transport.write(data)

    async def head(self) -> tuple[int, dict[str, str]]:
        """Read a status line and headers."""
        data = self._stream.data
        while (end := data.find(b"\r\n\r\n")) < 0:
            await self._stream.more()
        first, *lines = bytes(data[:end]).decode("latin-1").split("\r\n")
        del data[: end + 4]
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        return int(first.split(" ", 2)[1]), headers

    async def take(self, size: int) -> bytes:
        """Read so many bytes."""
        data = self._stream.data
        while len(data) < size:
            await self._stream.more()
        taken = bytes(data[:size])
        del data[:size]
        return taken


class Http(Line):
    """One HTTP/1.1 connection that is kept; it is opened when it is needed."""

    async def ask(
        self, method: str, path: str, body: object = None, token: str = ""
    ) -> Reply:
        """Ask, and wait for the answer."""
        if self._stream.transport is None or self._stream.ended:
            await self.open()
        content = b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.host}"]
        if token:
            lines.append(f"Authorization: Bearer {token}")
        if body is not None:
            lines.append("Content-Type: application/json")
        if method in ("PUT", "POST"):
            lines.append(f"Content-Length: {len(content)}")
        self.write("\r\n".join([*lines, "\r\n"]).encode() + content)
        status, headers = await self.head()
        if headers.get("transfer-encoding") == "chunked":
            return Reply(status, headers, b"".join([c async for c in self._chunks()]))
        size = int(headers.get("content-length", "0"))
        return Reply(status, headers, await self.take(size))

    async def _chunks(self) -> AsyncIterator[bytes]:
        while True:
            line = b""
            while not line.endswith(b"\r\n"):
                line += await self.take(1)
            size = int(line, 16)
            part = await self.take(size + 2)
            if not size:
                return
            yield part[:-2]


class WebSocket(Line):
    """Texts over a WebSocket (RFC 6455)."""

    async def upgrade(self, path: str) -> Self:
        """Connect, and turn the connection into a WebSocket."""
        await self.open()
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [f"GET {path} HTTP/1.1", f"Host: {self.host}", "Connection: Upgrade"]
        lines += ["Upgrade: websocket", "Sec-WebSocket-Version: 13"]
        lines.append(f"Sec-WebSocket-Key: {key}")
        self.write("\r\n".join([*lines, "\r\n"]).encode())
        status, _ = await self.head()
        assert status == 101, f"no WebSocket, but {status}"
        return self

    def send(self, message: object) -> None:
        """Send a message as JSON in one text frame."""
        data = json.dumps(message).encode()
        if len(data) < 126:
            size = bytes((0x80 | len(data),))
        else:
            size = b"\xfe" + len(data).to_bytes(2)
        # A mask of zeros is a legal mask, and costs us nothing.
        self.write(b"\x81" + size + bytes(4) + data)

    async def receive(self) -> Any:
        """Wait for a message, and return what its JSON says."""
        while True:
            kind, size = await self.take(2)
            if size == 126:
                size = int.from_bytes(await self.take(2))
            elif size == 127:
                size = int.from_bytes(await self.take(8))
            data = await self.take(size)
            if kind & 15 == 9:  # a ping
                self.write(b"\x8a" + bytes((0x80 | size,)) + bytes(4) + data)
            elif kind & 15 == 8:
                raise ConnectionResetError("the server closed the WebSocket")
            elif kind & 15 == 1:
                return json.loads(data)


@dataclass(slots=True)
class Figures:
    """What a load has measured: times of each operation [s], and how long it took."""

    times: list[float]
    seconds: float

    @property
    def rate(self) -> float:
        """Operations per second."""
        return len(self.times) / self.seconds

    def percentile(self, percent: int) -> float:
        """Return the time that so many per cent of the operations stayed below [s]."""
        if len(self.times) < 2:
            return self.times[0]
        return quantiles(self.times, n=100, method="inclusive")[percent - 1]

    def __str__(self) -> str:
        p50, p99 = (1e3 * self.percentile(each) for each in (50, 99))
        return f"{self.rate:,.0f}/s, p50 {p50:.1f}, p99 {p99:.1f} ms"


async def load(
    operations: Iterable[Callable[[], Awaitable[object]]], at_once: int, seconds: float
) -> Figures:
    """Do operations, so many at once, until the time is over or none is left."""
    left = iter(operations)
    times: list[float] = []
    start = time.perf_counter()

    async def work() -> None:
        for operation in left:
            begin = time.perf_counter()
            if begin - start > seconds:
                return
            await operation()
            times.append(time.perf_counter() - begin)

    await asyncio.gather(*(work() for _ in range(at_once)))
    return Figures(times, time.perf_counter() - start)


async def paced(rate: float, count: int) -> AsyncIterator[int]:
    """Yield 0, 1, 2, ... at so many a second; late ones follow at once."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    for number in range(count):
        if (left := start + number / rate - loop.time()) > 0:
            await asyncio.sleep(left)
        yield number
