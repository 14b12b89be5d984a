"""What a benchmark asks of each rendezvous: register, look up, introduce, wait."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, Protocol

from wire import Address, Http, WebSocket

CLAIM: Final = {
    "addresses": ["192.168.1.7"],
    "tcp_port": 5001,
    "udp_port": 5002,
    "lease": 300,
}
# What our own introduction tells each side has about this size; an offer of WebRTC,
# with its candidates, is several times larger.
OFFER: Final = {"candidates": "x" * 400}

Operation = Callable[[], Awaitable[object]]
Operations = Iterator[Operation]


class Contestant(Protocol):
    """One service. Every operation is one whole thing that a user would want."""

    async def prepare(self, peers: int, pairs: int) -> None:
        """Let peers be there, and pairs be ready to be introduced again and again."""

    def register(self) -> Operations:
        """A newcomer connects and has a name."""

    def register_again(self) -> Operations:
        """The same over a connection that is there, where a name is not one itself."""

    def look_up(self) -> Operations:
        """Somebody finds out whether a name is there, over a connection it has."""

    def introduce(self) -> Operations:
        """One asks for another, that one agrees, and the first learns of it."""

    async def wait(self, peers: int) -> None:
        """Let so many more peers have a name, and wait for somebody to ask for them."""

    def close(self) -> None:
        """Hang up everywhere."""


class Ours:
    """p2plab."""

    def __init__(self, server: Address) -> None:
        self.server = server
        self.room = f"/rooms/{secrets.token_hex(4)}"
        self.lines: list[Http] = []
        self.idle: list[Http] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.pairs: list[tuple[Visitor, Visitor]] = []
        self.numbers = itertools.count()
        self.first = ""

    def line(self) -> Http:
        """Return a new connection, which is closed in the end."""
        self.lines.append(Http(self.server))
        return self.lines[-1]

    async def prepare(self, peers: int, pairs: int) -> None:
        for operation in itertools.islice(self.register(), peers - 2 * pairs):
            await operation()
        self.first = "peer0"
        everybody = [await self.visitor() for _ in range(2 * pairs)]
        self.pairs = list(zip(everybody[::2], everybody[1::2], strict=True))

    async def visitor(self) -> Visitor:
        """Return a peer that waits at its inbox."""
        number = next(self.numbers)
        visitor = Visitor(self.room, f"peer{number}", self.line(), self.line())
        await visitor.register()
        self.tasks.append(asyncio.create_task(visitor.watch()))
        return visitor

    def register(self) -> Operations:
        async def new_connection() -> None:
            line = Http(self.server)
            await self.claim(line)
            line.close()

        return itertools.repeat(new_connection)

    def register_again(self) -> Operations:
        async def old_connection() -> None:
            line = self.idle.pop() if self.idle else self.line()
            await self.claim(line)
            self.idle.append(line)

        return itertools.repeat(old_connection)

    async def claim(self, line: Http) -> None:
        """Take the next name."""
        path = f"{self.room}/peers/peer{next(self.numbers)}"
        reply = await line.ask("PUT", path, CLAIM)
        assert reply.status == 201, reply

    def look_up(self) -> Operations:
        async def one() -> None:
            line = self.idle.pop() if self.idle else self.line()
            reply = await line.ask("GET", f"{self.room}/peers/{self.first}")
            assert reply.status == 200, reply
            self.idle.append(line)

        return itertools.repeat(one)

    def introduce(self) -> Operations:
        free = list(self.pairs)

        async def one() -> None:
            pair = free.pop()
            await pair[0].meet(pair[1].name, secrets.token_hex(8))
            free.append(pair)

        return itertools.repeat(one)

    async def wait(self, peers: int) -> None:
        for _ in range(peers):
            await self.visitor()

    def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        for line in self.lines:
            line.close()


class Visitor:
    """A peer of ours: a call that waits at its inbox, and a connection to ask with."""

    def __init__(self, room: str, name: str, waiting: Http, asking: Http) -> None:
        self.room, self.name = room, name
        self.waiting, self.asking = waiting, asking
        self.token = ""
        self.met: dict[str, asyncio.Future[Any]] = {}
        self.asked: dict[str, float] = {}  # when we were told of a session
        self.place = "0-0"

    async def register(self) -> None:
        """Take the name."""
        path = f"{self.room}/peers/{self.name}"
        reply = await self.waiting.ask("PUT", path, CLAIM)
        assert reply.status == 201, reply
        self.token = reply.json()["token"]

    async def beat(self) -> None:
        """Keep the name, and the connection to ask with."""
        path = f"{self.room}/peers/{self.name}/heartbeat"
        reply = await self.asking.ask("POST", path, token=self.token)
        assert reply.status == 200, reply

    async def watch(self) -> None:
        """Wait at the inbox for ever, and accept whoever asks."""
        path = f"{self.room}/peers/{self.name}/inbox?wait=25&after="
        while True:
            news = await self.waiting.ask("GET", path + self.place, token=self.token)
            await self.take(news.json())

    async def take(self, news: Any) -> None:
        """Deal with what came in."""
        self.place = news["next"]
        for event in news["events"]:
            session = event["session"]
            if event["what"] == "asked":
                self.asked[session] = time.perf_counter()
                consent = {"name": self.name, "accept": True}
                where = f"{self.room}/introductions/{session}"
                await self.asking.ask("POST", where, consent, self.token)
            elif session in self.met:
                self.met.pop(session).set_result(event)

    async def meet(self, name: str, session: str) -> Any:
        """Be introduced; return what our inbox then says."""
        wish = {"from": self.name, "to": name, "session": session}
        met = self.met[session] = asyncio.get_running_loop().create_future()
        where = f"{self.room}/introductions"
        reply = await self.asking.ask("POST", where, wish, self.token)
        assert reply.status == 202, reply
        return await met

    def close(self) -> None:
        """Hang up."""
        self.waiting.close()
        self.asking.close()


class PeerJs:
    """PeerJS: a name is an open WebSocket; OFFER and ANSWER are relayed."""

    def __init__(self, server: Address) -> None:
        self.server = server
        self.sockets: list[WebSocket] = []
        self.idle: list[Http] = []
        self.pairs: list[tuple[str, WebSocket, str]] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def prepare(self, peers: int, pairs: int) -> None:
        for _ in range(peers - 2 * pairs):
            await self.enter()
        for _ in range(pairs):
            caller, mine = await self.enter()
            callee, theirs = await self.enter()
            self.tasks.append(asyncio.create_task(accept_offers(theirs)))
            self.pairs.append((caller, mine, callee))

    async def enter(self) -> tuple[str, WebSocket]:
        """Connect with a name of one's own."""
        name = secrets.token_hex(8)
        path = f"/peerjs?key=peerjs&id={name}&token=t&version=1.5.5"
        each = await WebSocket(self.server).upgrade(path)
        assert (await each.receive())["type"] == "OPEN"
        self.sockets.append(each)
        return name, each

    def register(self) -> Operations:
        return itertools.repeat(self.enter)

    register_again = register

    def look_up(self) -> Operations:
        async def whole_list() -> None:
            line = self.idle.pop() if self.idle else Http(self.server)
            reply = await line.ask("GET", "/peerjs/peers")
            assert reply.status == 200, reply
            self.idle.append(line)

        return itertools.repeat(whole_list)

    def introduce(self) -> Operations:
        free = list(self.pairs)

        async def one() -> None:
            name, mine, callee = pair = free.pop()
            mine.send({"type": "OFFER", "dst": callee, "payload": OFFER})
            answer = await mine.receive()
            assert (answer["type"], answer["src"]) == ("ANSWER", callee), name
            free.append(pair)

        return itertools.repeat(one)

    async def wait(self, peers: int) -> None:
        for _ in range(peers):
            await self.enter()

    def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        for line in (*self.sockets, *self.idle):
            line.close()


