"""Lesson 05, section 4: two faults, one to make a second ACK, one to misuse it."""

import p2plab

p2plab.break_it("any_ack_believed", double={1}, lose={2})
