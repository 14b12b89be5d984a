"""The command line: `p2plab rendezvous`, `peer`, `demo` and `check`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from p2plab.errors import P2PLabError

HOST: Final[dict[str, Any]] = {
    "default": "127.0.0.1",
    "help": "where to listen; 0.0.0.0 lets other machines in",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status; errors are one line on stderr."""
    wishes = _parser().parse_args(arguments)
    try:
        status: int = wishes.run(wishes)
    except (P2PLabError, ValueError, OSError) as why:
        print(f"p2plab {wishes.command}: {why}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "p2plab", description="Peer-to-peer networking to teach and to experiment with."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    rendezvous = commands.add_parser(
        "rendezvous", help="run the server at which peers find each other"
    )
    rendezvous.add_argument("--host", **HOST)
    rendezvous.add_argument(
        "--port", type=int, default=0, help="0 lets the system choose one"
    )
    rendezvous.add_argument(
        "--redis", help="redis://host:port; otherwise a store in this process"
    )
    rendezvous.set_defaults(run=_rendezvous)
    peer = commands.add_parser("peer", help="be a peer, without a notebook")
    peer.add_argument("name")
    peer.add_argument("--rendezvous", required=True, help="http://host:port")
    peer.add_argument("--host", **HOST)
    peer.set_defaults(run=_peer)
    _add_demo(commands.add_parser("demo", help="a picture with every protocol"))
    _add_check(commands.add_parser("check", help="look for a run that breaks yours"))
    return parser


def _add_demo(demo: argparse.ArgumentParser) -> None:
    folder = Path("p2plab-demo")
    demo.add_argument("--folder", type=Path, default=folder, help="for the pictures")
    demo.add_argument("--loss", type=float, default=0.1, help="in [0, 1)")
    demo.add_argument("--seed", type=int, default=1)
    demo.set_defaults(run=_demo)


def _add_check(check: argparse.ArgumentParser) -> None:
    check.add_argument(
        "file", help="defines Sender and Receiver, built without arguments"
    )
    check.add_argument(
        "--channel",
        choices=("fifo", "dup", "late", "corrupt"),
        default="fifo",
        help="packets are lost; or doubled, too; or late, too; or lost and damaged",
    )
    check.add_argument("--budget", type=_budget, default=2.0, help="seconds, above 0")
    check.add_argument("--seed", type=int, default=0, help="of the random schedules")
    check.add_argument("--json", action="store_true", help="for other programs")
    check.set_defaults(run=_check)


def _budget(text: str) -> float:
    budget = float(text)
    if not 0 < budget < 86_400:
        raise argparse.ArgumentTypeError(f"a budget is above 0 s, got {text}")
    return budget


def _rendezvous(wishes: argparse.Namespace) -> int:
    from p2plab.rendezvous.server import serve_forever

    serve_forever(wishes.host, wishes.port, wishes.redis)
    return 0


def _peer(wishes: argparse.Namespace) -> int:
    from p2plab.console import Console
    from p2plab.peer import Peer

    with Peer(wishes.name, wishes.rendezvous, host=wishes.host) as peer:
        peer.register()
        Console(peer).cmdloop()
    return 0


def _demo(wishes: argparse.Namespace) -> int:
    from p2plab.demo import demo

    return demo(wishes.folder, wishes.loss, wishes.seed)


def _check(wishes: argparse.Namespace) -> int:
    from p2plab.grader import Unusable, grade, report

    try:
        verdict = grade(wishes.file, wishes.channel, wishes.budget, wishes.seed)
    except Unusable as why:
        print(f"p2plab check: {why}", file=sys.stderr)
        return 2
    print(json.dumps(verdict) if wishes.json else report(verdict))
    return 0 if verdict["verdict"] == "survived" else 1
