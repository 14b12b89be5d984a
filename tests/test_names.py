"""Names that look alike belong to one peer, and names that deceive are refused."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from p2plab.errors import NameTaken
from p2plab.rendezvous.client import RendezvousClient
from p2plab.rendezvous.model import Registration, legal_name, look
from p2plab.rendezvous.server import RendezvousServer


@pytest.fixture(scope="module")
def client() -> Iterator[RendezvousClient]:
    with RendezvousServer() as server, RendezvousClient(server.url) as client:
        yield client


@pytest.mark.parametrize(
    "name",
    [
        *("alice", "Ann-2", "ann.b_c", "Zoë", "Łukasz", "Ωmega"[1:], "Мария", "نگار"),
        *("علی۲", "महेश", "สมชาย", "שרה", "Αθηνά", "王小明", "やまだ太郎", "カズーLtd"),
        *("김철수", "李Ann", "々木", "ﾔﾏﾀﾞ", "Straße", "İpek", "ann２"),
    ],
)
def test_a_name_of_one_script_is_a_name(name: str) -> None:
    assert look(legal_name(name))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("аlice", "CYRILLIC and LATIN"),
        ("alicе", "CYRILLIC and LATIN"),
        ("Αlice", "GREEK and LATIN"),
        ("аlice王", "CYRILLIC"),
        ("한やま", "HANGUL and HIRAGANA"),
        ("ali\u200bce", "U\\+200B"),
        ("ali\u200ece", "U\\+200E"),
        ("نگار\u200cی", "U\\+200C"),
        ("alice\u3164", "U\\+3164"),
        ("alice\ufe0f", "U\\+FE0F"),
        ("alice\u034f", "U\\+034F"),
        ("\u202ealice", "U\\+202E"),
    ],
)
def test_a_name_that_mixes_scripts_or_hides_something_is_refused_in_words(
    name: str, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        legal_name(name)


@pytest.mark.parametrize(
    "other",
    ["ALICE", "aLIce", "ａｌｉｃｅ", "\u0430\u04cf\u0456\u0441\u0435"],  # all Cyrillic
)
def test_what_looks_like_a_name_that_is_held_is_taken_until_it_is_free(
    client: RendezvousClient, other: str
) -> None:
    def register(name: str) -> Registration:
        return client.register(name, ["192.0.2.1"], 1, 1)

    alice = register("alice")
    with pytest.raises(NameTaken, match="looks like"):
        register(other)
    for free in ("alicia", "alice2"):
        client.leave(register(free))
    client.leave(alice)
    bold = register(other)
    with pytest.raises(NameTaken):
        register("alice")
    client.leave(bold)


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
def test_leases_of_the_embedded_store_last_as_long_whoever_sets_the_clock(
    jump: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, steady = time.time, time.monotonic
    with RendezvousServer() as server, RendezvousClient(server.url) as client:
        ann = client.register("ann", ["192.0.2.1"], 1, 1, lease=5.0)
        monkeypatch.setattr(time, "time", lambda: real() + jump)
        assert [peer.name for peer in client.peers()] == ["ann"]
        assert client.heartbeat(ann).lease == 5
        monkeypatch.setattr(time, "monotonic", lambda: steady() + 6.0)
        assert list(client.peers()) == []
        client.register("ann", ["192.0.2.1"], 1, 1)
