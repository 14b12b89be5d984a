"""Lesson 05, section 1: a pair that works as long as nothing is lost."""

from p2plab import ACK, DATA, Packet


class MySender:
    deadline = None  # no timer

    def __init__(self):
        self.payloads = []
        self.base = 0  # the first payload that is not acknowledged
        self.sent = 0  # how many payloads were sent

    def send(self, payload):
        self.payloads.append(payload)

    @property
    def done(self):
        return self.base == len(self.payloads)

    def next_packet(self, now):
        if self.done or self.sent > self.base:
            return None  # nothing to send, or waiting for an ACK
        self.sent += 1
        return Packet(DATA, self.base % 2, self.payloads[self.base])

    def on_packet(self, packet, now):
        self.base += 1

    def on_timeout(self, now):
        return


class MyReceiver:
    deadline = None  # no timer

    def __init__(self):
        self.inbox = []  # payloads for the application
        self.acks = []  # packets to send

    def on_packet(self, packet, now):
        self.inbox.append(packet.payload)
        self.acks.append(Packet(ACK, packet.seq))

    def next_packet(self, now):
        return self.acks.pop(0) if self.acks else None

    def next_payload(self):
        return self.inbox.pop(0) if self.inbox else None

    def on_timeout(self, now):
        return
