"""Move one file between two processes, and print when: a contestant for a benchmark.

    python contestant.py recv --bind HOST --port N --out FILE --size BYTES
    python contestant.py send --to HOST --port N --in FILE [--rate BIT_PER_S]

The receiver prints READY when it listens. Each side ends with one JSON line:
    sender    {"t0": ns before the transfer begins, "t_data": ns, "cpu": s since t0}
    receiver  {"t1": ns when it held every byte, "got": bytes, "cpu": s since READY}
Times are time.monotonic_ns(), one clock for all processes of a machine. What is
measured is the transfer, not how long an interpreter takes to start.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import threading
import time
from pathlib import Path

from p2plab import Setup
from p2plab.content.chunks import cut
from p2plab.content.offer import Limits
from p2plab.content.transfer import Transfer
from p2plab.errors import P2PLabError
from p2plab.net.udp import UdpSocket

# With its headers, and as a mix, a packet fills an Ethernet frame over IPv4.
PAYLOAD_SIZE = 1437
LINGER = 2.0  # in case the sender has not heard that all is here [s]
POLL = 0.01  # until we look again; the time that counts is taken elsewhere [s]


def receive(host: str, port: int, out: Path, size: int) -> None:
    """Take one file, write it, and tell when it was complete."""
    begun = threading.Event()
    transfers: list[Transfer] = []

    def on_transfer(transfer: Transfer) -> None:
        transfers.append(transfer)
        begun.set()

    limits = Limits(max_bytes=size)
    with UdpSocket(
        host, port, limits=limits, record=False, on_transfer=on_transfer
    ) as udp:
        print("READY", flush=True)
        cpu = time.process_time()
        begun.wait()
        transfer = transfers[0]
        while transfer.complete_after is None and not transfer.ended:
            time.sleep(POLL)
        cpu = time.process_time() - cpu
        assert udp.callback_error is None
        assert transfer.assembly is not None
        assert transfer.complete_after is not None
        out.unlink(missing_ok=True)
        transfer.assembly.save(out)
        t1 = round((transfer.started_at + transfer.complete_after) * 1e9)
        print(json.dumps({"t1": t1, "got": out.stat().st_size, "cpu": cpu}), flush=True)
        with contextlib.suppress(P2PLabError):
            transfer.wait(LINGER)


def send(host: str, port: int, given: Path, rate: float | None, polite: bool) -> None:
    """Send one file, and tell when that began."""
    data = given.read_bytes()
    with UdpSocket("0.0.0.0" if "." in host else "::", record=False) as udp:
        cpu, t0 = time.process_time(), time.monotonic_ns()
        setup = Setup("fast", rate=rate, polite=polite)
        chunks = cut(data, kind="file", payload_size=PAYLOAD_SIZE, name=given.name)
        transfer = udp.send((host, port), chunks, setup, record=False, at_once=True)
        t_data = time.monotonic_ns()
        transfer.wait()
        cpu = time.process_time() - cpu
        print(json.dumps({"t0": t0, "t_data": t_data, "cpu": cpu}), flush=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    recv = commands.add_parser("recv")
    recv.add_argument("--bind", required=True)
    recv.add_argument("--out", type=Path, required=True)
    recv.add_argument("--size", type=int, required=True)
    sender = commands.add_parser("send")
    sender.add_argument("--to", required=True)
    sender.add_argument("--in", dest="given", type=Path, required=True)
    sender.add_argument("--rate", type=float, help="of the link [bit/s]")
    sender.add_argument("--aggressive", action="store_true", help="not polite")
    for each in (recv, sender):
        each.add_argument("--port", type=int, required=True)
    args = parser.parse_args()
    if args.command == "recv":
        receive(args.bind, args.port, args.out, args.size)
    else:
        send(args.to, args.port, args.given, args.rate, not args.aggressive)


if __name__ == "__main__":
    main()
