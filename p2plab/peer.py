"""A peer: a name at the rendezvous, a text server, a UDP socket and an inbox."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final, Self

from p2plab.chat import ChatClient, ChatServer, Delivery
from p2plab.chunks import Parcel, cut
from p2plab.conversation import conversation
from p2plab.datagrams import Address
from p2plab.errors import (
    NotDelivered,
    P2PLabError,
    PeerUnreachable,
    TransferStalled,
)
from p2plab.inbox import Event, Message
from p2plab.link import AnyLink
from p2plab.offer import Limits, Offer
from p2plab.protocols import Setup
from p2plab.rendezvous.client import RendezvousClient
from p2plab.rendezvous.doorman import Policy, Request
from p2plab.rendezvous.lease import Lease
from p2plab.rendezvous.meetings import Meetings
from p2plab.rendezvous.model import (
    LOBBY,
    Listed,
    Met,
    Registration,
    address_near,
    legal_name,
)
from p2plab.trace import RECEIVER, Trace
from p2plab.transfer import Transfer, no_room
from p2plab.udp import CLOSED, UdpSocket

ANY_HOST: Final = ("0.0.0.0", "::")


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
    on_offer: asked before a picture or file is taken; returns why not, or None. It is
        called from the socket's thread, and must answer at once.
    on_news: called, from some thread, with each new Message and Transfer.
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
        limits: Limits | None = None,
        ack_delay: float = 0.0,
        ack_loss: float = 0.0,
        seed: int = 0,
        on_offer: Callable[[Offer, Address], str | None] | None = None,
        on_news: Callable[[Message | Transfer], None] | None = None,
    ) -> None:
        self.name = legal_name(name)
        self.host = host
        self.rendezvous = RendezvousClient(rendezvous, room=room)
        self.on_news, self._on_offer = on_news, on_offer
        self._inbox: list[Message | Transfer] = []
        self._lock = threading.Lock()  # for the inbox, which several threads fill
        self._closed = False
        self._lease = lease = Lease(self.rendezvous, self._claim)
        self.meetings = Meetings(self.rendezvous, lambda: lease.registration, accept)
        self._chat = ChatClient(self.name)
        self.texts = ChatServer(
            host,
            tcp_port,
            name=self.name,
            ack_delay=ack_delay,
            ack_loss=ack_loss,
            seed=seed,
            on_message=self._news,
        ).start()
        try:
            ask, tell = self._consider, self._news
            self.pictures = UdpSocket(
                host, udp_port, limits=limits, on_offer=ask, on_transfer=tell
            )
        except BaseException:
            self.texts.stop()
            raise

    def register(self, lease: float = 60.0) -> Registration:
        """Take our name at the rendezvous, and keep it until we close.

        Raises NameTaken, with how long to wait, RendezvousAway, RendezvousError, and
        P2PLabError after `close`.
        """
        if self._closed:
            raise P2PLabError(CLOSED)
        registration = self._lease.take(lease)
        self.meetings.doorman.start()
        return registration

    @property
    def registration(self) -> Registration | None:
        """What the rendezvous granted, or None before `register`."""
        return self._lease.registration

    @property
    def trouble(self) -> P2PLabError | None:
        """Why our name could not be renewed the last time, or None."""
        return self._lease.trouble

    @property
    def requests(self) -> list[Request]:
        """Who wants to meet us and waits for our word, if we `accept` by "ask"."""
        return self.meetings.doorman.requests

    def introduce(self, to: str, timeout: float = 10.0) -> Met:
        """Meet the peer named `to`: both learn how to reach each other, and a key.

        timeout: how long to wait for its consent [s]. Raises PeerNotFound,
        IntroductionRefused, PeerUnreachable without an answer, RendezvousAway.
        """
        if self._closed:
            raise P2PLabError(CLOSED)
        return self.meetings.doorman.introduce(legal_name(to), timeout)

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
            peer = self._find(to)
            address = (peer.addresses[0], peer.tcp_port)
            return self._chat.send_text(address, text, timeout=timeout, tries=tries)
        except PeerUnreachable as why:
            raise NotDelivered(str(why), text) from why
        except NotDelivered:
            self.meetings.forget(to)  # it may have moved
            raise

    def send_picture(
        self,
        to: str,
        picture: object,
        setup: Setup | None = None,
        link: AnyLink | None = None,
        *,
        payload_size: int = 1200,
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
        parcel = cut(picture, kind="picture", payload_size=payload_size, order=order)
        return self._send(to, parcel, setup, link, patience)

    def send_file(
        self,
        to: str,
        file: object,
        setup: Setup | None = None,
        link: AnyLink | None = None,
        *,
        payload_size: int = 1200,
        patience: float = 30.0,
    ) -> Transfer:
        """Send a file, or bytes, as they are; otherwise as `send_picture`."""
        kind = "bytes" if isinstance(file, bytes | bytearray | memoryview) else "file"
        parcel = cut(file, kind=kind, payload_size=payload_size)
        return self._send(to, parcel, setup, link, patience)

    @property
    def inbox(self) -> list[Message | Transfer]:
        """What has come, oldest first: texts, and pictures also while they arrive."""
        with self._lock:
            return list(self._inbox)

    def clear_inbox(self) -> None:
        """Forget what has come, except for transfers that are still arriving."""
        self.texts.clear()
        with self._lock:
            self._inbox = [
                each
                for each in self._inbox
                if isinstance(each, Transfer) and not each.ended
            ]

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
        self.meetings.doorman.close()
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
        parcel: Parcel,
        setup: Setup | None,
        link: AnyLink | None,
        patience: float,
    ) -> Transfer:
        peer = self._find(to)
        return self.pictures.send(
            (peer.addresses[0], peer.udp_port),
            parcel,
            setup,
            link=link,
            sender=self.name,
            patience=patience,
        )

    def _find(self, name: str) -> Met:
        if self._closed:
            raise P2PLabError(CLOSED)
        if legal_name(name) != self.name:
            return self.meetings.find(name)
        self.rendezvous.peer(name)
        (_, tcp), (_, udp) = self.texts.address, self.pictures.address
        return Met("", self.name, "caller", (), (self._address(),), tcp, udp, b"", 0.0)

    def _address(self) -> str:
        host = self.texts.address[0]  # a number, whatever `host` was
        return address_near(self.rendezvous.url) if host in ANY_HOST else host

    def _claim(self, seconds: float, token: str) -> Registration:
        (_, tcp), (_, udp) = self.texts.address, self.pictures.address
        return self.rendezvous.register(
            self.name, [self._address()], tcp, udp, seconds, token=token
        )

    def _consider(self, offer: Offer, address: Address) -> str | None:
        transfers = [each for each in self.inbox if isinstance(each, Transfer)]
        if why := no_room(transfers, offer):
            return why
        return self._on_offer(offer, address) if self._on_offer is not None else None

    def _news(self, news: Message | Transfer) -> None:
        if isinstance(news, Transfer) and news.role != RECEIVER:
            if isinstance(news.error, TransferStalled):
                self.meetings.forget()  # whoever it was may have moved
            return
        with self._lock:
            if news not in self._inbox:
                self._inbox.append(news)
        if self.on_news is not None:
            self.on_news(news)
