"""The protocol pages, and how to choose one by name."""

from p2plab.fast.fast import FastReceiver, FastSender
from p2plab.fast.fountain import FountainReceiver, FountainSender
from p2plab.protocols.best_effort import BestEffortReceiver, BestEffortSender
from p2plab.protocols.finish import FinishReceiver, FinishSender
from p2plab.protocols.go_back_n import GoBackNReceiver, GoBackNSender
from p2plab.protocols.selective_repeat import (
    SelectiveRepeatReceiver,
    SelectiveRepeatSender,
)
from p2plab.protocols.setup import PROTOCOLS, Setup
from p2plab.protocols.stop_and_wait import StopAndWaitReceiver, StopAndWaitSender

__all__ = [
    "PROTOCOLS",
    "BestEffortReceiver",
    "BestEffortSender",
    "FastReceiver",
    "FastSender",
    "FinishReceiver",
    "FinishSender",
    "FountainReceiver",
    "FountainSender",
    "GoBackNReceiver",
    "GoBackNSender",
    "SelectiveRepeatReceiver",
    "SelectiveRepeatSender",
    "Setup",
    "StopAndWaitReceiver",
    "StopAndWaitSender",
]
