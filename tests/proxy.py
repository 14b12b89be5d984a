"""A TCP proxy that a test can let break: it cuts, and it holds answers back."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Self


class Proxy:
    """Forwards connections to a port of this machine.

    left: bytes of answers that still pass; then every connection is cut. None: all.
    """

    def __init__(self, port: int) -> None:
        self.left: int | None = None
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._open = threading.Event()  # whether answers pass
        self._open.set()
        self._thread = threading.Thread(target=self._accept, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """End all connections now; new ones are served."""
        with self._lock:
            for each in self._sockets:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def hold(self) -> None:
        """Keep answers back from now on, and the end of connections too."""
        self._open.clear()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *why: object) -> None:
        self._open.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        self._thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target), 5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            with self._lock:
                self._sockets |= {client, server}
            for ends in ((client, server), (server, client)):
                threading.Thread(
                    target=self._pump, args=(*ends, ends[0] is server), daemon=True
                ).start()

    def _pump(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                if answers:
                    self._open.wait()
                    data, whole = self._spend(data)
                    sink.sendall(data)
                    if not whole:
                        break
                else:
                    sink.sendall(data)
        if answers:
            self._open.wait()
        with self._lock:
            for each in (source, sink):
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
            if answers:
                self._sockets -= {source, sink}
        if answers:
            source.close()
            sink.close()

    def _spend(self, data: bytes) -> tuple[bytes, bool]:
        with self._lock:
            if self.left is None:
                return data, True
            part = data[: self.left]
            self.left -= len(part)
            return part, len(part) == len(data)
