"""The mistakes: for each a correct protocol, and the lines of its page that change."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from p2plab import protocols
from p2plab.core import rtt
from p2plab.core.endpoint import FixedWindow
from p2plab.core.rtt import FixedRto, Rfc6298
from p2plab.museum.exhibit import (
    Design,
    Exhibit,
    Machines,
    Page,
    duplex,
    fast_retransmit,
    finish,
    go_back_n,
    label,
    negative_ack,
    parity,
    selective_repeat,
    stop_and_wait,
)

Edit = Callable[[Page], None]
EXHIBITS: Final[dict[str, Exhibit]] = {}
PATIENT: Final = partial(FixedRto, 10.0)  # so that only the network makes copies


def mistake(
    design: Design, channel: str, title: str, **how: Any
) -> Callable[[Edit], Edit]:
    """Make an exhibit of what a function changes on the page of a correct protocol.

    Its name is the exhibit's, and its docstring explains the mistake.
    how: arguments of the design's `build`, beside the page.
    """

    def enter(edit: Edit) -> Edit:
        name, build = edit.__name__, partial(design.build, **how)
        EXHIBITS[name] = Exhibit(
            name, title, label(edit), channel, design.page, build, edit
        )
        return edit

    return enter


# Stop-and-wait: numbers, ACKs and the application


@mistake(stop_and_wait, "fifo", "No ACK for a copy")
def ack_not_repeated(page: Page) -> None:
    """When an ACK is lost, the packet comes again; the receiver has it already and
    stays silent, so the sender repeats it for ever.
    """
    page.change("# A duplicate too: the ACK of its first copy may have been lost.")
    page.change("self.acks.append(", "    self.acks.append(")


@mistake(stop_and_wait, "fifo", "Every copy is handed over")
def copies_delivered(page: Page) -> None:
    """When an ACK is lost, the packet comes again, and the receiver hands it over a
    second time because it never looks at the number.
    """
    page.change(
        "if packet.seq == self.expected_seq_num:\n"
        "self.inbox.append(packet.payload)\n"
        "self.expected_seq_num += 1",
        "self.inbox.append(packet.payload)",
    )


@mistake(stop_and_wait, "fifo", "No numbers at all", bits=0)
def no_numbers(page: Page) -> None:
    """With no bit for a number, a repeated packet and the next one look the same: a
    lost ACK is enough for a payload to be delivered twice.
    """


@mistake(
    stop_and_wait, "dup", "An old ACK is as good as a new one", rtt=PATIENT, bits=1
)
def any_ack_believed(page: Page) -> None:
    """The second copy of an ACK is taken for the ACK of the next packet, which then
    is never sent again although it was lost.
    """
    page.change("not self.send_base <= packet.seq < self", "self.send_base == self")
    page.change("an old ACK, arriving again, or one for", "one for")


@mistake(stop_and_wait, "dup", "The sorcerer's apprentice", rtt=PATIENT)
def sorcerers_apprentice(page: Page) -> None:
    """An old ACK makes it send the packet in flight again, that copy brings another
    old ACK, and so every packet from then on is sent twice (a mistake in the first
    TFTP, RFC 1123, section 4.2.3.1).
    """
    page.change(
        "not self.send_base <= packet.seq < self.sent", "packet.seq >= self.sent"
    )
    page.change("an old ACK, arriving again, or one for", "one for")
    page.change(
        "self.send_base += 1", "self.send_base = max(self.send_base, packet.seq + 1)"
    )


@mistake(stop_and_wait, "late", "Only the last number is remembered")
def only_the_last_remembered(page: Page) -> None:
    """A copy that was overtaken by the next packet does not have the last number, and
    so it is handed over once more.
    """
    page.change(
        "packet.seq == self.expected_seq_num", "packet.seq != self.expected_seq_num - 1"
    )
    page.change("self.expected_seq_num += 1", "self.expected_seq_num = packet.seq + 1")


@mistake(stop_and_wait, "fifo", "Equal means copy")
def copies_known_by_content(page: Page) -> None:
    """It tells copies by their content, so two equal payloads in a row become one."""
    page.change(
        'expected; acknowledge whatever arrives."""',
        'expected; acknowledge whatever arrives."""',
        "",
        "last: bytes | None = None",
    )
    page.change("packet.seq == self.expected_seq_num", "packet.payload != self.last")
    page.change("self.expected_seq_num += 1", "self.last = packet.payload")


