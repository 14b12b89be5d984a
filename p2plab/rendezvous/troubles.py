"""What a Redis refuses, or why it cannot be reached: the cause, and a cure."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator
from typing import Final

from redis.exceptions import TimeoutError as RedisTimeoutError

# A pattern of what the server or the system says, and the cause with its cure.
TROUBLES: Final = (
    (
        "ReadOnly|READONLY",
        "it is a read-only replica: give the address of its master",
    ),
    (
        "OutOfMemory|OOM|maxmemory",
        "it has no memory left: raise its limit (redis-cli CONFIG SET "
        "maxmemory 200mb), or delete what nobody needs",
    ),
    (
        "MISCONF",
        "it cannot save to its disk, and so takes no changes: make room "
        "on that disk (or redis-cli CONFIG SET stop-writes-on-bgsave-"
        "error no)",
    ),
    (
        "NOREPLICAS",
        "it has too few replicas to take changes (min-replicas-to-write):"
        " start them, or lower that number",
    ),
    (
        "called without any password|no password is set",
        "it has no password: take the one out of the URL",
    ),
    (
        "WRONGPASS|invalid password|invalid username",
        "the user name or the password in the URL is not right: correct it",
    ),
    (
        "NOAUTH|Authentication required|unauthenticated",
        "it wants a password: write it into the URL, as in "
        "redis://:PASSWORD@HOST:6379/0",
    ),
    (
        "NOPERM|no permissions",
        "the user in the URL may not do what is needed: allow it (redis-"
        "cli ACL SETUSER NAME '~{p2p}*' +@all), or take another user",
    ),
    (
        "LOADING",
        "it still loads its data: wait a moment",
    ),
    (
        "Moved|MOVED|AskError",
        "it is a node of a cluster: write redis+cluster:// in the URL in "
        "place of redis://",
    ),
    (
        "cluster (mode|support) (is not enabled|disabled)|Cluster mode is not enabled",
        "it is no cluster: write redis:// in the URL in place of redis+cluster://",
    ),
    (
        "CLUSTERDOWN|not covered|Redis Cluster cannot be connected",
        "its cluster is not complete or not reachable (redis-cli "
        "--cluster check HOST:PORT): start all nodes",
    ),
    (
        "max number of clients",
        "it has as many clients as it takes: raise the number (redis-cli "
        "CONFIG SET maxclients 20000)",
    ),
    (
        "DENIED",
        "its protected mode lets in its own machine alone: give it a "
        "password (requirepass), and write that into the URL",
    ),
    (
        "DB index|invalid DB",
        "it has no database of the number in the URL: take 0",
    ),
    (
        "unknown command",
        "it does not know a command that is needed: it has to be Redis 6 "
        "or newer, with nothing switched off",
    ),
    (
        "WRONGTYPE",
        "another program keeps something of its own under our keys "
        "({p2p}…): take another database",
    ),
    (
        "CERTIFICATE_VERIFY_FAILED|certificate verify failed",
        "its certificate is not trusted: name the one that is, by "
        "?ssl_ca_certs=FILE at the end of the URL",
    ),
    (
        "WRONG_VERSION_NUMBER|record layer|wrong version number",
        "it does not speak TLS at this port: write redis:// in the URL in"
        " place of rediss://",
    ),
    (
        "InvalidResponse",
        "what answers there is no Redis: correct the address and the port",
    ),
    (
        "Name or service not known|getaddrinfo|nodename nor servname|name"
        " resolution|No address associated",
        "there is no host of that name: correct the URL",
    ),
    (
        "No such file",
        "there is no such socket file: start Redis, or correct the URL",
    ),
    (
        "Permission denied",
        "this program may not use that address or socket file",
    ),
    (
        "unreachable|No route",
        "no network leads there: join it, or correct the URL",
    ),
    (
        "refused",
        "nothing listens there: start Redis, or correct the URL",
    ),
    (
        "closed by server|reset by peer|Connection lost|Connection closed|EOF",
        "it hung up at once: the port may want TLS (rediss:// in the "
        "URL), or be no Redis's",
    ),
)
SILENT: Final = (
    "it takes connections and says nothing: a firewall may be in between, the port may "
    "want TLS (rediss:// in the URL), or be no Redis's"
)
SILENT_TO_TLS: Final = (
    "it takes connections and says nothing: perhaps it does not speak TLS at this port "
    "(redis:// in the URL), a firewall is in between, or it is no Redis"
)


def in_words(error: BaseException, url: str = "") -> str:
    """Say what is wrong with a Redis and what to do; nothing of its URL is in it."""
    chain = list(_chain(error))
    said = "; ".join(f"{type(each).__name__}: {each}" for each in chain)
    for pattern, words in TROUBLES:
        if re.search(pattern, said):
            return words
    kinds = (RedisTimeoutError, TimeoutError, socket.timeout, ssl.SSLWantReadError)
    if any(isinstance(each, kinds) for each in chain):
        return SILENT_TO_TLS if url.startswith("rediss") else SILENT
    first = str(error).split("\n")[0][:120]
    return f"{type(error).__name__}{': ' * bool(first)}{first}"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
