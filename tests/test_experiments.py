"""Sweeps: the same table, wherever it is computed."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import fields
from itertools import product
from multiprocessing import get_context

import numpy as np
import pytest

from p2plab.core.link import GilbertElliott, Link
from p2plab.measure.experiments import (
    Experiment,
    goodputs,
    run_all,
    sweep,
    table,
)
from p2plab.measure.metrics import Summary
from p2plab.protocols import Setup

SETUPS = [Setup("stop_and_wait", timeout=0.15), Setup("go_back_n", 8, timeout=0.3)]


def test_rows_come_in_the_order_of_the_arguments() -> None:
    results = sweep(SETUPS, [0.0, 0.1], [1, 2], count=5)
    each = [result.experiment for result in results]
    found = [(e.setup, e.link.loss, e.link.seed) for e in each]
    assert found == [*product(SETUPS, (0.0, 0.1), (1, 2))]


def test_a_process_pool_and_threads_give_the_same_rows_in_the_same_order() -> None:
    here = sweep(SETUPS, [0.0, 0.2], [0, 1], count=20)
    processes = ProcessPoolExecutor(2, mp_context=get_context("spawn"))
    for executor in (processes, ThreadPoolExecutor(2)):
        with executor:
            there = sweep(SETUPS, [0.0, 0.2], [0, 1], count=20, executor=executor)
        assert there == here


def test_progress_is_shown_only_when_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    quiet = sweep(SETUPS[:1], [0.0], [0, 1], count=2)
    assert capsys.readouterr() == ("", "")
    assert sweep(SETUPS[:1], [0.0], [0, 1], count=2, progress=True) == quiet
    assert "2/2" in capsys.readouterr().err


def test_a_run_that_stalls_is_a_row_and_not_the_end_of_the_sweep() -> None:
    hopeless = Experiment(SETUPS[0], Link(loss=0.999), count=3, patience=5.0)
    stalled, fine = run_all([hopeless, Experiment(SETUPS[0], count=3)])
    assert (stalled.complete, fine.complete) == (False, True)
    assert stalled.summary.goodput == 0.0


def test_copies_make_no_run_complete_and_none_incomplete() -> None:
    best_effort = Setup("best_effort")
    whole = Experiment(best_effort, Link(duplicate=0.5, seed=1), count=20).run()
    assert (whole.complete, whole.summary.delivered) == (True, 20)
    for seed in range(20):  # in some of them, as many were lost as were doubled
        link = Link(loss=0.1, duplicate=0.1, seed=seed)
        run = Experiment(best_effort, link, count=20).run()
        assert run.complete == (run.summary.lost_data == 0)


def test_the_table_has_a_column_for_every_number_of_a_run() -> None:
    rows = table(sweep(SETUPS, [0.1, GilbertElliott.from_mean(0.2, 4)], [3], count=10))
    names = {field.name for field in fields(Summary)}
    assert names | {"protocol", "window", "timeout", "loss", "seed"} <= set(
        rows.dtype.names or ()
    )
    assert list(rows["protocol"][::2]) == ["stop_and_wait", "go_back_n"]
    assert rows["loss"] == pytest.approx([0.1, 0.2, 0.1, 0.2])
    assert np.all(rows["delivered"] == 10)
    assert len(table([])) == 0


def test_stop_and_wait_reaches_what_the_theory_says() -> None:
    results = sweep(SETUPS[:1], [0.0, 0.05, 0.2], range(5), count=300)
    for points in goodputs(results).values():
        expected = [r.experiment.expected_goodput() for r in results[::5]]
        assert [point.mean for point in points] == pytest.approx(expected, rel=0.04)


def test_pipelining_without_loss_reaches_what_the_theory_says() -> None:
    windows = [1, 4, 8]
    for protocol in ("go_back_n", "selective_repeat"):
        setups = [Setup(protocol, window, timeout=0.3) for window in windows]
        for result in sweep(setups, [0.0], [0], count=400):
            expected = result.experiment.expected_goodput()
            assert result.summary.goodput == pytest.approx(expected, rel=0.02)


def test_a_link_without_a_rate_has_an_expected_goodput_too() -> None:
    result = Experiment(SETUPS[0], Link(delay=0.05), count=200).run()
    expected = result.experiment.expected_goodput()
    assert expected == pytest.approx(80_000)
    assert result.summary.goodput == pytest.approx(expected, rel=0.01)
    assert Experiment(Setup("best_effort")).expected_goodput() is None


def test_acks_can_be_kept_safe() -> None:
    [result] = sweep(SETUPS[:1], [0.3], [0], ack_loss=0.0)
    assert result.summary.lost_acks == 0
    assert (result.summary.lost_data or 0) > 0


def test_points_have_the_mean_and_the_extremes_over_the_seeds() -> None:
    results = sweep(SETUPS[:1], [0.1, 0.0], range(4), count=30)
    [(setup, points)] = goodputs(results).items()
    assert setup == SETUPS[0]
    assert [point.loss for point in points] == [0.0, 0.1]
    assert points[1].low < points[1].mean < points[1].high
    assert points[0].low == pytest.approx(points[0].high)
