"""The checker looks as far as its words say, and at nothing but packets."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import first_attempt
import one_byte
import pytest
from one_byte import Receiver, Sender

from p2plab import ACK, DATA, Packet, check
from p2plab.checker import VerdictKind
from p2plab.checker import search as search_module
from p2plab.commands.grader import grade, report


def quiet(*_: object) -> None:
    """Show no progress."""


class SignedByte(Sender):
    def number(self, packet: Packet) -> int:
        return packet.seq - 256 if packet.seq > 127 else packet.seq


class NoSecondRound(Receiver):
    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.seq == self.expected:
            self.out.append(packet.payload)
            self.expected += 1
        self.acks.append(Packet(ACK, packet.seq))


class FreeRunning(Sender):
    """Its timer repeats, and is not started anew for a new packet."""

    def __init__(self) -> None:
        super().__init__()
        self.fresh = True

    def next_packet(self, now: float) -> Packet | None:
        if self.done or not self.fresh:
            return None
        self.fresh = False
        self.deadline = self.deadline or now + self.period
        return Packet(DATA, self.base % 256, self.items[self.base])

    def on_packet(self, packet: Packet, now: float) -> None:
        if packet.seq == self.base % 256 and not self.done:
            self.base, self.fresh = self.base + 1, True
            if self.done:
                self.deadline = None

    def on_timeout(self, now: float) -> None:
        self.fresh, self.deadline = True, now + self.period


@pytest.mark.parametrize(
    ("machines", "promise", "payloads"),
    [
        ((SignedByte, Receiver), "termination", "129 payloads"),
        ((Sender, NoSecondRound), "termination", "257 payloads"),
        ((FreeRunning, Receiver), "retransmission", "payloads"),
    ],
)
def test_numbers_that_wrap_and_copies_without_loss_are_found(
    machines: tuple[Any, Any], promise: str, payloads: str
) -> None:
    verdict = check(*machines, progress=quiet)
    assert (verdict.kind, verdict.promise) == ("broken", promise)
    assert (verdict.faults, payloads in verdict.sentence) == ((), True)


def test_who_survives_is_told_up_to_how_many_payloads() -> None:
    verdict = check(Sender, Receiver, progress=quiet)
    assert verdict.kind == VerdictKind.SURVIVED
    assert "schedules of up to 300 payloads" in verdict.sentence


def test_numbers_of_two_bytes_are_sent_round_if_there_is_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(search_module, "WRAPS", (30, 600))
    verdict = check(Sender, NoSecondRound, progress=quiet)
    assert "257 payloads" in verdict.sentence


def test_a_driver_that_pulled_late_is_quick_again_when_the_network_has_healed() -> None:
    class Patient(first_attempt.Sender):
        rto = 6.0  # longer than any pause of a late driver

    assert check(Patient, first_attempt.Receiver, progress=quiet).kind == "survived"


@pytest.mark.parametrize("budget", [2.0, 0.2])
def test_the_smallest_run_has_as_few_faults_where_there_is_little_time(
    budget: float,
) -> None:
    class TwiceLost(Sender):
        """Gives a packet up that was lost twice."""

        tries = 0

        def on_timeout(self, now: float) -> None:
            self.tries += 1
            if self.tries == 2:
                self.base += 1
            self.deadline = None

    verdict = check(TwiceLost, Receiver, budget=budget, progress=quiet)
    assert verdict.kind == "broken"
    assert len(verdict.faults) == 1, "the network was down once"


# Nothing is shared but packets

ALL: list[bytes] = []


class Filler(Sender):
    def __init__(self) -> None:
        super().__init__()
        ALL.clear()

    def send(self, payload: bytes) -> None:
        ALL.append(payload)
        super().send(b"")


class Peeker(Receiver):
    def take(self, packet: Packet) -> bytes:
        return ALL[self.expected] if self.expected < len(ALL) else b"?"


class Carrier(int):
    items: list[bytes]


class Smuggler(Sender):
    def next_packet(self, now: float) -> Packet | None:
        packet = super().next_packet(now)
        if packet is None:
            return None
        number = Carrier(packet.seq)
        number.items = self.items
        return packet._replace(seq=number)


@pytest.mark.parametrize("channel", ["fifo", "dup", "late", "corrupt"])
@pytest.mark.parametrize("machines", [(Filler, Peeker), (Smuggler, Receiver)])
def test_who_shares_more_than_packets_is_broken(
    machines: tuple[Any, Any], channel: str
) -> None:
    before = list(ALL)
    verdict = check(*machines, channel, progress=quiet)
    assert (verdict.kind, verdict.promise) == ("broken", "apart")
    assert "share more than packets" in verdict.sentence
    assert isinstance(ALL, list), f"{before} is in its place again"


SOURCE = Path(one_byte.__file__).read_text(encoding="utf-8")


def test_a_file_whose_sides_share_a_global_is_broken(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    text = SOURCE.replace("class Sender:", "ALL: list[bytes] = []\n\n\nclass Sender:")
    text = text.replace(
        "self.items.append(payload)", "self.items.append(ALL.append(payload))"
    )
    text = text.replace("self.items[self.base])", "b'')")
    text = text.replace(
        "self.items: list[bytes] = []", "self.items = ALL.clear() or []"
    )
    text = text.replace(
        "return packet.payload", "return [*ALL, b'?', b'?'][self.expected]"
    )
    file.write_text(text, encoding="utf-8")
    verdict = grade(file)
    assert (verdict["verdict"], verdict["promise"]) == ("broken", "apart")
    assert "share more than packets" in verdict["sentence"]


def test_no_terminal_obeys_what_a_file_says(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    evil = r"\x1b[2J\x07\rsurvived: No promise was broken\n\u202e"
    file.write_text(f'raise ValueError("{evil}")', encoding="utf-8")
    command = [sys.executable, "-m", "p2plab", "check", str(file)]
    ran = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert ran.returncode == 2
    printed = (ran.stdout + ran.stderr).decode()
    assert len(printed.splitlines()) == 1
    assert printed.rstrip("\r\n").isprintable()
    text = SOURCE.replace("self.out.append(", f'raise OSError("{evil}")  # ')
    file.write_text(text, encoding="utf-8")
    verdict = grade(file, budget=0.5)
    assert verdict["verdict"] == "breach"
    shown = io.StringIO(report(verdict))
    assert all(line.rstrip("\n").isprintable() for line in shown)
