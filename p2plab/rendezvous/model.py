"""What server and client say to each other, checked wherever it comes in.

The dataclasses are the JSON of the answers; pydantic reads and writes them. Times are
seconds since 1970 on the clock of Redis, unless they say otherwise.
"""

from __future__ import annotations

import ipaddress
import re
import time
import unicodedata
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer
from pydantic import BeforeValidator as Before

MAX_ADDRESSES = 8  # as many candidates as one ICE agent would try with patience
MAX_NAME = 64  # characters
MAX_NAME_BYTES = 128  # in UTF-8
MIN_LEASE, DEFAULT_LEASE, MAX_LEASE = 5.0, 60.0, 300.0  # seconds
MAX_PAGE = 100  # peers in one answer
MAX_WAIT = 25.0  # seconds that a call may wait: proxies give up after 30
MAX_EVENTS = 64  # of a meeting, from each side
MAX_WHY = 200  # characters
MAX_START = 10.0  # seconds that a peer would wait with the first probe
INTRODUCTION_LIFE = 600.0  # seconds in which a person may answer
LOBBY = "lobby"  # the room of those who name none
BEGINNING = "0-0"  # of an inbox

ASCII_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.-]{0,63}")


def legal_name(name: str) -> str:
    """The name as it is stored: normalised to NFC (RFC 8265, section 3.4.2).

    A name has 1 to 64 characters, at most 128 bytes in UTF-8: letters, their marks,
    and digits of any script, and `_`, `.`, `-`. It begins with a letter or a digit.
    Raises ValueError for any other.
    """
    if ASCII_NAME.fullmatch(name):  # twenty times as quick
        return name
    too_long = f"a name has at most {MAX_NAME} characters and {MAX_NAME_BYTES} bytes"
    if len(name) > 4 * MAX_NAME:  # before the work of normalising
        raise ValueError(f"{too_long} in UTF-8, got {len(name)} characters")
    nfc = unicodedata.normalize("NFC", name)
    if hidden := next(filter(_invisible, nfc), ""):
        raise ValueError(
            f"a name has no invisible characters: leave out U+{ord(hidden):04X}, or "
            "write '-' in its place"
        )
    if len(mixed := scripts(nfc)) > 1 and not any(mixed <= each for each in TOGETHER):
        raise ValueError(
            f"a name is written in one script, or it could look like another one: this "
            f"one has letters of {' and '.join(sorted(mixed))}"
        )
    kinds = "".join(unicodedata.category(character)[0] for character in nfc)
    legal = all(k in "LMN" or c in "_.-" for k, c in zip(kinds, nfc, strict=True))
    if not legal or kinds[:1] not in ("L", "N"):
        raise ValueError(
            "a name has letters, digits, '_', '.' and '-' of any script and begins "
            f"with a letter or a digit, got {name[:MAX_NAME]!r}"
        )
    if len(nfc) > MAX_NAME or len(nfc.encode()) > MAX_NAME_BYTES:
        raise ValueError(
            f"{too_long} in UTF-8, got {len(nfc)} characters, {len(nfc.encode())} bytes"
        )
    return nfc


# Scripts that are written together: of Japanese, Korean and Chinese, beside Latin.
# Source: Unicode Technical Standard 39, section 5.2, "highly restrictive".
TOGETHER = (
    {"LATIN", "CJK", "HIRAGANA", "KATAKANA"},
    {"LATIN", "CJK", "HANGUL"},
    {"LATIN", "CJK", "BOPOMOFO"},
)
_SAME_SCRIPT = {"IDEOGRAPHIC": "CJK", "KATAKANA-HIRAGANA": "KATAKANA"}
# Letters and marks that show nothing (Unicode's Default_Ignorable_Code_Point).
_SHOWS_NOTHING = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0"
    "\U000e0100-\U000e01ef]"
)


def _invisible(character: str) -> bool:
    hidden = unicodedata.category(character) in ("Cf", "Cc", "Co", "Cs")
    return hidden or _SHOWS_NOTHING.match(character) is not None


def scripts(name: str) -> set[str]:
    """The scripts of a name's letters, by the first word of each letter's own name."""
    found = set()
    for character in unicodedata.normalize("NFKC", name):
        if unicodedata.category(character) in ("Lu", "Ll", "Lt", "Lo", "Lm"):
            first = unicodedata.name(character, "UNKNOWN").split()[0]
            found.add(_SAME_SCRIPT.get(first, first))
    return found - {"MODIFIER"}


