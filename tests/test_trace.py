"""The trace: what is in it, and that nothing gets lost on a disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from first_attempt import Sender

from p2plab.core.link import Link, ScriptedLink
from p2plab.core.packet import ACK, DATA, Kind
from p2plab.core.rtt import FixedRto, Rfc6298
from p2plab.core.trace import RECEIVER, SENDER, Row, Trace, probe
from p2plab.protocols import PROTOCOLS, Setup
from p2plab.protocols.stop_and_wait import StopAndWaitReceiver, StopAndWaitSender
from p2plab.sim.simulator import simulate


def short() -> Trace:
    """Two payloads over stop-and-wait; packet 2 is lost, and ACK 3 is damaged."""
    return simulate(
        StopAndWaitSender(FixedRto(1.0)),
        StopAndWaitReceiver(),
        [b"a", b"bb"],
        ScriptedLink(lose={2}, delay=0.25),
    ).trace


def busy(protocol: str = "selective_repeat") -> Trace:
    setup = Setup(protocol, window=4)
    link = Link(loss=0.1, corrupt=0.1, duplicate=0.1, rate=1e5, queue=3, seed=5)
    payloads = [b"%d" % number for number in range(40)]
    return simulate(setup.sender(), setup.receiver(), payloads, link).trace


# What is in it


def test_a_trace_tells_the_story_of_a_run_row_by_row() -> None:
    assert list(short()) == [
        Row(0.00, SENDER, "send", DATA, 0, 1, 0),
        Row(0.25, RECEIVER, "arrive", DATA, 0, 1, 0),
        Row(0.25, RECEIVER, "deliver", 0, 0, 1, -1),
        Row(0.25, RECEIVER, "send", ACK, 0, 0, 0),
        Row(0.50, SENDER, "arrive", ACK, 0, 0, 0),
        Row(0.50, SENDER, "send", DATA, 1, 2, 1),
        Row(0.50, SENDER, "loss", DATA, 1, 2, 1),
        Row(1.50, SENDER, "timeout", 0, -1, 0, -1),
        Row(1.50, SENDER, "retransmit", DATA, 1, 2, 2),
        Row(1.75, RECEIVER, "arrive", DATA, 1, 2, 2),
        Row(1.75, RECEIVER, "deliver", 0, 1, 2, -1),
        Row(1.75, RECEIVER, "send", ACK, 1, 0, 1),
        Row(2.00, SENDER, "arrive", ACK, 1, 0, 1),
    ]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_packet_that_was_sent_has_its_fate(protocol: str) -> None:
    rows = busy(protocol).rows
    assert rows == sorted(rows, key=lambda row: row.time)
    for host, other in ((SENDER, RECEIVER), (RECEIVER, SENDER)):
        ours = [r for r in rows if r.host == host]
        sent = [r.number for r in ours if r.what in ("send", "retransmit")]
        met = [r.number for r in ours if r.what in ("loss", "overflow")]
        arrived = ("arrive", "corrupt")
        met += [r.number for r in rows if r.host == other and r.what in arrived]
        assert sent == sorted(met) == list(range(len(sent)))


def test_the_machines_own_numbers_are_noted_when_they_change() -> None:
    trace = short()
    base = trace.state(SENDER, "send_base")
    assert base[:, 0].tolist() == [0.0, 0.5, 1.5, 1.5, 2.0]  # a timeout counts twice
    assert base[:, 1].tolist() == [0.0, 1.0, 1.0, 1.0, 2.0]
    assert trace.state(RECEIVER, "expected_seq_num")[:, 1].tolist() == [0.0, 1.0, 2.0]


def test_go_back_n_is_seen_to_step_back_before_it_sends_again() -> None:
    setup, link = Setup("go_back_n", 3, timeout=1.0), ScriptedLink({1}, delay=0.25)
    trace = simulate(setup.sender(), setup.receiver(), [b"x"] * 3, link).trace
    steps = trace.state(SENDER, "next_seq_num")
    assert steps[:3].tolist() == [[0.0, 3.0], [1.0, 0.0], [1.0, 3.0]]


def test_a_number_that_is_not_there_yet_is_not_a_number() -> None:
    srtt = busy().state(SENDER, "rtt.srtt")  # of a machine's part
    assert np.isnan(srtt[0, 1])
    assert srtt[-1, 1] > 0
    deadline = short().state(SENDER, "deadline")
    assert deadline[[0, 1, 3]].tolist() == [[0.0, 1.0], [0.5, 1.5], [1.5, 2.5]]
    assert np.isnan(deadline[[2, 4], 1]).all()  # it has fired; all is acknowledged


def test_parameters_that_never_change_are_no_state() -> None:
    assert set(probe(Rfc6298())[0]) == {"rto", "srtt", "rttvar"}


def test_a_name_that_does_not_exist_is_answered_with_those_that_do() -> None:
    with pytest.raises(KeyError, match=r"sender has no cwnd, only .*'send_base'"):
        short().state(SENDER, "cwnd")
    with pytest.raises(KeyError, match="nobody has no send_base"):
        short().state("nobody", "send_base")


def test_a_table_has_a_column_for_each_field() -> None:
    table: Any = short().table()
    assert table.dtype.names == Row._fields
    assert table[table.what == "loss"].tolist() == [
        (0.5, SENDER, "loss", DATA, 1, 2, 1)
    ]
    assert table[table.kind == DATA]["size"].tolist() == [1, 1, 2, 2, 2, 2]
    empty = Trace(names={SENDER: ("send_base",)})
    assert len(empty.table()) == 0
    assert empty.state(SENDER, "send_base").shape == (0, 2)


# Digests, and the disk


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_saved_trace_comes_back_as_it_was(protocol: str, tmp_path: Path) -> None:
    trace, path = busy(protocol), tmp_path / "run.json"
    trace.about["title"] = "Grüße ✓"
    trace.save(path)
    loaded = Trace.load(path)
    assert loaded == trace
    assert loaded.digest() == trace.digest() == busy(protocol).digest()  # no titles
    assert type(loaded.rows[0]) is Row
    assert type(loaded.rows[0][3]) is Kind
    content = json.loads(path.read_text(encoding="utf-8"))  # for other programs
    assert content["fields"] == [*Row._fields]
    assert content["rows"][0] == [*trace.rows[0]]


@pytest.mark.parametrize(
    "change",
    [
        {"format": "p2plab trace 99"},
        {"names": []},
        {"rows": [[1]]},
        {"rows": [[0, "sender", "send", 77, 0, 0, 0]]},
        {"states": [3]},
        *(b"", b"{}", b"[]", b"null", bytes(range(256))),
    ],
    ids=repr,
)
def test_what_is_no_trace_is_refused_by_its_name(change: Any, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    short().save(path)
    content = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(change, dict):
        change = json.dumps({**content, **change}).encode()
    path.write_bytes(change)
    with pytest.raises(ValueError, match=r"other\.json is not a trace"):
        Trace.load(path)
    with pytest.raises(FileNotFoundError):
        Trace.load(tmp_path / "nothing.json")


def test_a_machine_may_keep_anything_and_its_trace_can_still_be_saved(
    tmp_path: Path,
) -> None:
    class Keeping(Sender):
        sndpkt: Any = None

        def next_packet(self, now: float) -> Any:
            self.sndpkt = super().next_packet(now)  # where a number might come
            return self.sndpkt

    sender = Keeping()
    sender.sndpkt = None
    trace = simulate(sender, StopAndWaitReceiver(), [b"a", b"b"]).trace
    assert np.isnan(trace.state(SENDER, "sndpkt")[:, 1]).all()
    trace.save(tmp_path / "run.json")
    assert Trace.load(tmp_path / "run.json").digest() == trace.digest()


# Two hosts


def split(trace: Trace, host: str) -> Trace:
    """Return what one host saw."""
    return Trace(
        {"host": host},
        {host: trace.names[host]},
        [row for row in trace.rows if row[1] == host],
        [state for state in trace.states if state[1] == host],
    )


def test_what_two_hosts_saw_can_be_put_together() -> None:
    trace = busy()
    ours, theirs = split(trace, SENDER), split(trace, RECEIVER)
    merged = ours.merged(theirs)
    assert sorted(merged.rows) == sorted(trace.rows)
    assert [row.time for row in merged] == [row.time for row in trace]
    assert (merged.names, merged.about) == (trace.names, {"host": SENDER})
    assert np.array_equal(
        merged.state(RECEIVER, "expected_seq_num"),
        trace.state(RECEIVER, "expected_seq_num"),
    )
    later = ours.merged(theirs, later=1.0)  # their clock was started later
    moved = {row.number: row.time for row in later if row[1:3] == (RECEIVER, "send")}
    for row in theirs:
        if row.what == "send":
            assert moved[row.number] == row.time + 1.0
    assert later.state(RECEIVER, "deadline")[0, 0] == theirs.states[0].time + 1.0
