"""Timers with a mistake: not started, not stopped, wrong, or never the same twice."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Final

from p2plab.core.packet import ACK, DATA, Packet
from p2plab.core.rtt import FixedRto, Rfc6298
from p2plab.core.window import FixedWindow
from p2plab.museum.exhibit import Exhibit
from p2plab.protocols.go_back_n import GoBackNReceiver, GoBackNSender
from p2plab.protocols.stop_and_wait import StopAndWaitReceiver, StopAndWaitSender


@dataclass(slots=True)
class TimesTheFirstCopyOnly(StopAndWaitSender):
    """Starts its timer for a packet that is new."""

    def next_packet(self, now: float) -> Packet | None:
        if self.next_seq_num == len(self.payloads):
            return None  # nothing to send
        if self.next_seq_num > self.send_base:
            return None  # one packet is in flight: wait for its ACK
        seq = self.next_seq_num
        self.next_seq_num += 1
        self.rtt.on_send(seq, now)
        if self.next_seq_num > self.sent:
            self.sent = self.next_seq_num
            self.deadline = now + self.rtt.rto
        return Packet(DATA, seq, self.payloads[seq], ts_val=now)


@dataclass(slots=True)
class NoTimerForTheLast(StopAndWaitSender):
    """Starts a timer only when there is more to send."""

    def next_packet(self, now: float) -> Packet | None:
        if self.next_seq_num == len(self.payloads):
            return None  # nothing to send
        if self.next_seq_num > self.send_base:
            return None  # one packet is in flight: wait for its ACK
        seq = self.next_seq_num
        self.next_seq_num += 1
        self.sent = max(self.sent, self.next_seq_num)
        self.rtt.on_send(seq, now)
        if self.next_seq_num < len(self.payloads):
            self.deadline = now + self.rtt.rto
        return Packet(DATA, seq, self.payloads[seq], ts_val=now)


@dataclass(slots=True)
class TimerLeftRunning(StopAndWaitSender):
    """Does not stop its timer; the next packet restarts it anyway."""

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.kind != ACK or not self.send_base <= packet.seq < self.sent:
            return  # an old ACK, arriving again, or one for a packet never sent
        self.rtt.on_ack(packet.seq, now, packet.ts_ecr)
        self.send_base += 1
        self.next_seq_num = self.send_base  # even if a timeout has just stepped back


@dataclass(slots=True)
class RandomTimer(StopAndWaitSender):
    """Draws its timeout by lot."""

    def next_packet(self, now: float) -> Packet | None:
        packet = StopAndWaitSender.next_packet(self, now)
        if packet is not None:
            self.deadline = now + self.rtt.rto * random.uniform(1.0, 1.5)
        return packet


@dataclass(slots=True)
class TimesTheRepetition(Rfc6298):
    """Measures from the last copy, and has no deviation that could be a warning."""

    def on_send(self, seq: int, now: float) -> None:
        self.sent_at[seq] = now

    def on_timeout(self) -> None:
        return

    def _sample(self, rtt: float) -> None:
        self.rto = 1.1 * rtt


@dataclass(slots=True)
class StopsAtAnyAck(GoBackNSender):
    """Stops its timer at every ACK, whatever is still in flight."""

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.kind != ACK or not self.send_base <= packet.seq < self.sent:
            return  # an old ACK, arriving again, or one for a packet never sent
        for seq in range(self.send_base, packet.seq + 1):  # ACKs are cumulative
            self.rtt.on_ack(seq, now, packet.ts_ecr)
            self.window.on_ack(seq, now)
        self.send_base = packet.seq + 1
        self.next_seq_num = max(self.next_seq_num, self.send_base)
        self.deadline = None


@dataclass(slots=True)
class DeadlineLeftInThePast(GoBackNSender):
    """Goes back without restarting its timer."""

    def on_timeout(self, now: float) -> None:
        self.rtt.on_timeout()
        self.window.on_timeout(self.next_seq_num - self.send_base, now)
        self.next_seq_num = self.send_base  # go back N


@dataclass(slots=True)
class BacksOffForEveryPacket(GoBackNSender):
    """Counts a timeout for every packet in flight."""

    def on_timeout(self, now: float) -> None:
        for _ in range(self.send_base, self.next_seq_num):
            self.rtt.on_timeout()
        self.window.on_timeout(self.next_seq_num - self.send_base, now)
        self.next_seq_num = self.send_base  # go back N
        self.deadline = None


ROOM: Final = (
    Exhibit(
        "timer_not_restarted",
        "The repetition has no timer",
        "The timer runs for the first copy only: when the second one is lost, too, "
        "nobody ever notices.",
        "fifo",
        lambda: (TimesTheFirstCopyOnly(FixedRto()), StopAndWaitReceiver()),
    ),
    Exhibit(
        "no_timer_for_the_last",
        "The last packet is forgotten",
        "The timer is started only if there is more to send, so the last packet may be "
        "lost and is never missed.",
        "fifo",
        lambda: (NoTimerForTheLast(FixedRto()), StopAndWaitReceiver()),
    ),
    Exhibit(
        "timer_left_running",
        "Done, and still ticking",
        "The ACK does not stop the timer; the next packet hides that by restarting it, "
        "but after the last one it runs on although nothing is in flight.",
        "fifo",
        lambda: (TimerLeftRunning(FixedRto()), StopAndWaitReceiver()),
    ),
    Exhibit(
        "random_timer",
        "A timeout drawn by lot",
        "The machine asks chance for its timeout: the same inputs give another run "
        "every time, and no failure can be shown twice.",
        "fifo",
        lambda: (RandomTimer(FixedRto()), StopAndWaitReceiver()),
    ),
    Exhibit(
        "repetition_timed",
        "The round trip of a repetition",
        "An ACK that was only late comes just after the repetition and is measured "
        "from it: the timeout falls below the round trip, so every later packet is "
        "repeated, too, and it falls further (Karn's rule is there to prevent it).",
        "late",
        lambda: (StopAndWaitSender(TimesTheRepetition()), StopAndWaitReceiver()),
    ),
    Exhibit(
        "timer_stopped_at_any_ack",
        "One ACK stops the timer for all",
        "Every ACK stops the one timer, although packets are still in flight: when "
        "nothing follows that would start it again, their loss is never noticed.",
        "fifo",
        lambda: (StopsAtAnyAck(FixedRto(), FixedWindow(4)), GoBackNReceiver()),
    ),
    Exhibit(
        "deadline_in_the_past",
        "A timer that fires without end",
        "After a timeout the deadline stays where it was, in the past: the timer fires "
        "again at once, and again, and each time the window is sent.",
        "fifo",
        lambda: (DeadlineLeftInThePast(FixedRto(), FixedWindow(4)), GoBackNReceiver()),
    ),
    Exhibit(
        "backs_off_for_every_packet",
        "Backing off by the window",
        "The timeout doubles once for every packet in flight and has no ceiling: after "
        "three timeouts the next attempt is hours away.",
        "fifo",
        lambda: (
            BacksOffForEveryPacket(Rfc6298(max_rto=math.inf), FixedWindow(8)),
            GoBackNReceiver(),
        ),
    ),
)
