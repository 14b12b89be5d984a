"""Threads of ours: in their starter's context, and no program waits for their end."""

from __future__ import annotations

import contextvars
import threading
import warnings
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


def warn_caller(why: Exception | None) -> None:
    """Warn whoever called our caller, if there is a why and it is the main thread.

    The words of another one would come into somebody else's cell.
    """
    if why is not None and threading.current_thread() is threading.main_thread():
        warnings.warn(str(why), stacklevel=3)
