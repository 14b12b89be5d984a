"""A thread of ours: in its starter's context, and no program waits for its end."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable


def spawn(
    work: Callable[..., object], *arguments: object, name: str | None = None
) -> threading.Thread:
    """Start a daemon thread in the caller's context.

    In a notebook the context says which cell a callback's output belongs to.
    """
    run = contextvars.copy_context().run
    thread = threading.Thread(
        target=run, args=(work, *arguments), name=name, daemon=True
    )
    thread.start()
    return thread
