"""A peer at the command line: the report's menu, for machines without Jupyter."""

from __future__ import annotations

import time
from cmd import Cmd
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from p2plab.content.chunks import as_path
from p2plab.content.transfer import State, Transfer, arrived
from p2plab.core.validation import count_of, on_one_line
from p2plab.errors import NotDelivered, P2PLabError, PeerNotFound, TransferStalled
from p2plab.net.chat import Message
from p2plab.net.threads import spawn
from p2plab.peer.peer import Peer
from p2plab.protocols.setup import MISSING, PROTOCOLS, Setup
from p2plab.rendezvous.admission import Request, settle
from p2plab.rendezvous.model import legal_name

CHOICE: Final = "".join([f"take one of {', '.join(PROTOCOLS)}", *MISSING.values()])
WORDS: Final = {"text": 2, "picture": 2, "file": 2, "save": 1}  # that each needs
EVERY: Final = 5.0  # between two lines about a transfer on its way [s]
REDRAWN: Final = 0.5  # where a line can be written over [s]
AGAIN: Final = "To send it once more, type again."


class Console(Cmd):
    """Reads commands and lets a peer carry them out; its errors are sentences.

    What arrives is told at once, from whichever thread brings it, and so is who wants
    to meet us; a picture also now and then until it has ended.
    Ctrl-C stops the command that runs, and its transfer. At the prompt it leaves when
    it is pressed twice, as what has come and is not saved goes with the peer.
    """

    def __init__(self, peer: Peer) -> None:
        super().__init__()
        self.peer = peer
        self.prompt = f"{peer.name}> "
        self._saved: list[Transfer] = []
        self._unsent = ""  # the arguments of the last text without an ACK
        self._busy = False  # whether a command runs: the prompt comes after it
        self._warned = False  # of what leaving costs, directly before
        self.intro = (
            f"You are {peer.name} in the room {peer.rendezvous.room}: texts on TCP "
            f"port {peer.texts.address[1]}, pictures on UDP port "
            f"{peer.pictures.address[1]}. Type help for the commands."
        )
        peer.on_news = self._arrived
        peer.meetings.admission.on_request = self._ask
        peer.meetings.admission.on_withdrawn = self._asks_no_more

    def cmdloop(self, intro: str | None = None) -> None:
        """Read commands until one of them ends it, or Ctrl-C is pressed twice."""
        while True:
            try:
                return super().cmdloop(intro)
            except KeyboardInterrupt:
                if self._warned:
                    raise
                print(file=self.stdout)
                self._warn()
                intro = ""

    def onecmd(self, line: str) -> bool:
        """Carry out one line; an error becomes a sentence, and the menu goes on."""
        command, rest, _ = self.parseline(line)
        self._warned = self._warned and command == "quit"
        if len((rest or "").split()) < WORDS.get(command or "", 0):
            self._say(self._usage(f"do_{command}"))
            return False
        self._busy = True
        try:
            return super().onecmd(line)
        except (PeerNotFound, TransferStalled) as why:
            self._say(f"{why} To see who is there, type list.")
        except (P2PLabError, ValueError, OSError) as why:
            self._say(str(why))
        except KeyboardInterrupt:
            print(file=self.stdout)
            texts = command in ("text", "again")
            self._say(f"stopped. {AGAIN}" if texts else "stopped")
        finally:
            self._busy = False
        return False

    def emptyline(self) -> bool:
        """Do nothing, instead of the last command once more."""
        return False

    def default(self, line: str) -> None:
        """Tell somebody who mistyped a command which ones there are."""
        commands = ", ".join(self.completenames(""))
        self._say(f"there is no command {line.split()[0]}: type one of {commands}")

    def get_names(self) -> list[str]:
        """Name what help and the Tab key offer: the end of the input is no command."""
        return [name for name in super().get_names() if name != "do_EOF"]

    def do_help(self, topic: str) -> None:
        """`help [COMMAND]`: this list, or what one of it needs"""
        commands = [f"do_{name}" for name in self.completenames("")]
        if not topic:
            self._say("What you can type; words in capitals stand for your own:")
            for name in commands:
                self._say(f"  {self._usage(name)}")
        elif f"do_{topic}" not in commands:
            self.default(topic)
        else:
            self._say(self._usage(f"do_{topic}"))
            if topic in ("picture", "file"):
                self._say(f"  PROTOCOL: {CHOICE}")

    def do_list(self, _: str) -> None:
        """`list`: who else is registered"""
        peers = self.peer.peers()
        for peer in peers:
            since = time.strftime("%H:%M:%S", time.localtime(peer.since))
            self._say(f"{peer.name}  since {since}")
        if not peers:
            self._say("nobody else is registered")

    def do_accept(self, line: str) -> None:
        """`accept [NAME]`: meet somebody who wants to meet you"""
        name = self._settle(line, Request.accept)
        self._say(f"you have met {name}")

    def do_refuse(self, line: str) -> None:
        """`refuse [NAME [WORDS...]]`: do not meet somebody, and say why"""
        who, _, words = line.partition(" ")
        name = self._settle(who, lambda request: request.refuse(words.strip()))
        self._say(f"{name} is told that you do not want to meet")

    def do_text(self, line: str) -> None:
        """`text NAME WORDS...`: send a text, and wait for its ACK"""
        name, words = line.split(maxsplit=1)
        self._unsent = line
        self._asking(name)
        try:
            delivery = self.peer.send_text(name, words)
        except NotDelivered as why:
            raise P2PLabError(f"{str(why).rstrip('.')}. {AGAIN}") from None
        self._unsent = ""
        self._say(
            f"acknowledged after {1000 * delivery.seconds:.1f} ms and "
            f"{count_of(delivery.attempts, 'attempt')}"
        )

    def do_again(self, _: str) -> None:
        """`again`: send the last text once more that was not acknowledged"""
        if not self._unsent:
            raise ValueError("every text that you have sent was acknowledged")
        self.do_text(self._unsent)

    def do_picture(self, line: str) -> None:
        """`picture NAME FILE [PROTOCOL]`: send a picture over UDP"""
        self._send(self.peer.send_picture, line)

    def do_file(self, line: str) -> None:
        """`file NAME PATH [PROTOCOL]`: send any file over UDP, as it is"""
        self._send(self.peer.send_file, line)

    def do_inbox(self, _: str) -> None:
        """`inbox`: what has come, oldest first"""
        for number, each in enumerate(self.peer.inbox):
            self._say(f"{number}  {in_words(each)}")
        if not self.peer.inbox:
            self._say("nothing has come yet")

    def do_save(self, line: str) -> None:
        """`save NUMBER [FOLDER]`: write a picture or file of the inbox to a folder"""
        number, _, folder = line.partition(" ")
        inbox = self.peer.inbox
        if not number.isdecimal() or int(number) >= len(inbox):
            raise ValueError(
                f"the inbox has no number {number!r}; type inbox to see it"
            )
        each = inbox[int(number)]
        if not isinstance(each, Transfer) or each.assembly is None:
            raise ValueError(f"number {number} is a text: only files can be saved")
        self._say(f"saving {each.offer.content.name} ...")
        path = each.assembly.save(as_path(folder.strip() or "."))
        self._saved.append(each)
        self._say(f"written to {path}")

    def do_clear(self, name: str) -> None:
        """`clear [NAME]`: forget what has come, or what NAME has sent"""
        count = self.peer.clear_inbox(name or None)
        self._say(f"{count_of(count, 'thing')} forgotten")

    def do_quit(self, _: str) -> bool:
        """`quit`: leave"""
        if any(map(self._would_be_lost, self.peer.inbox)) and not self._warned:
            self._warn()
            return False
        return True

    def do_EOF(self, _: str) -> bool:  # Cmd's name for the end of the input
        return True

    def _warn(self) -> None:
        """Say how to leave, and what would be lost."""
        self._warned = True
        for number, each in enumerate(self.peer.inbox):
            if self._would_be_lost(each):
                self._say(f"not saved: {number}  {in_words(each)}")
        self._say("to leave, type quit or press Ctrl-C once more")

    def _would_be_lost(self, each: Message | Transfer) -> bool:
        came = isinstance(each, Transfer) and each.progress > 0
        return came and each not in self._saved

    def _send(self, send: Callable[..., Transfer], line: str) -> None:
        name, path = line.split(maxsplit=1)
        protocol = "selective_repeat"
        start, _, last = path.rpartition(" ")
        if start and last in PROTOCOLS:
            path, protocol = start, last
        elif start and as_path(start).is_file() and not as_path(path).exists():
            raise ValueError(f"there is no protocol {last}: {CHOICE}")
        file = as_path(path)
        if file.is_file():
            self._say(f"reading {file.name} ...")
            self._asking(name)
        transfer = send(name, file, Setup(protocol))
        try:
            self._watch_sending(transfer)
        except KeyboardInterrupt:
            transfer.stop()
            print(file=self.stdout)
            self._say(f"stopped: {arrived(transfer)} had arrived")
            return
        transfer.wait()
        self._say(f"arrived after {transfer.seconds:.2f} s")

    def _watch_sending(self, transfer: Transfer) -> None:
        """Tell how far it is, until it ends: in one line, where that can be done."""
        redrawn, end = self.stdout.isatty(), "\n"
        while not ended_within(transfer, REDRAWN if redrawn else EVERY):
            seconds = time.monotonic() - transfer.started_at
            line = (
                f"{transfer.progress:.0%}, {arrived(transfer)}, after {seconds:.0f} s "
                "(Ctrl-C stops it)"
            )
            start, end = ("\r", "") if redrawn else ("", "\n")
            print(f"{start}{line:<70}", end=end, file=self.stdout, flush=True)
        if not end:
            print(file=self.stdout)

    def _asking(self, name: str) -> None:
        """Say why it may take a while."""
        if self.peer.meetings.last(name) is None:
            self._say(f"asking {name} ...")

    def _usage(self, name: str) -> str:
        return (getattr(self, name).__doc__ or "").replace("`", "")

    def _settle(self, name: str, act: Callable[[Request], None]) -> str:
        """Answer the peer of this name, or the only one who waits; return its name."""
        if not name:
            with suppress(P2PLabError):  # while it is away, they may still be there
                self.peer.meetings.admission.forget_gone()
        waiting = self.peer.requests
        names = list(dict.fromkeys(each.peer for each in waiting))
        if not name and len(names) > 1:
            raise ValueError(f"name one of those who wait: {', '.join(names)}")
        if not name and not names:
            raise ValueError("nobody waits for your word")
        wanted = legal_name(name) if name else names[0]
        if wanted not in names:
            raise ValueError(f"{wanted} has not asked to meet you, or is gone")
        settle([each for each in waiting if each.peer == wanted], act)
        return wanted

    def _ask(self, request: Request) -> None:
        name = request.peer
        self._tell(f"{name} wants to meet you: type accept {name} or refuse {name}")

    def _asks_no_more(self, request: Request) -> None:
        self._tell(f"{request.peer} does not wait for your word any more")

    def _arrived(self, news: Message | Transfer) -> None:
        words = in_words(news)
        if isinstance(news, Transfer) and news.state is State.DONE:
            words += f"; to keep it, type save {self.peer.inbox.index(news)}"
        self._tell(words)
        if isinstance(news, Transfer) and not news.ended:
            spawn(self._watch_arriving, news)

    def _watch_arriving(self, transfer: Transfer) -> None:
        told = 0.0
        while not ended_within(transfer, EVERY):
            if transfer.progress > told:
                told = transfer.progress
                self._tell(in_words(transfer))

    def _tell(self, news: str) -> None:
        """Put a line between what is being typed, and the prompt once more."""
        prompt = "" if self._busy else self.prompt
        line = f"\n[{on_one_line(news)}]\n{prompt}"
        print(line, end="", file=self.stdout, flush=True)

    def _say(self, words: str) -> None:
        print(on_one_line(words), file=self.stdout, flush=True)


def ended_within(transfer: Transfer, seconds: float) -> bool:
    """Wait for the end of a transfer, good or bad, and say whether it has come."""
    with suppress(P2PLabError):
        transfer.wait(seconds)
    return transfer.ended


def in_words(each: Message | Transfer) -> str:
    """Return what lies in an inbox as a line for people."""
    if isinstance(each, Message):
        return f"{each.sender}: {each.text!r}"
    content, how_far = each.offer.content, f"{each.progress:.0%} here"
    if each.state is State.DONE:
        how_far = "complete" if each.progress == 1 else f"has holes, {how_far}"
    elif each.state is State.FAILED:
        how_far = f"{how_far}, broken off: {each.error}"
    picture, what = content.kind == "picture", content.kind
    size = f"{content.width}x{content.height}" if picture else f"{content.size:,} bytes"
    if content.name not in ("", what):  # bytes and arrays have no name of their own
        what = f"{what} {content.name}"
    return f"{what} from {each.offer.sender}, {size}, {how_far}"
