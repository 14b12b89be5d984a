"""Lesson 05, section 3: numbers that never come round survive late packets, too."""

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
            self.base += 1  # it is no ACK of an older packet
            self.deadline = None

    def on_timeout(self, now):
        self.deadline = None  # so that next_packet sends it again


class MyReceiver:
    deadline = None  # no timer

    def __init__(self):
        self.expected = 0
        self.inbox = []  # payloads for the application
        self.acks = []  # packets to send

    def on_packet(self, packet, now):
        if packet.seq == self.expected:
            self.inbox.append(packet.payload)
            self.expected += 1
        self.acks.append(Packet(ACK, packet.seq))  # for a copy, too

    def next_packet(self, now):
        return self.acks.pop(0) if self.acks else None

    def next_payload(self):
        return self.inbox.pop(0) if self.inbox else None

    def on_timeout(self, now):
        return
