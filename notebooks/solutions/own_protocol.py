"""Lesson 05: a pair that survives all four networks. Leave this folder out of a class.

The museum, section 4: p2plab.break_it("any_ack_believed", double={1}, lose={2})
"""

from p2plab import ACK, DATA, Packet


class MySender:
    def __init__(self):
        self.payloads = []
        self.base = 0  # the first payload that is not acknowledged
        self.deadline = None  # no timer is running

    def send(self, payload):
        self.payloads.append(payload)

    @property
    def done(self):
        return self.base == len(self.payloads)

    def next_packet(self, now):
        if self.done or self.deadline is not None:
            return None  # nothing to send, or waiting for an ACK
        self.deadline = now + 0.3
        return Packet(DATA, self.base, self.payloads[self.base])

    def on_packet(self, packet, now):
        if self.deadline is not None and packet.seq == self.base:
            self.base += 1
            self.deadline = None

    def on_timeout(self, now):
        self.deadline = None  # so that next_packet sends it again


class MyReceiver:
    deadline = None  # it has no timer

    def __init__(self):
        self.expected, self.inbox, self.acks = 0, [], []

    def on_packet(self, packet, now):
        if packet.seq == self.expected:
            self.inbox.append(packet.payload)
            self.expected += 1
        self.acks.append(Packet(ACK, packet.seq))  # for a copy, too

    def next_payload(self):
        return self.inbox.pop(0) if self.inbox else None

    def next_packet(self, now):
        return self.acks.pop(0) if self.acks else None

    def on_timeout(self, now):
        return
