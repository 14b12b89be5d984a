"""One HTTP request and its answer, from any thread; waiting ones can be called off."""

from __future__ import annotations

import http.client
import socket
import threading
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

from p2plab.errors import RendezvousAway, RendezvousError

MAX_ANSWER: Final = 1 << 20  # bytes; a page of a hundred peers has less than 60,000
BROKEN: Final = (http.client.RemoteDisconnected, ConnectionError)


class Exchange:
    """Keeps connections to a URL alive; each request has one to itself.

    timeout: seconds to connect, and of silence before we give up.
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
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        connection = self._connection()
        kept_alive = connection.sock is not None
        try:
            try:
                return self._once(connection, method, path, body, headers, wait)
            except BROKEN:
                if not kept_alive or (wait and self._off):
                    raise
                # It died while it lay here; every request of ours may be repeated.
                connection.close()
                return self._once(connection, method, path, body, headers, wait)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise away(self.url, self.timeout, error) from None
        except BaseException:
            connection.close()
            raise
        finally:
            with self._lock:
                self._waiting.discard(connection)
                self._idle.append(connection)

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

    def _once(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: bytes | None,
        headers: dict[str, str],
        wait: float,
    ) -> tuple[int, bytes]:
        if connection.sock is None:
            connection.connect()
        if wait:
            self._let_wait(connection)
        connection.sock.settimeout(self.timeout + wait)
        connection.request(method, self._prefix + path, body, headers)
        response = connection.getresponse()
        content = response.read(MAX_ANSWER + 1)
        if len(content) > MAX_ANSWER:
            raise RendezvousError(f"an answer has more than {MAX_ANSWER} bytes")
        if not whole(response, content):
            raise http.client.IncompleteRead(content)
        return response.status, content

    def _let_wait(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if self._off:
                raise ConnectionAbortedError
            self._waiting.add(connection)


def whole(response: http.client.HTTPResponse, content: bytes) -> bool:
    """Tell whether an answer came to its end; `read` with a limit does not say so."""
    if response.length is None and not response.chunked:
        # Cut within its headers, an answer looks as if it had none.
        return bool(content)
    return not response.length


def away(url: str, timeout: float, error: Exception) -> RendezvousAway:
    """The error for no answer at all."""
    slow = isinstance(error, TimeoutError)
    what = f"gave no answer within {timeout:g} s" if slow else "does not answer"
    return RendezvousAway(
        f"the rendezvous at {url} {what}: check the address, and whether it runs "
        "(p2plab.Lab() in a notebook or `p2plab rendezvous` in a shell starts one)"
    )
