"""One HTTP request and its answer, from any thread; waiting ones can be called off."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final
from urllib.parse import urlsplit

from p2plab.errors import RendezvousAway, RendezvousError

MAX_ANSWER: Final = 1 << 20  # bytes; a page of a hundred peers has less than 60,000
TOO_LONG: Final = f"an answer has more than {MAX_ANSWER} bytes"
# When to connect anew, in shares of the timeout: the system itself repeats a lost SYN
# only after 1 s (RFC 6298, section 2).
KNOCKS: Final = (0.1, 0.2, 0.4, 0.3)
BROKEN: Final = (http.client.RemoteDisconnected, ConnectionError)


class Exchange:
    """Keeps connections to a URL alive; each request has one to itself.

    timeout: seconds to connect, and of silence before we give up. Silence is asked once
        more on a new connection, unless the request waits: all in all, within twice
        the timeout.
    """

    def __init__(self, url: str, timeout: float) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"url must look like http://127.0.0.1:8080, got {url!r}")
        self.url = url.rstrip("/")
        self.timeout = timeout
        self._prefix = parts.path.rstrip("/")
        self._where = parts.hostname, parts.port
        secure = parts.scheme == "https"
        self._kind = http.client.HTTPSConnection if secure else None
        self._idle: list[http.client.HTTPConnection] = []
        self._waiting: set[http.client.HTTPConnection] = set()
        self._lock = threading.Lock()
        self._off = False  # whether nobody is to wait any more

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        token: str = "",
        wait: float = 0.0,
    ) -> tuple[int, bytes]:
        """Return the status and the body; wait: seconds that the other side may take.

        Raises RendezvousAway, and RendezvousError for an answer without end.
        """
        connection = self._connection()
        try:
            with self._away_if_broken(connection):
                response = self._response(
                    connection, method, path, body, token, wait, again=not wait
                )
                return response.status, whole(response)
        finally:
            self._give_back(connection)

    def follow(self, path: str, token: str) -> Lines:
        """Return an answer that goes on. Raises RendezvousAway."""
        connection = self._connection()
        try:
            with self._away_if_broken(connection):
                response = self._response(connection, "GET", path, None, token, 0)
                self._let_wait(connection)
        except BaseException:
            self._give_back(connection)
            raise
        return Lines(self, connection, response)

    def call_off(self) -> None:
        """Let every waiting request fail at once, and all that would wait later."""
        with self._lock:
            self._off = True
            for connection in self._waiting:
                if connection.sock is not None:
                    with suppress(OSError):
                        connection.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connections that nobody uses."""
        with self._lock:
            while self._idle:
                self._idle.pop().close()

    def _connection(self) -> http.client.HTTPConnection:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        kind = self._kind or http.client.HTTPConnection
        return kind(*self._where, timeout=self.timeout)

    def _give_back(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            self._waiting.discard(connection)
            self._idle.append(connection)

    @contextmanager
    def _away_if_broken(self, connection: http.client.HTTPConnection) -> Iterator[None]:
        try:
            yield
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise away(self.url, self.timeout, error) from None
        except BaseException:
            connection.close()
            raise

    def _response(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: bytes | None,
        token: str,
        wait: float,
        again: bool = False,
    ) -> http.client.HTTPResponse:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        kept_alive = connection.sock is not None
        end = time.monotonic() + 2 * self.timeout
        patience = self.timeout + wait
        while True:
            if connection.sock is None:
                self._connect(connection)
            if wait:
                self._let_wait(connection)
            connection.sock.settimeout(patience)
            try:
                connection.request(method, self._prefix + path, body, headers)
                return connection.getresponse()
            except BROKEN:
                if not kept_alive or (wait and self._off):
                    raise
                # It died while it lay here; every request of ours may be repeated.
                kept_alive = False
            except TimeoutError:
                if not again:
                    raise
                again = False
                patience = max(end - time.monotonic(), self.timeout / 2)
            connection.close()

    def _connect(self, connection: http.client.HTTPConnection) -> None:
        for share in KNOCKS:
            connection.timeout = share * self.timeout
            try:
                return connection.connect()
            except TimeoutError:
                connection.close()
        raise TimeoutError

    def _let_wait(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if self._off:
                raise ConnectionAbortedError
            self._waiting.add(connection)


class Lines:
    """An answer that goes on: its status, and each line when it comes."""

    def __init__(
        self,
        exchange: Exchange,
        connection: http.client.HTTPConnection,
        response: http.client.HTTPResponse,
    ) -> None:
        self.status = response.status
        self._exchange, self._connection = exchange, connection
        self._response = response
        self._read = b""

    def next(self, seconds: float) -> bytes:
        """Return the next line; without its newline, or empty, it was the last one.

        Raises RendezvousAway, also after so many seconds; and RendezvousError for a
        line without end.
        """
        with self._exchange._away_if_broken(self._connection):
            if self._connection.sock is not None:  # or the server will hang up
                self._connection.sock.settimeout(seconds)
            while b"\n" not in self._read:
                part = self._response.read1(MAX_ANSWER)
                if not part:
                    if self._response.length:
                        raise http.client.IncompleteRead(self._read)
                    break
                self._read += part
                if len(self._read) > MAX_ANSWER:
                    raise RendezvousError(TOO_LONG)
        line, newline, self._read = self._read.partition(b"\n")
        return line + newline

    def close(self) -> None:
        """Hang up, unless it has come to its end."""
        if not self._response.isclosed():
            self._connection.close()
        self._exchange._give_back(self._connection)


def whole(response: http.client.HTTPResponse) -> bytes:
    """Return what an answer says. Raises IncompleteRead, RendezvousError."""
    content = response.read(MAX_ANSWER + 1)
    if len(content) > MAX_ANSWER:
        raise RendezvousError(TOO_LONG)
    # `read` with a limit does not tell whether it came to the end; and an answer that
    # was cut within its headers looks as if it had none.
    unlimited = response.length is None and not response.chunked
    if response.length or (unlimited and not content):
        raise http.client.IncompleteRead(content)
    return content


def away(url: str, timeout: float, error: Exception) -> RendezvousAway:
    """The error for no answer at all."""
    cure = (
        "check the address, and whether it runs (p2plab.Lab() in a notebook or "
        "`p2plab rendezvous` in a shell starts one)"
    )
    if isinstance(error, TimeoutError):
        what = f"gave no answer within {timeout:g} s"
        cure = f"it may be busy, or packets get lost: try again, or {cure}"
    else:
        what = "does not answer"
    return RendezvousAway(f"the rendezvous at {url} {what}: {cure}")
