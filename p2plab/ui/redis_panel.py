"""What the rendezvous keeps in Redis, on the screen while it changes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from p2plab.core.validation import count_of
from p2plab.ui.panel import STYLE, Panel, line, open_lab

if TYPE_CHECKING:
    from p2plab.peer.lab import Lab
    from p2plab.rendezvous.contents import Kept
    from p2plab.rendezvous.server import RendezvousServer

PAUSE: Final = 1.0  # between two looks [s]
# A border and a shadow where there is more, for those who see no scroll bar.
LOOK: Final = """<style>
.p2p-redis-keys {--ground: var(--jp-layout-color0, #fff); padding: 0 8px;
  border: 1px solid var(--jp-border-color1, #bbb); background:
  linear-gradient(var(--ground) 40%, transparent) top / 100% 40px no-repeat local,
  linear-gradient(transparent, var(--ground) 60%) bottom / 100% 40px no-repeat local,
  linear-gradient(rgba(127, 127, 127, .6), transparent) top / 100% 12px no-repeat,
  linear-gradient(transparent, rgba(127, 127, 127, .6)) bottom / 100% 12px no-repeat,
  var(--ground)}
.p2p-redis-keys :is(td, tbody th) {vertical-align: top; white-space: pre-line;
  text-align: left}
.p2p-redis-keys td:last-child {overflow-wrap: anywhere}
.p2p-redis-keys td:nth-child(3) {white-space: nowrap}
.p2p-redis-keys thead th {position: sticky; top: 0; background: var(--ground)}
</style>"""


class RedisPanel(Panel):
    """A table of keys, when they end, and what is in them; looks again every second.

    rendezvous: a Lab or a RendezvousServer, whose Redis is looked at, whether it is a
    real one or a store in this process. Tokens and session keys are never shown.
    key: see Panel.
    """

    def __init__(
        self, rendezvous: Lab | RendezvousServer, *, key: str | None = None
    ) -> None:
        self._rendezvous: Any = open_lab(rendezvous)
        super().__init__("redis", key)
        self.table = line("redis-keys", max_height="480px", overflow="auto")
        style = line("style")
        style.value = STYLE + LOOK
        self.box.children = (style, self.status, self.alert, self.table)
        self.tell("Looking …")
        self.view.request_redraw()

    def draw(self) -> float | None:
        lab = getattr(self._rendezvous, "latest", self._rendezvous)
        server: RendezvousServer = getattr(lab, "server", lab)
        try:
            found = server.contents()
        except OSError as why:
            self.tell(f"The Redis cannot be used: {why}")
            return PAUSE
        real = bool(server.redis_url)
        where = "Redis" if real else "The store in this process"
        self.tell(f"{where} holds {count_of(len(found), 'key')}.")
        self.table.value = table(found)
        return PAUSE


def table(found: Iterable[Kept]) -> str:
    """The keys as HTML."""
    from p2plab.plots.style import html_table  # not before somebody looks

    rows = []
    for kept in found:
        left = "never" if kept.expires_in is None else f"{kept.expires_in:.0f} s"
        lines = [": ".join(filter(None, entry)) for entry in kept.entries]
        if kept.size > len(kept.entries):
            lines.insert(0, f"{kept.size} in all, of which")
        rows.append((kept.what, kept.type, left, "\n".join(lines)))
    return html_table(("what", "type", "ends in", "entries"), rows)
