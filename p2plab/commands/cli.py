"""The command line: `p2plab rendezvous`, `peer`, `demo` and `check`."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import version
from math import ceil, inf
from pathlib import Path
from typing import TYPE_CHECKING, Final

from p2plab.core.validation import on_one_line
from p2plab.errors import NameTaken, P2PLabError

if TYPE_CHECKING:
    from p2plab.peer.peer import Peer

INTERRUPTED: Final = 130  # the exit status after Ctrl-C
LOOK: Final = 5.0  # between two looks at a name that is taken [s]
HOST: Final = "where to listen; 0.0.0.0 lets other machines in (default %(default)s)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status; errors are one line on stderr."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        # What a terminal's encoding does not have is written as Python writes it.
        if (reconfigure := getattr(stream, "reconfigure", None)) is not None:
            reconfigure(errors="backslashreplace")
    wishes = _parser().parse_args(arguments)
    try:
        status: int = wishes.run(wishes)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:  # who reads us has read enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except (P2PLabError, ValueError, OSError) as why:
        words = on_one_line(str(why))  # some of them are a stranger's
        print(f"p2plab {wishes.command}: {words}", file=sys.stderr)
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

    def command(
        name: str, run: Callable[[argparse.Namespace], int], about: str
    ) -> Callable[..., argparse.Action]:
        made = commands.add_parser(name, help=about, description=about)
        made.set_defaults(run=run)
        return made.add_argument

    add = command("rendezvous", _rendezvous, "run the server where peers find others")
    add("--host", default="127.0.0.1", help=HOST)
    port = "0 lets the system choose one (default %(default)s)"
    add("--port", type=int, default=0, help=port)
    redis = (
        "redis://host:port of a real Redis, or redis+cluster://host:port of a cluster; "
        "otherwise the variable P2PLAB_REDIS_URL, or a store in this process"
    )
    add("--redis", metavar="URL", help=redis)

    add = command("peer", _peer, "be a peer, without a notebook")
    add("name", help="how others find you")
    url = (
        "http://host:port, as `p2plab rendezvous` or a lab's url says it; of several "
        "servers over one Redis, with commas between them"
    )
    add("--rendezvous", metavar="URL", required=True, help=url)
    add("--host", default="127.0.0.1", help=HOST)
    room = "whom you can meet: those of the same room (default %(default)s)"
    add("--room", default="lobby", help=room)
    accept = (
        "who may meet you: everyone of the room; whom you accept when they ask; or "
        "nobody (default %(default)s)"
    )
    add("--accept", choices=("room", "ask", "nobody"), default="room", help=accept)

    add = command("demo", _demo, "send a text and a picture with every protocol")
    folder = "where the pictures go (default %(default)s)"
    add("--folder", type=Path, default="p2plab-demo", help=folder)
    loss = "how much the link loses each way, in [0, 1) (default %(default)s)"
    add("--loss", type=float, default=0.1, help=loss)
    seed = "the same seed loses the same packets (default %(default)s)"
    add("--seed", type=int, default=1, help=seed)

    about = "look for the smallest run that breaks your protocol"
    add = command("check", _check, about)
    add("file", help="defines Sender and Receiver, built without arguments")
    channel = "packets are lost; or doubled, too; or late, too; or lost and damaged"
    channels = ("fifo", "dup", "late", "corrupt")
    add("--channel", choices=channels, default="fifo", help=channel)
    add("--budget", type=_budget, default=2.0, help="seconds, above 0")
    add("--seed", type=int, default=0, help="of the random schedules")
    speed = "the share of the reference page's speed that is asked for, above 0"
    add("--speed", type=float, help=speed)
    add("--json", action="store_true", help="for other programs")
    return parser


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
            name = f"{peer.name}, and renews it. Take another name."
            raise NameTaken(f"Another peer holds this name, {name}", left)
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
    from p2plab.commands.grader import Unusable, grade, report, unusable

    try:
        verdict = grade(
            wishes.file, wishes.channel, wishes.budget, wishes.seed, wishes.speed
        )
    except (Unusable, ValueError) as why:
        print(f"p2plab check: {on_one_line(str(why))}", file=sys.stderr)
        if wishes.json:
            print(json.dumps(unusable(wishes.channel, str(why))))
        return 2
    print(json.dumps(verdict) if wishes.json else report(verdict))
    return 0 if verdict["verdict"] == "survived" else 1