@mistake(stop_and_wait, "fifo", "Empty means nothing")
def empty_payload_dropped(page: Page) -> None:
    """`if payload` is false for an empty payload, too: it is acknowledged, and never
    handed over.
    """
    page.change("self.inbox", "if packet.payload:", "    self.inbox")


@mistake(stop_and_wait, "fifo", "Once done, always done")
def home_when_done(page: Page) -> None:
    """After the last ACK it stops for good; what the application sends later stays in
    its list for ever.
    """
    page.change("sent: int", "over: bool = False", "sent: int")
    page.change("if self.next_seq_num ==", "if self.over or self.next_seq_num ==")
    page.change("self.send_base += 1", "self.send_base += 1", "self.over = self.done")


@mistake(stop_and_wait, "fifo", "Nothing to send, and never done")
def never_done_with_nothing(page: Page) -> None:
    """It is done when the last packet is acknowledged: with no payload there is no
    last packet, and it waits for ever.
    """
    page.change(
        "def next_packet",
        "@property",
        "def done(self) -> bool:",
        "    return 0 < self.send_base == len(self.payloads)",
        "",
        "def next_packet",
    )


@mistake(stop_and_wait, "fifo", "One list for all transfers")
def shared_list(page: Page) -> None:
    """The list belongs to the class and not to the machine: the second transfer begins
    with the payloads of the first.
    """
    page.change("import dataclass", "import dataclass", "from typing import ClassVar")
    page.change("rtt: Rtt", "payloads: ClassVar[list[bytes]] = []", "rtt: Rtt")


# Timers: not started, not stopped, wrong, or never the same twice


@mistake(stop_and_wait, "fifo", "The repetition has no timer")
def timer_not_restarted(page: Page) -> None:
    """The timer runs for the first copy only: when the second one is lost, too, nobody
    ever notices.
    """
    page.change("self.sent = max(self.sent, self.next_seq_num)")
    page.change(
        "self.deadline = now",
        "if self.sent < self.next_seq_num:",
        "    self.sent = self.next_seq_num",
        "    self.deadline = now",
    )


@mistake(stop_and_wait, "fifo", "The last packet is forgotten")
def no_timer_for_the_last(page: Page) -> None:
    """The timer is started only if there is more to send, so the last packet may be
    lost and is never missed.
    """
    page.change(
        "self.deadline = now",
        "if self.next_seq_num < len(self.payloads):",
        "    self.deadline = now",
    )


@mistake(stop_and_wait, "fifo", "Done, and still ticking")
def timer_left_running(page: Page) -> None:
    """The ACK does not stop the timer; the next packet hides that by restarting it, but
    after the last one it runs on although nothing is in flight.
    """
    page.change(
        "# even if a timeout has just stepped back\nself.deadline = None",
        "# even if a timeout has just stepped back",
    )


@mistake(stop_and_wait, "fifo", "A timeout drawn by lot")
def random_timer(page: Page) -> None:
    """The machine asks chance for its timeout: the same inputs give another run every
    time, and no failure can be shown twice.
    """
    page.change("from dataclasses", "import random", "from dataclasses")
    page.change("now + self.rtt.rto", "now + self.rtt.rto * random.uniform(1.0, 1.5)")


def _stop_and_wait_with(page: Any) -> Machines:
    return stop_and_wait.build(protocols, page.Rfc6298)


