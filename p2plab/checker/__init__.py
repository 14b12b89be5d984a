"""The checker: the smallest run that breaks a protocol, or what it survived."""

from __future__ import annotations

from p2plab.checker.game import Attempt, break_it, play
from p2plab.checker.run import (
    CHANNELS,
    Fault,
    FaultKind,
    NetworkClass,
    Promise,
    VerdictKind,
)
from p2plab.checker.search import check
from p2plab.checker.verdict import Verdict

__all__ = [
    "CHANNELS",
    "Attempt",
    "Fault",
    "FaultKind",
    "NetworkClass",
    "Promise",
    "Verdict",
    "VerdictKind",
    "break_it",
    "check",
    "play",
]
