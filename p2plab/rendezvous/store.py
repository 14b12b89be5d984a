"""All that servers share through Redis: names, changes, introductions."""

from __future__ import annotations

from p2plab.rendezvous.changes import Changes
from p2plab.rendezvous.database import Database
from p2plab.rendezvous.introductions import Introductions
from p2plab.rendezvous.model import Limits
from p2plab.rendezvous.names import Names
from p2plab.rendezvous.nodes import Nodes


class Store:
    """The state of a rendezvous; any number of stores may share one Redis.

    shards: how many slots of a cluster the rooms are spread over.
    Every method raises redis.RedisError when Redis is away.
    """

    def __init__(
        self, nodes: Nodes, limits: Limits | None = None, shards: int = 1
    ) -> None:
        self.limits = limits or Limits()
        self.database = Database(nodes, shards)
        self.names = Names(self.database, self.limits)
        self.changes = Changes(self.database)
        self.introductions = Introductions(self.database, self.limits)
