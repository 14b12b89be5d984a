"""The command line: `p2plab rendezvous`, `peer`, `demo` and `check`."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import version
from math import ceil, inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from p2plab.errors import NameTaken, P2PLabError

if TYPE_CHECKING:
    from p2plab.peer.peer import Peer

INTERRUPTED: Final = 130  # the exit status after Ctrl-C
LOOK: Final = 5.0  # between two looks at a name that is taken [s]
HOST: Final[dict[str, Any]] = {
    "default": "127.0.0.1",
    "help": "where to listen; 0.0.0.0 lets other machines in (default %(default)s)",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status; errors are one line on stderr."""
    wishes = _parser().parse_args(arguments)
    try:
        status: int = wishes.run(wishes)
    except (P2PLabError, ValueError, OSError) as why:
        from p2plab.content.offer import printable  # some words are a stranger's

        print(f"p2plab {wishes.command}: {printable(str(why))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "p2plab", description="Peer-to-peer networking to teach and to experiment with."
    )
    parser.add_argument(
        "--version", action="version", version=f"p2plab {version('p2plab')}"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, about, add_options in (
        ("rendezvous", "run the server at which peers find each other", _of_rendezvous),
        ("peer", "be a peer, without a notebook", _of_peer),
        ("demo", "send a text and a picture with every protocol", _of_demo),
        ("check", "look for the smallest run that breaks your protocol", _of_check),
    ):
        add_options(commands.add_parser(name, help=about, description=about))
    return parser


def _of_rendezvous(parser: argparse.ArgumentParser) -> None:
    port = "0 lets the system choose one (default %(default)s)"
    redis = (
        "redis://host:port of a real Redis, or redis+cluster://host:port of a cluster; "
        "otherwise the variable P2PLAB_REDIS_URL, or a store in this process"
    )
    parser.add_argument("--host", **HOST)
    parser.add_argument("--port", type=int, default=0, help=port)
    parser.add_argument("--redis", metavar="URL", help=redis)
    parser.set_defaults(run=_rendezvous)


def _of_peer(parser: argparse.ArgumentParser) -> None:
    url = (
        "http://host:port, as `p2plab rendezvous` or a lab's url says it; of several "
        "servers over one Redis, with commas between them"
    )
    parser.add_argument("name", help="how others find you")
    room = "whom you can meet: those of the same room (default %(default)s)"
    accept = (
        "who may meet you: everyone of the room; whom you accept when they ask; or "
        "nobody (default %(default)s)"
    )
    parser.add_argument("--rendezvous", metavar="URL", required=True, help=url)
    parser.add_argument("--host", **HOST)
    parser.add_argument("--room", default="lobby", help=room)
    parser.add_argument(
        "--accept", choices=("room", "ask", "nobody"), default="room", help=accept
    )
    parser.set_defaults(run=_peer)


def _of_demo(parser: argparse.ArgumentParser) -> None:
    folder = "where the pictures go (default %(default)s)"
    loss = "how much the link loses each way, in [0, 1) (default %(default)s)"
    seed = "the same seed loses the same packets (default %(default)s)"
    parser.add_argument("--folder", type=Path, default="p2plab-demo", help=folder)
    parser.add_argument("--loss", type=float, default=0.1, help=loss)
    parser.add_argument("--seed", type=int, default=1, help=seed)
    parser.set_defaults(run=_demo)


def _of_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", help="defines Sender and Receiver, built without arguments"
    )
    parser.add_argument(
        "--channel",
        choices=("fifo", "dup", "late", "corrupt"),
        default="fifo",
        help="packets are lost; or doubled, too; or late, too; or lost and damaged",
    )
    parser.add_argument("--budget", type=_budget, default=2.0, help="seconds, above 0")
    parser.add_argument("--seed", type=int, default=0, help="of the random schedules")
    speed = "the share of the reference page's speed that is asked for, above 0"
    parser.add_argument("--speed", type=float, help=speed)
    parser.add_argument("--json", action="store_true", help="for other programs")
    parser.set_defaults(run=_check)


def _budget(text: str) -> float:
    with suppress(ValueError):
        if 0 < float(text) < 86_400:
            return float(text)
    raise argparse.ArgumentTypeError(
        f"a budget is a number of seconds, above 0 and below a day, got {text}"
    )


def _rendezvous(wishes: argparse.Namespace) -> int:
    from p2plab.rendezvous.server import serve_forever

    serve_forever(wishes.host, wishes.port, wishes.redis)
    return 0


def _peer(wishes: argparse.Namespace) -> int:
    from p2plab.commands.console import Console
    from p2plab.peer.peer import Peer

    _end_in_order()
    with Peer(
        wishes.name,
        wishes.rendezvous.split(","),
        host=wishes.host,
        room=wishes.room,
        accept=wishes.accept,
    ) as peer:
        console = Console(peer)  # first, so that nobody asks before it can be told
        warnings.showwarning = lambda words, *_: print(f"p2plab peer: {words}")
        register(peer)
        console.cmdloop()
    return 0


def register(peer: Peer, sleep: Callable[[float], None] = time.sleep) -> None:
    """Take a name; wait for one whose peer was cut off, until its lease ends.

    Raises NameTaken as soon as somebody renews it.
    """
    before = inf
    while True:
        try:
            peer.register()
            return
        except NameTaken as why:
            left = why.retry_after
        if left > before:
            raise NameTaken(
                f"Another peer holds this name, {peer.name}, and renews it. Take "
                "another name.",
                left,
            )
        if before == inf:
            print(
                f"{peer.name} is held by another peer, or by one that was cut off: "
                f"then it is free in {ceil(left)} s. Waiting, Ctrl-C to stop ...",
                flush=True,
            )
        sleep(min(max(left, 0.1), LOOK))
        before = left


def _end_in_order() -> None:
    """Let a terminal that is closed, or a kill, give the name back before the end."""

    def end(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_IGN)  # a shell repeats it while we leave
        sys.exit(INTERRUPTED)

    for name in ("SIGHUP", "SIGTERM"):
        each = getattr(signal, name, None)  # Windows has no SIGHUP, nohup ignores it
        if each is not None and signal.getsignal(each) is signal.SIG_DFL:
            signal.signal(each, end)


def _demo(wishes: argparse.Namespace) -> int:
    from p2plab.commands.demo import demo

    return demo(wishes.folder, wishes.loss, wishes.seed)


def _check(wishes: argparse.Namespace) -> int:
    from p2plab.commands.grader import Unusable, grade, report

    try:
        verdict = grade(
            wishes.file, wishes.channel, wishes.budget, wishes.seed, wishes.speed
        )
    except (Unusable, ValueError) as why:
        print(f"p2plab check: {why}", file=sys.stderr)
        return 2
    print(json.dumps(verdict) if wishes.json else report(verdict))
    return 0 if verdict["verdict"] == "survived" else 1