@mistake(Design(rtt, _stop_and_wait_with), "late", "The round trip of a repetition")
def repetition_timed(page: Page) -> None:
    """An ACK that was only late comes just after the repetition and is measured from
    it: the timeout falls below the round trip, so every later packet is repeated, too,
    and it falls further (Karn's rule is there to prevent it).
    """
    page.change("None if seq in self.sent_at else now", "now")
    page.change(
        "self.rto = min(2 * self.rto, self.max_rto)  # RFC 6298 (5.5)", "return"
    )
    page.change(
        "rto = self.srtt + max(self.granularity, 4 * self.rttvar)\n"
        "self.rto = min(max(rto, self.min_rto), self.max_rto)",
        "self.rto = 1.1 * rtt",
    )


@mistake(go_back_n, "fifo", "One ACK stops the timer for all")
def timer_stopped_at_any_ack(page: Page) -> None:
    """Every ACK stops the one timer, although packets are still in flight: when nothing
    follows that would start it again, their loss is never noticed.
    """
    page.change(
        "in_flight = self.next_seq_num - self.send_base\n"
        "self.deadline = now + self.rtt.rto if in_flight else None",
        "self.deadline = None",
    )


@mistake(go_back_n, "fifo", "A timer that fires without end")
def deadline_in_the_past(page: Page) -> None:
    """After a timeout the deadline stays where it was, in the past: the timer fires
    again at once, and again, and each time the window is sent.
    """
    page.change("# go back N\nself.deadline = None", "# go back N")


@mistake(
    go_back_n,
    "fifo",
    "Backing off by the window",
    rtt=partial(Rfc6298, max_rto=math.inf),
    window=8,
)
def backs_off_for_every_packet(page: Page) -> None:
    """The timeout doubles once for every packet in flight and has no ceiling: after
    three timeouts the next attempt is hours away.
    """
    page.change(
        "self.rtt.on_timeout()",
        "for _ in range(self.send_base, self.next_seq_num):",
        "    self.rtt.on_timeout()",
    )


# Go-back-N: windows, numbers, and what an ACK says

LAST: Final = "self.expected_seq_num - 1  # that has arrived in order"


@mistake(go_back_n, "fifo", "A window one too large: go-back-N", window=4, bits=2)
def window_as_large_as_the_numbers(page: Page) -> None:
    """With two bits and a window of four, the ACK for all four and the ACK for none are
    the same number: one lost packet, and the sender believes in all four.
    """


@mistake(go_back_n, "fifo", "An ACK for a packet that was dropped")
def dropped_packet_acknowledged(page: Page) -> None:
    """It acknowledges the packet that came, even when it drops it because of a gap; the
    ACK is cumulative, and the sender forgets the packet that was lost.
    """
    page.change(LAST, "packet.seq  # that has arrived")


@mistake(go_back_n, "fifo", "The ACK names the next packet")
def next_number_acknowledged(page: Page) -> None:
    """One side writes the number that it expects next, the other one reads the last
    that has arrived: each ACK speaks for one packet too many.
    """
    page.change(LAST, "self.expected_seq_num  # the one that we wait for")


@mistake(go_back_n, "fifo", "Zero means nothing")
def zero_for_nothing(page: Page) -> None:
    """Before anything has arrived in order, its ACKs say 0: the sender believes that
    packet 0 has arrived, and never sends it again.
    """
    page.change(LAST, "max(self.expected_seq_num - 1, 0)")


@mistake(go_back_n, "fifo", "Every other ACK")
def every_other_acknowledged(page: Page) -> None:
    """It acknowledges every second packet only and has no timer for the one that stays
    alone: an odd last packet is repeated for ever.
    """
    page.change(
        "last = ",
        "if self.expected_seq_num % 2:",
        "    return  # the next ACK will speak for this packet, too",
        "last = ",
    )


@mistake(go_back_n, "fifo", "Go back one")
def goes_back_one(page: Page) -> None:
    """After a timeout it repeats the newest packet in flight; the receiver waits for
    the oldest, and drops it each time.
    """
    page.change("= self.send_base  # go back N", "-= 1  # go back one")


