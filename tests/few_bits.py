"""Machines whose numbers have few bits, or as many as they like."""

from __future__ import annotations

from typing import Any

from p2plab.protocols.modulo import ModuloReceiver, ModuloSender


def sending(machine: Any, bits: int | None) -> Any:
    """Return a sender whose numbers have so many bits; None leaves it as it is."""
    return machine if bits is None else ModuloSender(machine, bits)


def receiving(machine: Any, bits: int | None, window: int = 1) -> Any:
    """Return a receiver whose numbers have so many bits."""
    return machine if bits is None else ModuloReceiver(machine, bits, window)
