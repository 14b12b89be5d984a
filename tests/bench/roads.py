"""One side of a transfer between two processes over loopback, on one of four roads.

    python roads.py take|give ours|tcp|naive|aioquic PORT BYTES

Whoever takes prints a JSON line when it listens, and both print one at the end. Their
times are time.monotonic(), one clock for all processes of a machine.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from peak import peak

HOST: Final = "127.0.0.1"
PATIENCE: Final = 60.0  # [s]
PAYLOAD: Final = 1200  # bytes, of ours
CHUNK: Final = 1024  # bytes, of the course report's way
READ: Final = 1 << 18  # bytes at once

Start = Callable[[], None]  # called when imports are done and one listens

# `take` returns when it held the last byte; `give` returns when it knows that.


def take_ours(port: int, size: int, start: Start) -> float:
    """By the fast page, without a trace; verified against its fingerprint, too."""
    from p2plab.content.offer import Limits
    from p2plab.content.transfer import Transfer
    from p2plab.net.udp import UdpSocket

    came = threading.Event()
    found: list[Transfer] = []

    def on_transfer(transfer: Transfer) -> None:
        found.append(transfer)
        came.set()

    limits = Limits(max_bytes=size)
    with UdpSocket(
        HOST, port, limits=limits, record=False, on_transfer=on_transfer
    ) as udp:
        start()
        assert came.wait(PATIENCE)
        transfer = found[0].wait(PATIENCE)
        assert udp.callback_error is None
        assert transfer.complete_after is not None
        return transfer.started_at + transfer.complete_after


def give_ours(port: int, size: int, start: Start) -> None:
    """Cut bytes and send them."""
    from p2plab import Setup
    from p2plab.content.chunks import cut
    from p2plab.net.udp import UdpSocket

    data = bytes(size)
    with UdpSocket(record=False) as udp:
        start()
        chunks = cut(data, payload_size=PAYLOAD)
        setup = Setup("fast")
        udp.send((HOST, port), chunks, setup, record=False, at_once=True).wait(PATIENCE)


def take_tcp(port: int, size: int, start: Start) -> float:
    """By the kernel's TCP through plain sockets."""
    data = bytearray(size)
    with socket.create_server((HOST, port)) as listener:
        start()
        connection, _ = listener.accept()
        with connection:
            left = memoryview(data)
            while left:
                left = left[connection.recv_into(left) :]
            end = time.monotonic()
            connection.sendall(b"!")
    return end


def give_tcp(port: int, size: int, start: Start) -> None:
    """Connect and send all."""
    data = bytes(size)
    start()
    with socket.create_connection((HOST, port)) as connection:
        connection.sendall(data)
        assert connection.recv(1)


def take_naive(port: int, size: int, start: Start) -> float:
    """By the course report's way: a number on each packet, and an answer to each."""
    parts: dict[bytes, bytes] = {}
    with socket.socket(type=socket.SOCK_DGRAM) as udp:
        udp.bind((HOST, port))
        start()
        while True:
            datagram, address = udp.recvfrom(2048)
            number, data = datagram.split(b":", 1)
            if number == b"finish":
                end = time.monotonic()
                udp.sendto(number, address)
                assert sum(map(len, parts.values())) == size
                return end
            parts[number] = data
            udp.sendto(number, address)


def give_naive(port: int, size: int, start: Start) -> None:
    """Send a packet, wait for the answer, send the next."""
    data = bytes(size)
    with socket.socket(type=socket.SOCK_DGRAM) as udp:
        udp.connect((HOST, port))
        udp.settimeout(2)
        start()
        for at in range(0, size, CHUNK):
            udp.send(b"%d:%s" % (at, data[at : at + CHUNK]))
            udp.recv(2048)
        udp.send(b"finish:")
        udp.recv(2048)


def take_aioquic(port: int, size: int, start: Start) -> float:
    """By QUIC in Python, one stream, and no limit that would hold the sender up."""
    from aioquic.asyncio.server import serve

    quic = configuration(size, client=False)

    async def receive() -> float:
        ended = asyncio.get_running_loop().create_future()
        tasks = []

        async def read(reader: Any, writer: Any) -> None:
            left = size
            while left:
                left -= len(await reader.read(READ))
            ended.set_result(time.monotonic())
            writer.write(b"!")
            writer.write_eof()

        def handle(reader: Any, writer: Any) -> None:
            tasks.append(asyncio.ensure_future(read(reader, writer)))

        server = await serve(HOST, port, configuration=quic, stream_handler=handle)
        start()
        end: float = await asyncio.wait_for(ended, PATIENCE)
        await asyncio.gather(*tasks)
        await asyncio.sleep(0.2)  # for the answer to leave
        server.close()
        return end

    return asyncio.run(receive())


def give_aioquic(port: int, size: int, start: Start) -> None:
    """Connect and write all."""
    from aioquic.asyncio.client import connect

    quic, data = configuration(size, client=True), bytes(size)

    async def send() -> None:
        start()
        async with connect(HOST, port, configuration=quic) as protocol:
            reader, writer = await protocol.create_stream()
            writer.write(data)
            writer.write_eof()
            assert await asyncio.wait_for(reader.read(1), PATIENCE)

    asyncio.run(send())


def configuration(size: int, client: bool) -> Any:
    """Return what aioquic needs to know; a server has a certificate of its own."""
    import ssl

    from aioquic.quic.configuration import QuicConfiguration

    quic = QuicConfiguration(is_client=client, alpn_protocols=["bench"])
    quic.max_data = quic.max_stream_data = 2 * size
    if client:
        quic.verify_mode = ssl.CERT_NONE
    else:
        quic.certificate, quic.private_key = certificate()
    return quic


def certificate() -> tuple[Any, Any]:
    """Return one that is good for a day, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(hours=1))
    builder = builder.not_valid_after(now + datetime.timedelta(days=1))
    return builder.sign(key, hashes.SHA256()), key


def resident() -> float:
    """Return the bytes of memory that this process holds; not-a-number elsewhere."""
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    return 1024.0 * int(status.read_text().partition("VmRSS:")[2].split()[0])


def main(side: str, road: str, port: str, size: str) -> None:
    """Run one side, and print what it took."""
    begun: list[float] = []

    def start() -> None:
        begun[:] = time.process_time(), time.monotonic()
        if side == "take":
            print(json.dumps({"resident": resident()}), flush=True)

    ended_at = globals()[f"{side}_{road}"](int(port), int(size), start)
    cpu = time.process_time() - begun[0]
    at = begun[1] if side == "give" else ended_at
    print(json.dumps({"at": at, "cpu": cpu, "peak": peak()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
