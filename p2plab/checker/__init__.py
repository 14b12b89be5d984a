"""The checker: the smallest run that breaks a protocol, or what it survived."""

from __future__ import annotations

from p2plab.checker.checking import check
from p2plab.checker.game import Attempt, break_it
from p2plab.checker.network import CHANNELS, Channel, Fault
from p2plab.checker.verdict import Verdict

__all__ = [
    "CHANNELS",
    "Attempt",
    "Channel",
    "Fault",
    "Verdict",
    "break_it",
    "check",
]
