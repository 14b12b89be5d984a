"""Many runs at once: parameters in, a table of measured numbers out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, astuple, dataclass, fields, replace
from itertools import product
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final

from p2plab.core.link import GilbertElliott, Link
from p2plab.core.packet import HEADER_SIZE
from p2plab.errors import TransferStalled
from p2plab.measure import theory
from p2plab.measure.metrics import Number, Summary, summarise
from p2plab.protocols import Setup
from p2plab.sim.simulator import PATIENCE, Run, simulate

if TYPE_CHECKING:
    import numpy as np

# A round trip of 13 packets of 1,000 bytes: a window of 16 fills it, one of 1 does not.
LINK: Final = Link(delay=0.05, rate=1e6)


@dataclass(frozen=True, slots=True)
class Experiment:
    """One run in virtual time: everything that it depends on.

    link: both ways; its seed makes the run repeatable.
    ack_loss: on the way back, in [0, 1); None loses ACKs as it does DATA.
    count, size: of the payloads, and bytes in each of them.
    patience: virtual time without a delivery after which to give up [s].
    """

    setup: Setup
    link: Link = LINK
    ack_loss: float | None = None
    count: int = 200
    size: int = 1000
    patience: float = PATIENCE

    def run(self) -> Result:
        """Simulate it; a transfer that stalls has a result, too."""
        back = self.link
        if self.ack_loss is not None:
            back = replace(back, loss=self.ack_loss)
        try:
            run = simulate(
                self.setup.sender(),
                self.setup.receiver(),
                [bytes(self.size)] * self.count,
                self.link,
                back=back,
                patience=self.patience,
                states=False,
            )
        except TransferStalled as why:
            if not isinstance(why.partial, Run):
                raise
            run = why.partial
        summary = summarise(run.trace, self.link.rate)
        return Result(self, summary.delivered == self.count, summary)

    def expected_goodput(self) -> float | None:
        """What `theory` says that it should reach [bit/s]; None where it says nothing.

        Assumes independent losses, safe ACKs for the two pipelining protocols, an
        endless supply of packets, and a timer of one round trip (stop-and-wait: of the
        setup's timeout, if it has one).
        """
        rate = self.link.rate or 1e15  # no limit
        time = theory.transmission_delay(self.size + HEADER_SIZE, rate)
        a = self.link.delay / time
        loss, window = mean_loss(self.link), self.setup.window
        ack_loss = loss if self.ack_loss is None else self.ack_loss
        match self.setup.protocol:
            case "stop_and_wait":
                timeout = max((self.setup.timeout or 0) / time, 1 + 2 * a)
                share = theory.utilisation_stop_and_wait(a, loss, ack_loss, timeout)
            case "go_back_n":
                share = theory.utilisation_go_back_n(a, window, loss)
            case "selective_repeat":
                share = theory.utilisation_selective_repeat(a, window, loss)
            case _:
                return None
        return share * 8 * self.size / time

    def goodput_bound(self) -> float | None:
        """What no protocol can exceed in the long run; None without a rate [bit/s]."""
        if self.link.rate is None:
            return None
        headers = self.size / (self.size + HEADER_SIZE)
        return theory.utilisation_bound(mean_loss(self.link)) * headers * self.link.rate


@dataclass(frozen=True, slots=True)
class Result:
    """What came of an experiment.

    complete: whether everything was delivered before patience ended.
    """

    experiment: Experiment
    complete: bool
    summary: Summary


def mean_loss(link: Link) -> float:
    """Return the share of packets that a link loses in the long run."""
    loss = link.loss
    if isinstance(loss, GilbertElliott):
        return theory.mean_loss_gilbert_elliott(**asdict(loss))
    return loss


def run_all(
    experiments: Iterable[Experiment],
    *,
    executor: Executor | None = None,
    progress: bool = False,
) -> list[Result]:
    """Run them and return their results, in the order of the experiments.

    executor: runs them on several cores or machines; by default, in this process.
    progress: show a progress bar.
    """
    from tqdm.auto import tqdm

    class Bar(tqdm):  # type: ignore[type-arg]
        monitor_interval = 0  # else tqdm starts a thread, which a browser cannot

    experiments = list(experiments)
    results = (executor.map if executor else map)(Experiment.run, experiments)
    total = len(experiments)
    return list(Bar(results, total=total, unit="run", disable=not progress))


def sweep(
    setups: Iterable[Setup],
    losses: Iterable[float | GilbertElliott],
    seeds: Iterable[int] = range(5),
    *,
    link: Link = LINK,
    ack_loss: float | None = None,
    count: int = 200,
    size: int = 1000,
    executor: Executor | None = None,
    progress: bool = False,
) -> list[Result]:
    """Run every setup at every loss with every seed, in this order.

    The same seed loses the same packets for all setups, and at a higher loss the same
    ones and some more, so that few seeds tell much. The rest as in Experiment.
    """
    return run_all(
        (
            Experiment(
                setup, replace(link, loss=loss, seed=seed), ack_loss, count, size
            )
            for setup, loss, seed in product(setups, losses, seeds)
        ),
        executor=executor,
        progress=progress,
    )


@dataclass(frozen=True, slots=True)
class Point:
    """A number over all seeds at one loss: of a goodput [bit/s]."""

    loss: float
    mean: float
    low: float
    high: float


def curves(
    results: Sequence[Result], number: Callable[[Summary], Number]
) -> dict[Setup, list[Point]]:
    """Return the points of every setup's curve, by increasing loss.

    number: which one of a run's numbers; runs without it are left out.
    """
    found: dict[tuple[Setup, float], list[float]] = {}
    for result in results:
        if (value := number(result.summary)) is not None:
            key = result.experiment.setup, mean_loss(result.experiment.link)
            found.setdefault(key, []).append(value)
    points: dict[Setup, list[Point]] = {r.experiment.setup: [] for r in results}
    for (setup, loss), values in sorted(found.items(), key=lambda item: item[0][1]):
        points[setup].append(Point(loss, fmean(values), min(values), max(values)))
    return points


def goodputs(results: Sequence[Result]) -> dict[Setup, list[Point]]:
    """Return the `curves` of the goodput [bit/s]."""
    return curves(results, lambda summary: summary.goodput)


def packets_per_payload(summary: Summary) -> Number:
    """Return how many DATA packets were sent for each payload that was delivered.

    Of protocols that send coded packets, too, which no `transmissions_per_packet` can
    count.
    """
    if summary.sent is None or not summary.delivered:
        return None
    return summary.sent / summary.delivered


def table(results: Sequence[Result]) -> np.ndarray[Any, Any]:
    """Return a numpy record array with a row for each run, ready for a data frame.

    Columns: the setup's and the link's parameters that a sweep changes, whether the
    run was complete, and all fields of Summary, not-a-number where one is unknown.
    """
    import numpy as np

    rows = [
        (
            r.experiment.setup.protocol,
            r.experiment.setup.window,
            r.experiment.setup.timeout,
            mean_loss(r.experiment.link),
            r.experiment.link.seed,
            r.complete,
            *astuple(r.summary),
        )
        for r in results
    ]
    kinds = [("protocol", "U16"), ("window", "i4"), ("timeout", "f8"), ("loss", "f8")]
    kinds += [("seed", "i8"), ("complete", "?")]
    kinds += [(each.name, "f8") for each in fields(Summary)]
    return np.array(rows, dtype=kinds).view(np.recarray)