async def accept_offers(socket: WebSocket) -> None:
    """Answer every offer that comes."""
    while True:
        offer = await socket.receive()
        socket.send({"type": "ANSWER", "dst": offer["src"], "payload": OFFER})


class Mailbox:
    """magic-wormhole's mailbox server: a nameplate leads two sides to one mailbox."""

    def __init__(self, server: Address) -> None:
        self.server = server
        self.sockets: list[WebSocket] = []
        self.idle: list[WebSocket] = []
        self.fresh: list[tuple[WebSocket, WebSocket]] = []
        self.application = secrets.token_hex(4)
        self.numbers = itertools.count(1)

    async def prepare(self, peers: int, pairs: int) -> None:
        for operation in itertools.islice(self.register(), peers - 2 * pairs):
            await operation()
        # A connection can be introduced once only; connecting is not counted.
        for _ in range(16 * pairs):
            self.fresh.append((await self.connect(), await self.connect()))

    async def connect(self) -> WebSocket:
        """Connect, and say which application this is."""
        each = await WebSocket(self.server).upgrade("/v1")
        self.sockets.append(each)
        side = secrets.token_hex(8)
        each.send({"type": "bind", "appid": self.application, "side": side})
        await answer(each, "ack")
        return each

    def register(self) -> Operations:
        async def newcomer() -> None:
            each = await self.connect()
            each.send({"type": "claim", "nameplate": str(next(self.numbers))})
            await answer(each, "claimed")

        return itertools.repeat(newcomer)

    register_again = register

    def look_up(self) -> Operations:
        async def whole_list() -> None:
            line = self.idle.pop() if self.idle else await self.connect()
            line.send({"type": "list"})
            await answer(line, "nameplates")
            self.idle.append(line)

        return itertools.repeat(whole_list)

    def introduce(self) -> Operations:
        async def one() -> None:
            mine, theirs = self.fresh.pop()
            number = str(next(self.numbers))
            both = (enter_mailbox(mine, number), enter_mailbox(theirs, number))
            await asyncio.gather(*both)
            mine.send({"type": "add", "phase": "offer", "body": OFFER["candidates"]})
            await message(theirs, "offer")
            theirs.send({"type": "add", "phase": "answer", "body": OFFER["candidates"]})
            await message(mine, "answer")

        return (one for _ in range(len(self.fresh)))

    async def wait(self, peers: int) -> None:
        for _ in range(peers):
            await enter_mailbox(await self.connect(), str(next(self.numbers)))

    def close(self) -> None:
        for line in self.sockets:
            line.close()


async def enter_mailbox(side: WebSocket, nameplate: str) -> None:
    """Claim a nameplate, and open the mailbox that it leads to."""
    side.send({"type": "claim", "nameplate": nameplate})
    claimed = await answer(side, "claimed")
    side.send({"type": "open", "mailbox": claimed["mailbox"]})


async def answer(side: WebSocket, kind: str) -> Any:
    """Wait for one kind of message; those before it are acknowledgements."""
    while (said := await side.receive())["type"] != kind:
        assert said["type"] != "error", said
    return said


async def message(side: WebSocket, phase: str) -> None:
    """Wait for what the other side has put into the mailbox."""
    while (await answer(side, "message"))["phase"] != phase:
        pass
