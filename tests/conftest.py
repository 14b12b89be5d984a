"""What all tests share: browser tests come last, and CI skips nothing."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

pytest_plugins = ["browser"]

os.environ.pop("P2PLAB_REDIS_URL", None)  # no test meets the Redis of this machine
os.environ.setdefault("MPLBACKEND", "Agg")  # no window opens; kernels do not inherit it


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Playwright keeps an event loop running in the main thread once it has started,
    # and asyncio.run refuses to work beside it.
    items.sort(key=lambda item: item.get_closest_marker("browser") is not None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[
    None, pytest.TestReport, pytest.TestReport
]:
    report = yield
    refuse_a_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[
    None, pytest.CollectReport, pytest.CollectReport
]:
    report = yield
    refuse_a_skip(report)
    return report


def refuse_a_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip into a failure where the environment has P2PLAB_NO_SKIP."""
    expected_failure = hasattr(report, "wasxfail")
    if not os.environ.get("P2PLAB_NO_SKIP") or not report.skipped or expected_failure:
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
    report.outcome = "failed"
    report.longrepr = f"P2PLAB_NO_SKIP is set, and this was skipped: {reason}"
