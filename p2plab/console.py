"""A peer at the command line: the report's menu, for machines without Jupyter."""

from __future__ import annotations

from cmd import Cmd
from pathlib import Path

from p2plab.errors import P2PLabError
from p2plab.inbox import Message
from p2plab.offer import printable
from p2plab.peer import Peer
from p2plab.protocols import PROTOCOLS, Setup
from p2plab.transfer import Transfer


class Console(Cmd):
    """Reads commands and lets a peer carry them out; its errors are sentences."""

    def __init__(self, peer: Peer) -> None:
        super().__init__()
        self.peer = peer
        self.prompt = f"{peer.name}> "
        self.intro = (
            f"You are {peer.name}: texts on TCP port {peer.texts.address[1]}, pictures "
            f"on UDP port {peer.pictures.address[1]}. Type help for the commands."
        )

    def onecmd(self, line: str) -> bool:
        """Carry out one line; an error becomes a sentence, and the menu goes on."""
        try:
            return super().onecmd(line)
        except (P2PLabError, ValueError, OSError) as why:
            self._say(str(why))
            return False

    def emptyline(self) -> bool:
        """Do nothing, instead of the last command once more."""
        return False

    def do_list(self, _: str) -> None:
        """`list`: who else is registered"""
        peers = self.peer.peers()
        for peer in peers:
            self._say(f"{peer.name}  {peer.addresses[0]}  seen from {peer.seen}")
        if not peers:
            self._say("nobody else is registered")

    def do_text(self, line: str) -> None:
        """`text NAME WORDS...`: send a text, and wait for its ACK"""
        name, _, words = line.partition(" ")
        delivery = self.peer.send_text(name, words)
        self._say(
            f"acknowledged after {1000 * delivery.seconds:.1f} ms and "
            f"{delivery.attempts} attempt(s)"
        )

    def do_picture(self, line: str) -> None:
        """`picture NAME FILE [PROTOCOL]`: send a picture over UDP"""
        name, _, path = line.partition(" ")
        protocol = "selective_repeat"
        start, _, last = path.rpartition(" ")
        if start and last in PROTOCOLS:
            path, protocol = start, last
        picture = Path(path.strip())
        transfer = self.peer.send_picture(name, picture, Setup(protocol)).wait()
        self._say(f"arrived after {transfer.seconds:.2f} s")

    def do_inbox(self, _: str) -> None:
        """`inbox`: what has come, oldest first"""
        for number, each in enumerate(self.peer.inbox):
            if isinstance(each, Message):
                self._say(f"{number}  {each.sender}: {each.text!r}")
            else:
                self._say(f"{number}  {each.offer.sender}: {each!r}")

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
        self._say(f"written to {each.assembly.save(Path(folder or '.'))}")

    def do_quit(self, _: str) -> bool:
        """`quit`: leave"""
        return True

    do_EOF = do_quit  # Cmd's name for the end of the input

    def _say(self, words: str) -> None:
        print(printable(words), file=self.stdout, flush=True)