# Small letters of other scripts that most fonts draw like one of Latin: a name of these
# alone mixes nothing. After Unicode's confusables.txt (UTS 39, section 4).
_LIKE_LATIN = str.maketrans(
    "\u0430\u0501\u0435\u04bb\u0456\u0458\u04cf\u043e\u0440\u051b\u0455\u051d\u0445\u0443"
    "\u0441\u03bf\u03bd\u03c1\u0585\u0578\u057d\u0570\u0566",
    "adehijlopqswxycovponuhq",
)


def look(name: str) -> str:
    """What names that look alike have in common: capitals and widths are gone.

    Source: RFC 8264, section 5.2, and Unicode's NFKC_Casefold. Of capitals that look
    like Latin ones, and small letters that do not, nothing is known here.
    """
    folded = unicodedata.normalize("NFKC", name).casefold()
    return unicodedata.normalize("NFKC", folded).translate(_LIKE_LATIN)


@lru_cache(1024)
def legal_address(text: str) -> str:
    """The canonical spelling of an IP address that somebody could connect to.

    Raises ValueError for host names, zones (`%eth0`), 0.0.0.0, multicast, broadcast.
    """
    wish = "an address must be an IP address such as 192.168.1.7 or 2001:db8::7"
    if "%" in text:  # a zone means something on one machine only
        raise ValueError(f"{wish} without a zone, got {text[:50]!r}")
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f"{wish}, got {text[:50]!r}") from None
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    if ip.is_unspecified or ip.is_multicast or str(ip) == "255.255.255.255":
        raise ValueError(f"{wish} of one machine, got {ip}")
    return str(ip)


def legal_session(text: str) -> str:
    """The id of an introduction: 16 hexadecimal digits. Raises ValueError."""
    if re.fullmatch("[0-9a-f]{16}", text) is None:
        raise ValueError(f"a session has 16 digits out of 0-9a-f, got {text[:40]!r}")
    return text


def legal_key(value: object) -> bytes:
    """The key of a meeting, 32 bytes, or what they are in hex. Raises ValueError."""
    key = bytes.fromhex(value) if isinstance(value, str) else value
    if not isinstance(key, bytes) or len(key) != 32:
        raise ValueError("a key has 32 bytes")
    return key


Name = Annotated[str, AfterValidator(legal_name), Field(examples=["ann"])]
Address = Annotated[str, AfterValidator(legal_address), Field(examples=["192.168.1.7"])]
Session = Annotated[
    str, AfterValidator(legal_session), Field(examples=["00c0ffee00c0ffee"])
]
Key = Annotated[
    bytes, Before(legal_key, json_schema_input_type=str), PlainSerializer(bytes.hex)
]
Port = Annotated[int, Field(ge=1, le=65535, examples=[5001])]
Moment = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
Lease = Annotated[float, Field(ge=MIN_LEASE, le=MAX_LEASE, allow_inf_nan=False)]
Addresses = Annotated[tuple[Address, ...], Field(max_length=MAX_ADDRESSES)]
Why = Annotated[str, Field(max_length=MAX_WHY)]


# What a peer asks


class Form(BaseModel):
    """What a caller sends: nothing more, and nothing of another kind."""

    model_config = ConfigDict(strict=True, extra="forbid")


class Claim(Form):
    """What a peer says about itself. lease: wished, in seconds."""

    addresses: list[Address] = Field(min_length=1, max_length=MAX_ADDRESSES)
    tcp_port: Port
    udp_port: Port
    lease: Lease = DEFAULT_LEASE


class Wish(Form):
    """Who wants to be introduced to whom. session: chosen by the caller."""

    caller: Name = Field(alias="from")
    to: Name
    session: Session


class Consent(Form):
    """What the one who was asked says, or with a refusal the one who has asked.

    why: words for the caller of a refusal.
    """

    name: Name
    accept: bool
    why: Why = ""


class Observation(Form):
    """One thing that a peer saw."""

    at: Moment
    what: str = Field(min_length=1, max_length=40)
    note: Why = ""


class Report(Form):
    """What a peer saw of a meeting; it replaces what it has reported before."""

    name: Name
    events: list[Observation] = Field(max_length=MAX_EVENTS)


# What the rendezvous answers


@dataclass(frozen=True, slots=True)
class Registration:
    """A name that we hold.

    token: the proof that the name is ours; keep it to take the name back after a crash.
    lease: seconds that the name stays ours after each heartbeat.
    seen: our address as the rendezvous saw it.
    nonce: the user name of our STUN requests; each heartbeat brings a fresh one.
    stun_port: where the rendezvous answers STUN; None where it does not.
    """

    name: Name
    token: str = field(repr=False)
    lease: Lease
    seen: Address
    room: Name = LOBBY
    nonce: str = field(default="", repr=False)
    stun_port: Port | None = None


