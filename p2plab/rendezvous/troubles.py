"""What a Redis refuses, or why it cannot be reached: the cause, and a cure."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from typing import Final

# Of what the server, the system and redis-py's classes say: a pattern, and its meaning.
TROUBLES: Final = {
    "DENIED": "its protected mode lets in its own machine alone: give it a password "
    "(requirepass), and write that into the URL",
    "max number of clients": "it has as many clients as it takes: raise the number "
    "(redis-cli CONFIG SET maxclients 10000)",
    "ReadOnly|READONLY": "it is a read-only replica: give the address of its master",
    "MasterDown|MASTERDOWN": "it is a replica whose master is away: give the address "
    "of a master",
    "OutOfMemory|OOM|maxmemory": "it has no memory left: raise its limit (redis-cli "
    "CONFIG SET maxmemory 200mb), or delete what nobody needs",
    "MISCONF": "it cannot save to its disk, and so takes no changes: make space on "
    "that disk (or redis-cli CONFIG SET stop-writes-on-bgsave-error no)",
    "NOREPLICAS": "it has too few replicas to take changes: start them, or lower the "
    "number (redis-cli CONFIG SET min-replicas-to-write 0)",
    "called without any password|no password is set": "it has no password: take the "
    "one out of the URL",
    "WRONGPASS|AuthenticationError: [Ii]nvalid": "the user name or the password in the "
    "URL is not right: correct it",
    "NOAUTH|Authentication required|unauthenticated": "it wants a password: write it "
    "into the URL, as in redis://:PASSWORD@HOST:6379/0",
    "NOPERM|NoPermission": "the user in the URL may not do what is needed: allow it "
    "(redis-cli ACL SETUSER NAME resetkeys '~{p2p}*' +@all), or take another user",
    "BusyLoading|LOADING": "it still loads its data: wait a moment",
    "BUSY": "it is busy with a script: wait, or end that (redis-cli SCRIPT KILL)",
    "MovedError|MOVED|AskError": "it is a node of a cluster: write redis+cluster:// in "
    "the URL in place of redis://",
    "Cluster mode is not enabled|cluster support disabled": "it is no cluster: write "
    "redis:// in the URL in place of redis+cluster://",
    "ClusterDown|CLUSTERDOWN|not covered": "its cluster is not complete: start all of "
    "its nodes (redis-cli --cluster check HOST:PORT names those that are missing)",
    "TryAgain|TRYAGAIN": "its cluster moves data between its nodes: wait a moment",
    "DB index|invalid DB": "it has no database of the number in the URL: take 0",
    "[Uu]nknown (Redis )?command|syntax error|number of arguments": "it does not know "
    "a command that is needed: it has to be Redis 6.2 or newer, with nothing renamed",
    "WRONGTYPE": "another program keeps something of its own under our keys "
    "({p2p}…): take another database",
    "ostname mismatch|IP address mismatch": "its certificate is for another host: "
    "write the host that it names into the URL",
    "certificate has expired|not yet valid": "its certificate is not valid today: "
    "renew it, or set the clock",
    "CERTIFICATE_VERIFY_FAILED|certificate verify failed": "its certificate is not "
    "trusted: name the one that is, by ?ssl_ca_certs=FILE at the end of the URL",
    "CERTIFICATE_REQUIRED|HANDSHAKE_FAILURE": "it wants a certificate of ours: name it "
    "by ?ssl_certfile=FILE&ssl_keyfile=FILE at the end of the URL",
    "WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE": "it does not speak TLS at this port: "
    "write redis:// in the URL in place of rediss://",
    "InvalidResponse": "what answers there is no Redis: correct the address and the "
    "port",
    "gaierror|getaddrinfo": "there is no host of that name: correct the URL",
    "ECONNREFUSED": "nothing listens there: start Redis, or correct the URL",
    "EACCES|EPERM": "this program may not use that address or file",
    "(NET|HOST)(UNREACH|DOWN)|EADDRNOTAVAIL": "no network leads there: join it, or "
    "correct the URL",
}
NO_FILE: Final = {
    False: "there is no such socket file: start Redis, or correct the URL",
    True: "there is no file of a certificate or key as the URL names one: correct it",
}
NO_ANSWER: Final = (
    "nobody answers at its address: start that machine, let its firewall pass the "
    "port, or correct the URL"
)
SILENT: Final = {
    False: "it takes connections and says nothing: a firewall may be in between, the "
    "port may want TLS (rediss:// in the URL), or be no Redis's",
    True: "it takes connections and says nothing: perhaps it does not speak TLS at "
    "this port (redis:// in the URL), a firewall is in between, or it is no Redis",
}
HUNG_UP: Final = {
    False: "it hung up at once: the port may want TLS (rediss:// in the URL), or be no "
    "Redis's",
    True: "it hung up at once: it may want a certificate of ours (at the end of the "
    "URL ?ssl_certfile=FILE&ssl_keyfile=FILE), or be no Redis",
}


def in_words(error: BaseException, tls: bool = False, unasked: str = "") -> str:
    """Say what is wrong with a Redis and what to do; nothing of its URL is in it.

    tls: whether we speak it. unasked: what the server says to whoever connects.
    """
    chain = list(_chain(error))
    said = "; ".join([unasked, *(f"{type(each).__name__}: {each}" for each in chain)])
    # Where redis-py or asyncio have made words of a system's error, its number is left.
    said = re.sub(r"(?:Errno|Error|WinError) (\d+)(?! while)", _errno_name, said)
    for pattern, words in TROUBLES.items():
        if re.search(pattern, said):
            return words
    if "ENOENT" in said:
        return NO_FILE[tls]
    if any(isinstance(each, TimeoutError) for each in chain) or "Timeout" in said:
        return SILENT[tls] if tls or "connecting" not in said else NO_ANSWER
    if re.search("ECONNRESET|EPIPE|ECONNABORTED|closed|Connection lost|EOF", said):
        return HUNG_UP[tls]
    first = str(error).partition("\n")[0][:120].rstrip(".")
    return f"{first or 'an error without words'} ({type(error).__name__})"


def _errno_name(match: re.Match[str]) -> str:
    return errno.errorcode.get(int(match[1]), match[0])


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
