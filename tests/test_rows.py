"""Rows and states of a trace: flat inside, a list of tuples outside."""

from __future__ import annotations

import copy
import pickle
import sys

import pytest

from p2plab.core.link import Link
from p2plab.core.packet import DATA
from p2plab.core.rows import Row, Rows, State, States
from p2plab.core.trace import RECEIVER, SENDER, Trace
from p2plab.protocols import Setup
from p2plab.sim.simulator import simulate

ROWS: list[Row] = [
    (0.0, SENDER, "send", DATA, 0, 3, 0),
    (0.5, RECEIVER, "arrive", DATA, 0, 3, 0),
    (0.5, RECEIVER, "deliver", 0, 0, 3, -1),
]
STATES: list[State] = [
    (0.0, SENDER, (0, 1, None)),
    (0.5, RECEIVER, (1,)),
    (0.75, "nobody", ()),
    (1.0, SENDER, (1, 1, 0.5)),
]


def test_rows_read_like_a_list_of_tuples() -> None:
    rows = Rows(ROWS)
    assert list(rows) == ROWS == rows
    assert len(rows) == 3
    assert (rows[0], rows[-1], rows[1:]) == (ROWS[0], ROWS[-1], ROWS[1:])
    assert list(reversed(rows)) == ROWS[::-1]
    assert repr(rows) == repr(ROWS)
    with pytest.raises(IndexError):
        rows[3]


def test_states_of_hosts_with_different_numbers_stay_apart() -> None:
    states = States(STATES)
    assert list(states) == STATES == states
    assert len(states) == 4
    assert (states[-1], states[:2]) == (STATES[-1], STATES[:2])


def test_a_copy_is_a_copy() -> None:
    rows, states = Rows(ROWS), States(STATES)
    for more in (copy.deepcopy(rows), pickle.loads(pickle.dumps(rows))):
        assert more == rows
        more.append(ROWS[0])
        assert len(more) == len(rows) + 1
    for others in (copy.deepcopy(states), pickle.loads(pickle.dumps(states))):
        assert others == states
        others.append(STATES[0])
        assert len(others) == len(states) + 1


def test_a_list_of_rows_makes_a_trace_to_which_more_can_be_added() -> None:
    trace = Trace(rows=ROWS[:2], states=STATES)
    trace.rows.append(ROWS[2])
    assert trace.rows == ROWS
    assert len(ROWS) == 3


def test_a_trace_keeps_no_object_for_each_of_its_rows() -> None:
    """A long run's memory: some 100 bytes for each event, all numbers included."""
    setup = Setup("selective_repeat", window=64)
    payloads = [bytes(1200)] * 1000
    trace = simulate(setup.sender(), setup.receiver(), payloads, Link(loss=0.05)).trace
    fields = trace.rows._fields
    assert len(fields) == 7 * len(trace)
    assert not [each for each in fields if isinstance(each, tuple)]
    assert sys.getsizeof(fields) / len(trace) < 70