@mistake(
    Design(
        protocols.go_back_n,
        lambda page: (
            page.GoBackNSender(FixedRto(), FixedWindow(4)),
            protocols.SelectiveRepeatReceiver(4),
        ),
    ),
    "fifo",
    "Two right halves, I",
)
def selective_ack_taken_as_cumulative(page: Page) -> None:
    """The receiver of selective repeat says which packet has come, the sender of
    go-back-N hears that all before it have come, too.
    """


@mistake(fast_retransmit, "fifo", "A storm of repetitions")
def every_duplicate_answered(page: Page) -> None:
    """Each duplicate ACK makes it send the window again, each copy brings another
    duplicate ACK, and the traffic grows with every round trip.
    """
    page.change("in_flight and third and self.send_base > self.recover", "in_flight")


# Selective repeat: the buffer, the window and its edges


@mistake(
    selective_repeat,
    "fifo",
    "A window one too large: selective repeat",
    window=3,
    bits=2,
)
def window_over_half_the_numbers(page: Page) -> None:
    """With two bits and a window of three, the next window shares numbers with the last
    one: a repeated old packet is put into the place of a new one.
    """


@mistake(selective_repeat, "fifo", "No ACK for the past")
def past_not_acknowledged(page: Page) -> None:
    """A packet from before its window is dropped without a word: when its ACK was lost,
    the sender repeats it for ever.
    """
    page.change("# A packet of before the window, too: its ACK may have been lost.")
    page.change("self.acks.append(", "    self.acks.append(")


@mistake(selective_repeat, "fifo", "Early packets handed over early")
def delivered_as_it_comes(page: Page) -> None:
    """It tells copies from new packets, but hands over what comes before a gap is
    filled: the order is lost.
    """
    page.change(
        "self.early[packet.seq] =",
        "if packet.seq not in self.early:",
        "    self.inbox.append(packet.payload)",
        "self.early[packet.seq] =",
    )
    page.change(
        "self.inbox.append(self.early.pop(self.expected_seq_num))",
        "self.early.pop(self.expected_seq_num)",
    )


@mistake(selective_repeat, "fifo", "A buffer that only grows")
def buffer_never_freed(page: Page) -> None:
    """What was handed over stays in the buffer; everything arrives, and in the end the
    receiver holds a second copy of it all.
    """
    page.change(
        "self.early.pop(self.expected_seq_num)", "self.early[self.expected_seq_num]"
    )


STOPS_ITS_TIMER: Final = """\
if seq in self.lost:
    self.lost.remove(seq)  # it was only late
elif self.sent_at.pop(seq, None) is None:
    return  # it is acknowledged already"""


@mistake(selective_repeat, "fifo", "Everything again, for ever")
def arrived_packets_repeated(page: Page) -> None:
    """An ACK does not stop its packet's timer, so all that has arrived is sent again
    and again, even when it is done.
    """
    page.change(STOPS_ITS_TIMER)


@mistake(selective_repeat, "fifo", "The window stays behind")
def window_stuck_after_a_gap(page: Page) -> None:
    """When a gap is filled, the window moves by one packet, and not past those that
    were acknowledged before: it is stuck, and nothing is in flight.
    """
    page.change("while self.send_base", "if self.send_base")


@mistake(selective_repeat, "dup", "A second ACK is an exception", rtt=PATIENT)
def second_ack_raises(page: Page) -> None:
    """It looks up the packet that an ACK names without asking whether it is still in
    flight: an ACK that comes twice raises KeyError.
    """
    page.change(STOPS_ITS_TIMER, "del self.sent_at[seq]")


@mistake(selective_repeat, "fifo", "In the order of a set")
def order_of_a_set(page: Page) -> None:
    """It repeats packets in the order of a set, which is another one in every process:
    what failed there cannot be shown here.
    """
    page.change(
        "del self.sent_at[oldest]\nself.lost.append(oldest)  # repeat this one only",
        "rto = self.rtt.rto",
        "due = {str(seq) for seq, at in self.sent_at.items() if at + rto <= now}",
        "for seq in map(int, due):",
        "    del self.sent_at[seq]",
        "    self.lost.append(seq)",
    )