@dataclass(frozen=True, slots=True)
class Renewed:
    """How long a name stays its owner's, in seconds from now; and a fresh nonce."""

    lease: Lease
    nonce: str


@dataclass(frozen=True, slots=True)
class Listed:
    """What the rendezvous tells everybody about a peer.

    since: when it registered; a peer that has come back has another one.
    """

    name: Name
    since: Moment

    def __repr__(self) -> str:
        since = time.strftime("%H:%M:%S", time.localtime(self.since))
        return f"<{self.name}, registered at {since}>"


@dataclass(frozen=True, slots=True)
class Page:
    """A part of the list. next: the cursor of the next page; None on the last one."""

    peers: Annotated[list[Listed], Field(max_length=MAX_PAGE)]
    next: str | None


@dataclass(frozen=True, slots=True)
class State:
    """How far an introduction is."""

    state: Literal["asked", "met", "refused", "withdrawn"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A way that may lead to a peer's UDP socket.

    kind: "host", what the peer says of itself; "observed", what the rendezvous saw.
    """

    kind: Literal["host", "observed"]
    address: Address
    port: Port


@dataclass(frozen=True, slots=True)
class Notice:
    """What a peer says about meeting us.

    what: "asked", it wants to be introduced to us; "withdrawn", it does so no more;
        "refused", we asked it, and why says why not.
    """

    what: Literal["asked", "withdrawn", "refused"]
    session: Session
    peer: Name
    why: Why = ""


@dataclass(frozen=True, slots=True)
class Met:
    """Two peers have been introduced.

    role: "caller", if we asked, or "callee".
    candidates: ways to the peer's UDP socket, the best first.
    addresses, tcp_port, udp_port: what the peer says of itself.
    key: 32 bytes that the two and the rendezvous know, and nobody else; hex in JSON.
    start_in: seconds from now at which both begin to probe.
    since: when the peer registered, as in Listed.
    """

    session: Session
    peer: Name
    role: Literal["caller", "callee"]
    candidates: Annotated[tuple[Candidate, ...], Field(max_length=MAX_ADDRESSES + 2)]
    addresses: Annotated[Addresses, Field(min_length=1)]
    tcp_port: Port
    udp_port: Port
    key: Key = field(repr=False)
    start_in: Annotated[float, Field(ge=0, le=MAX_START, allow_inf_nan=False)]
    since: Moment = 0.0
    what: Literal["met"] = "met"


News = Notice | Met


@dataclass(frozen=True, slots=True)
class Inbox:
    """What came in. next: after which place to go on."""

    events: list[Annotated[News, Field(discriminator="what")]]
    next: str


@dataclass(frozen=True, slots=True)
class Sighting:
    """What somebody saw of a meeting, for its trace.

    what: a word. who: a peer's name; None for the rendezvous.
    """

    at: Moment
    what: str
    note: str = ""
    who: Name | None = None


@dataclass(frozen=True, slots=True)
class Meeting:
    """What both peers and the rendezvous saw, in the order of time."""

    events: list[Sighting]


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a request was refused.

    error: one word for programs. message: what is wrong, and what to do about it.
    retry_after: seconds until another try makes sense, null if waiting does not help.
    """

    error: str
    message: str
    retry_after: Annotated[float | None, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class Quotas:
    """What one rendezvous carries. A source is an IPv4 address, or a /64 of IPv6: all
    of a school behind one router.

    peers: names held at the same time in one room; rooms: with somebody in them.
    names_per_minute: new names from one source; a refresh is not a new name.
    introductions_from, _to, _per_source, _to_per_source: asked within a minute by one
    name, of one name, from one source, and from one source of one name.
    waiting_per_name, waiting_per_source: calls that wait at one server.
    connections_per_source: to one server; a class of 300 holds about 900, three for
    each of its peers: one waits, one renews the name, one looks who is there.
    look_ups_per_second: GET requests of one source to one server; the panels of a class
    of 300 look every 2 s at three pages, 450, and each text that is sent looks once.
    """

    peers: int = 5_000
    rooms: int = 1_000
    names_per_minute: int = 100
    introductions_from: int = 30
    introductions_to: int = 300
    introductions_per_source: int = 600
    introductions_to_per_source: int = 100  # nobody fills another one's inbox alone
    waiting_per_name: int = 2
    waiting_per_source: int = 1_000
    connections_per_source: int = 1_500
    look_ups_per_second: int = 1_500

    def __post_init__(self) -> None:
        for each in fields(self):
            if getattr(self, each.name) < 1:
                raise ValueError(f"{each.name} must be at least 1")
