"""The most memory that this process has had."""

from __future__ import annotations

from pathlib import Path

_STATUS = Path("/proc/self/status")


def peak() -> float:
    """Return it in bytes; not-a-number where the system does not tell.

    Not from getrusage: a process inherits that figure from the one that started it.
    """
    if not _STATUS.exists():
        return float("nan")
    lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
    return 1024.0 * int(lines["VmHWM"].split()[0])