@mistake(
    Design(
        protocols.selective_repeat,
        lambda page: (
            page.SelectiveRepeatSender(FixedRto(), FixedWindow(4)),
            protocols.GoBackNReceiver(),
        ),
    ),
    "fifo",
    "Two right halves, II",
)
def cumulative_ack_taken_as_selective(page: Page) -> None:
    """The receiver of go-back-N says how far it is, the sender of selective repeat
    hears of that one packet only: for one whose ACK was lost it waits for ever.
    """


# Other designs: no ACK, negative ACKs, parity, duplex and finish


@mistake(
    Design(
        protocols.best_effort,
        lambda page: (page.BestEffortSender(), page.BestEffortReceiver()),
    ),
    "fifo",
    "Send and hope",
)
def sent_once_and_hoped(page: Page) -> None:
    """Nothing is acknowledged and nothing sent again: it is done when all is sent,
    whatever arrives.
    """


@mistake(negative_ack, "fifo", "No news is good news")
def nak_and_no_timer(page: Page) -> None:
    """It repeats what it is asked for and has no timer: a packet that is lost, and not
    damaged, brings no NAK, and both sides wait for ever.
    """
    page.change(
        "def on_corrupt(self, now: float) -> None:\n    self._repeat()",
        "def next_packet(self, now: float) -> Packet | None:",
        "    packet = StopAndWaitSender.next_packet(self, now)",
        "    self.deadline = None",
        "    return packet",
        "",
        "def on_corrupt(self, now: float) -> None:",
        "    self._repeat()",
    )


@mistake(negative_ack, "corrupt", "Whatever comes back is an ACK")
def damage_taken_for_an_ack(page: Page) -> None:
    """It takes a damaged answer for an ACK; if it was a NAK, the payload that it asked
    for is never sent again.
    """
    page.change(
        "self._repeat()  # the answer cannot be read: a number makes asking again safe",
        "if self.next_seq_num > self.send_base:",
        "    self.send_base += 1",
        "    self.deadline = None",
    )


@mistake(negative_ack, "corrupt", "An ACK for a damaged packet")
def damage_acknowledged(page: Page) -> None:
    """It acknowledges the packet that it expects when something damaged comes: the
    sender believes that it has arrived, and goes on to the next one.
    """
    page.change("Packet(NAK, self", "Packet(ACK, self")


@mistake(parity, "fifo", "The parity of the group before")
def parity_of_the_wrong_group(page: Page) -> None:
    """It counts groups from one where the sender counts from zero, and works out a
    missing packet from the parity of other packets: it delivers noise.
    """
    page.change("self.parities.get(group)", "self.parities.get(group - 1)")


@mistake(parity, "fifo", "One equation, two unknowns")
def parity_with_two_missing(page: Page) -> None:
    """It works out a packet although two of the group are missing: what comes out is
    the mixture of both.
    """
    page.change("len(missing) == 1", "missing")


@mistake(duplex, "fifo", "ACKs only ride along", answers=())
def acks_only_ride_along(page: Page) -> None:
    """Its ACKs travel with its own data; when it has nothing to say itself, the other
    side waits for an ACK for ever.
    """
    page.change("return self.receiver.next_packet(now)", "return None")


@mistake(finish, "fifo", "The receiver leaves on finish", tries=1_000_000)
def leaves_on_finish(page: Page) -> None:
    """It answers the FIN and is gone: when that one answer is lost, nobody is there to
    answer the next FIN, and the sender asks for ever.
    """
    page.change(
        "if packet.kind != FIN:",
        "if self.finished:",
        "    return  # gone",
        "if packet.kind != FIN:",
    )
    page.change("self.fin_deadline = now + self.linger")


@mistake(finish, "fifo", "The receiver never leaves")
def lingers_for_ever(page: Page) -> None:
    """It stays after the FIN in case another one comes, starts its timer anew each
    time, and so never ends.
    """
    page.change("None  # nobody asked again: we may go", "now + self.linger")
