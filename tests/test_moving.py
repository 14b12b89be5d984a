"""A transfer between two processes, as the benchmark measures it."""

from __future__ import annotations

from moving import move


def test_a_receiver_needs_little_more_memory_than_what_it_receives() -> None:
    size = 40_000_000
    moved = move("ours", size)
    assert not moved.memory > 1.3 * size + 32e6  # not-a-number: nobody can tell
    assert moved.seconds > 0
    assert moved.cpu > 0
