"""A peer: a name at the rendezvous, a text server, a UDP socket and an inbox."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final, Self
from urllib.parse import urlsplit

from p2plab.content.chunks import cut
from p2plab.content.content import Chunks
from p2plab.content.offer import Limits, Offer
from p2plab.content.transfer import Transfer, inbox_objection
from p2plab.core.link import AnyLink
from p2plab.core.packet import PAYLOAD_SIZE
from p2plab.core.trace import RECEIVER, Trace
from p2plab.errors import (
    NotDelivered,
    P2PLabError,
    PeerUnreachable,
    TransferStalled,
    WrongPeer,
)
from p2plab.net.chat import ChatClient, Delivery, Event, Message, conversation
from p2plab.net.chat_server import ChatServer
from p2plab.net.datagrams import Address
from p2plab.net.threads import warn_caller
from p2plab.net.udp import CLOSED, UdpSocket
from p2plab.peer.meetings import Meeting, Meetings
from p2plab.protocols import Setup
from p2plab.rendezvous.addresses import address_near, listening_on, shut_in
from p2plab.rendezvous.admission import A_PERSON, Lease, Policy, Request
from p2plab.rendezvous.client import RendezvousClient
from p2plab.rendezvous.model import (
    LOBBY,
    Listed,
    Registration,
    legal_name,
)

EMPTY: Final = 20  # transfers of which nothing came, and that an inbox shows


class Peer:
    """A peer that talks: the report's console peer, as an object.

    name: how others find us; see `legal_name` for what a name may be.
    rendezvous: its URL, or those of several servers that share one Redis.
    room: who is in it can be introduced to each other.
    accept: who may meet us: everybody of the "room"; whom we "ask" about, by
        `requests`; or "nobody".
    host: where we listen. 127.0.0.1 is reached from this machine only; 0.0.0.0 from
        every machine of the network.
    tcp_port, udp_port: for texts and for pictures; 0 lets the system choose.
    ack_delay, ack_loss, seed: how our text server acknowledges (see ChatServer); also
        as `peer.texts.ack_delay` and so on while it runs.
    limits: of pictures and files that we take.
    on_offer: asked before a picture or file is taken; returns why not, or None. It is
        called from the socket's thread, and must answer at once.
    on_news: called, from some thread, with each new Message and Transfer.
    on_request: likewise, with each new Request, if we accept by "ask".
    Raises PortInUse. Close it, or use it as a context manager.
    """

    def __init__(
        self,
        name: str,
        rendezvous: str | Sequence[str],
        *,
        room: str = LOBBY,
        accept: Policy = "room",
        host: str = "127.0.0.1",
        tcp_port: int = 0,
        udp_port: int = 0,
        ack_delay: float = 0.0,
        ack_loss: float = 0.0,
        seed: int = 0,
        limits: Limits | None = None,
        on_offer: Callable[[Offer, Address], str | None] | None = None,
        on_news: Callable[[Message | Transfer], None] | None = None,
        on_request: Callable[[Request], None] | None = None,
    ) -> None:
        self.name = legal_name(name)
        self.host = host = listening_on(host)
        self.rendezvous = RendezvousClient(rendezvous, room=room)
        self.on_offer, self.on_news = on_offer, on_news
        self._closed = False
        self._inbox: list[Message | Transfer] = []
        self._lock = threading.Lock()  # for the inbox
        self._lease = lease = Lease(self.rendezvous, self._claim, self._look)
        self._chat = ChatClient(self.name)
        self.pictures = UdpSocket(
            host,
            udp_port,
            limits=limits,
            sealed=True,
            on_offer=self._consider,
            on_transfer=self._transferred,
        )
        try:
            self.meetings = Meetings(lease, accept, self.pictures, on_request)
            self.texts = ChatServer(
                self.meetings.session,
                host,
                tcp_port,
                name=self.name,
                ack_delay=ack_delay,
                ack_loss=ack_loss,
                seed=seed,
                on_message=self._arrive,
            ).start()
        except BaseException:
            self.pictures.close()
            raise

    def register(self, lease: float = 60.0) -> Registration:
        """Take our name at the rendezvous, and keep it until we close.

        Warns if other machines cannot reach us. Raises NameTaken, with how long to
        wait, RendezvousAway, RendezvousError, and P2PLabError after `close`.
        """
        if self._closed:
            raise P2PLabError(CLOSED)
        registration = self._lease.take(lease)
        self.meetings.admission.start()
        warn_caller(shut_in(self.texts.address[0], registration))
        return registration

    @property
    def registration(self) -> Registration | None:
        """What the rendezvous granted, or None before `register`."""
        return self._lease.registration

    @property
    def trouble(self) -> P2PLabError | None:
        """Why our name could not be renewed, or others cannot reach us; or None."""
        host, registration = self.texts.address[0], self.registration
        return self._lease.trouble or shut_in(host, registration)

    @property
    def requests(self) -> list[Request]:
        """Who wants to meet us and waits for our word, if we `accept` by "ask"."""
        return self.meetings.admission.requests

    def introduce(self, to: str, timeout: float = A_PERSON) -> Meeting:
        """Meet the peer named `to`: both learn how to reach each other, and a key.

        Sending does it by itself. timeout: how long to wait for its consent [s]. Raises
        PeerNotFound, IntroductionRefused, PeerUnreachable without an answer,
        RendezvousAway.
        """
        if self._closed:
            raise P2PLabError(CLOSED)
        return self.meetings.introduce(to, timeout)

    def peers(self) -> list[Listed]:
        """Return the others who are registered, in the order of their names."""
        if self._closed:
            raise P2PLabError(CLOSED)
        return [peer for peer in self.rendezvous.peers() if peer.name != self.name]

    def send_text(
        self, to: str, text: str, *, timeout: float = 2.0, tries: int = 5
    ) -> Delivery:
        """Send a text to the peer named `to`; return when it was acknowledged.

        timeout, tries: how long to wait for each ACK [s], and how often to send.
        Raises NotDelivered with the text, BadContent, and what `introduce` raises.
        """
        try:
            return self._write(to, text, timeout, tries)
        except WrongPeer:  # it may have forgotten us: meet it once more
            return self._write(to, text, timeout, tries)

    def send_picture(
        self,
        to: str,
        picture: object,
        setup: Setup | None = None,
        link: AnyLink | None = None,
        *,
        payload_size: int = PAYLOAD_SIZE,
        order: str = "rows",
        patience: float = 30.0,
    ) -> Transfer:
        """Send a picture to the peer named `to`; returns at once, `wait()` for the end.

        picture: a path, a PIL image, an array, an upload, or the bytes of a file.
        setup: the protocol and its parameters; link: impairments on the way, both ways.
        payload_size, order: how it is cut (see `chunks.cut`).
        patience: how long to go on without hearing from the other side [s].
        Raises BadContent, PeerNotFound, PeerUnreachable, IntroductionRefused,
        RendezvousAway; the rest `wait()` raises.
        """
        chunks = cut(picture, kind="picture", payload_size=payload_size, order=order)
        return self._send(to, chunks, setup, link, patience)

    def send_file(
        self,
        to: str,
        file: object,
        setup: Setup | None = None,
        link: AnyLink | None = None,
        *,
        payload_size: int = PAYLOAD_SIZE,
        patience: float = 30.0,
    ) -> Transfer:
        """Send a file, or bytes, as they are; otherwise as `send_picture`."""
        kind = "bytes" if isinstance(file, bytes | bytearray | memoryview) else "file"
        chunks = cut(file, kind=kind, payload_size=payload_size)
        return self._send(to, chunks, setup, link, patience)

    @property
    def inbox(self) -> list[Message | Transfer]:
        """What has come, oldest first: texts, and pictures also while they arrive."""
        with self._lock:
            return self._inbox.copy()

    def clear_inbox(self, author: str | None = None) -> int:
        """Forget what has come, except for transfers that are still arriving.

        author: the name of the peer whose texts, pictures and files go; None: all.
        Returns how many there were.
        """
        with self._lock:
            gone = [each for each in self._inbox if _over(each, author)]
            self._inbox = [each for each in self._inbox if each not in gone]
        self.texts.forget(author)
        return len(gone)

    @property
    def text_events(self) -> list[Event]:
        """Every attempt, ACK and duplicate of our texts, in the order of time."""
        return sorted([*self._chat.events, *self.texts.events])

    def text_trace(self, *others: Peer) -> Trace:
        """Return what became of the texts that we sent, for a ladder.

        others: the peers that we wrote to, if they live in this process, too; without
        them the trace shows our side only.
        """
        peers = [self, *others]
        events = [event for peer in peers for event in peer.text_events]
        return conversation(events, self._chat.key)

    def close(self) -> None:
        """Leave the rendezvous, stop transfers, close all sockets. Twice is fine."""
        if self._closed:
            return
        self._closed = True
        self._chat.close()
        self.texts.stop()
        self.pictures.close()
        self.meetings.close()
        self._lease.end()
        self.rendezvous.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *why: object) -> None:
        self.close()

    def __repr__(self) -> str:
        tcp, udp = self.texts.address[1], self.pictures.address[1]
        return f"<Peer {self.name}: text on TCP port {tcp}, pictures on UDP port {udp}>"

    def _send(
        self,
        to: str,
        chunks: Chunks,
        setup: Setup | None,
        link: AnyLink | None,
        patience: float,
    ) -> Transfer:
        contact = self._find(to).contact
        try:
            contact.wait()
        except PeerUnreachable:
            self.meetings.forget(to)  # it may have moved
            raise
        return self.pictures.send(
            contact, chunks, setup, link=link, sender=self.name, patience=patience
        )

    def _write(self, to: str, text: str, timeout: float, tries: int) -> Delivery:
        try:
            meeting = self._find(to)
            return self._chat.send_text(
                meeting.text_address,
                text,
                meeting.session,
                timeout=timeout,
                tries=tries,
            )
        except (PeerUnreachable, NotDelivered) as why:
            self.meetings.forget(to)  # it may have moved
            if isinstance(why, NotDelivered):
                raise
            raise NotDelivered(f"{why}.", text) from why

    def _find(self, name: str) -> Meeting:
        if self._closed:
            raise P2PLabError(CLOSED)
        return self.meetings.find(name)

    def _claim(self, seconds: float, token: str) -> Registration:
        (host, tcp), (_, udp) = self.texts.address, self.pictures.address
        address = address_near(self.rendezvous.url, host)
        return self.rendezvous.register(
            self.name, [address], tcp, udp, seconds, token=token
        )

    def _look(self, registration: Registration) -> None:
        """Let the rendezvous see where our datagrams come from."""
        host = urlsplit(self.rendezvous.url).hostname
        if registration.stun_port is not None and host is not None:
            server = host, registration.stun_port
            self.pictures.observe(server, registration.nonce.encode())

    def _consider(self, offer: Offer, address: Address) -> str | None:
        """Say why an offer is not taken; None: it is."""
        held = [each for each in self.inbox if isinstance(each, Transfer)]
        if why := inbox_objection(held, offer):
            return why
        return self.on_offer(offer, address) if self.on_offer is not None else None

    def _transferred(self, transfer: Transfer) -> None:
        """A transfer has begun to arrive, or has ended."""
        if isinstance(transfer.error, TransferStalled):
            self.meetings.forget()  # whoever it was may have moved
        if transfer.role == RECEIVER:  # our own sendings are no news
            self._arrive(transfer)

    def _arrive(self, news: Message | Transfer) -> None:
        with self._lock:
            if news not in self._inbox:
                self._inbox.append(news)
            nothing = [
                each
                for each in self._inbox
                if isinstance(each, Transfer) and each.ended and not each.progress
            ]
            for each in nothing[:-EMPTY]:
                self._inbox.remove(each)
        if self.on_news is not None:
            self.on_news(news)


def _over(each: Message | Transfer, author: str | None) -> bool:
    """Whether it may be forgotten."""
    text = isinstance(each, Message)
    sender = each.sender if isinstance(each, Message) else each.offer.sender
    return author in (None, sender) and (text or getattr(each, "ended", False))
