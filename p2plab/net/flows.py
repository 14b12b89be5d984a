"""All flows of one socket: which are due, and what becomes of their errors."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator
from functools import partial
from typing import Final

from p2plab.content.transfer import Transfer
from p2plab.errors import P2PLabError
from p2plab.net.flow import Flow
from p2plab.net.stuck import CALLS

REMEMBERED: Final = 16  # ended transfers that still answer late packets


class Flows:
    """The flows of one socket, by the key that their packets carry.

    on_transfer: told of every transfer that was accepted, and of every one that ends.
        What it raises is kept in callback_error.
    """

    def __init__(self, on_transfer: Callable[[Transfer], None] | None) -> None:
        self.callback_error: BaseException | None = None
        self._on_transfer = on_transfer
        self._flows: dict[Hashable, Flow] = {}
        self._due: dict[Flow, float] = {}  # when to `tick`, by time.monotonic [s]

    def __iter__(self) -> Iterator[Flow]:
        return iter(list(self._flows.values()))

    def get(self, key: Hashable) -> Flow | None:
        """Return the flow of this key, if there is one."""
        return self._flows.get(key)

    def open(self, key: Hashable, flow: Flow, begin: Callable[[float], None]) -> None:
        """Add a flow and call `begin` as `run` does; forget the oldest ended ones."""
        ended = [each for each, other in self._flows.items() if other.closed]
        for each in ended[: max(0, len(ended) - REMEMBERED)]:
            self._due.pop(self._flows.pop(each), None)
        self._flows[key] = flow
        self.run(flow, begin)

    def run(self, flow: Flow, call: Callable[[float], None]) -> None:
        """Call with the transfer's time; an error ends that transfer and no other."""
        transfer = flow.transfer
        ended = transfer.ended
        now = time.monotonic() - transfer.started_at
        CALLS.begin()
        try:
            call(now)
            flow.finish_turn(now)
            due = flow.wake_at()
        except P2PLabError as why:
            flow.fail(now, why)
            due = flow.wake_at()
        except BaseException as why:  # a machine may call exit()
            what = "a mistake in the protocol, or in p2plab, ended the transfer"
            flow.fail(now, P2PLabError(f"{what}: {why!r}"))
            due = flow.wake_at()
        CALLS.end()
        flow.flush()
        if due is None:
            self._due.pop(flow, None)
        else:
            self._due[flow] = due + transfer.started_at
        if transfer.ended and not ended:
            self.tell(transfer)

    def fail(self, error: Callable[[Transfer], P2PLabError]) -> None:
        """End all that go on."""
        for flow in self:
            self.run(flow, partial(flow.fail, error=error(flow.transfer)))

    def tell(self, transfer: Transfer) -> None:
        """Tell on_transfer."""
        try:
            if self._on_transfer is not None:
                self._on_transfer(transfer)
        except Exception as why:  # not the transfer's fault
            self.callback_error = why

    def wake_at(self) -> float | None:
        """When the next flow is due, by time.monotonic [s]."""
        return min(self._due.values(), default=None)

    def tick(self) -> None:
        """Let every flow that is due do what it has to."""
        now = time.monotonic()
        for flow in [flow for flow, due in self._due.items() if due <= now]:
            self.run(flow, flow.tick)
