"""Whatever comes over a wire is read, or refused with the error that it should be."""

from __future__ import annotations

import json
from random import Random

import pytest
from fuzz import damaged, targets, throw

from p2plab.errors import RendezvousError
from p2plab.rendezvous.client import LISTED, understood

TARGETS = targets()


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_bytes_are_read_or_refused_in_the_words_for_it(name: str) -> None:
    outcomes = throw(name, TARGETS[name], 2_000, seed=1)
    assert outcomes.total() == 2_000
    assert len(outcomes) >= 2, "the damage is always, or never, too large"


def test_the_same_seed_throws_the_same() -> None:
    target = TARGETS["stun.parse"]
    first, again = (
        [damaged(rng, target) for _ in range(50)] for rng in (Random(7), Random(7))
    )
    assert first == again


def test_a_number_without_end_is_no_answer() -> None:
    content = json.dumps({"name": "ann", "since": 10**400}).encode()
    with pytest.raises(RendezvousError, match="not a p2plab rendezvous"):
        understood(LISTED, 200, content, "http://127.0.0.1")
