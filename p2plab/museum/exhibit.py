"""An exhibit: a protocol on show, right or wrong, and what to know about it."""

from __future__ import annotations

import inspect
import linecache
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import unified_diff
from functools import cache
from textwrap import indent
from types import ModuleType
from typing import Any

from p2plab.core.endpoint import Receiver, Sender

Machines = tuple[Sender, Receiver]


class Page:
    """The source of a protocol's page, on which lines can be changed."""

    def __init__(self, module: ModuleType) -> None:
        self.name = module.__name__
        self.source = inspect.getsource(module)

    def change(self, old: str, *new: str) -> None:
        """Put the lines `new` in the place of some words, or take their lines out.

        old: words of one line, or of several; new: without the indentation of the line
        in which `old` begins.
        Raises ValueError unless `old` stands on the page exactly once.
        """
        words = r"\n *".join(map(re.escape, old.splitlines()))
        if (count := len(re.findall(words, self.source))) != 1:
            raise ValueError(
                f"{self.name} has these words {count} times, and a change needs them "
                f"exactly once: {old!r}"
            )
        lines = rf"^( *)(.*)({words})(.*\n)"
        space, before, _, after = re.findall(lines, self.source, re.MULTILINE)[0]
        text = indent(before + "\n".join(new) + after, space) if new else ""
        self.source = re.sub(lines, lambda _: text, self.source, flags=re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Exhibit:
    """A protocol on show.

    mistake: the sentence that explains it; empty for a correct protocol.
    channel: fifo (packets are lost), dup (and doubled), late (and delayed, overtaken)
        or corrupt (lost or damaged). For a mistake the weakest of them in which it
        fails while both sides pull at once; for a correct protocol the strongest of
        the first three that it survives.
    page: the module with the correct protocol.
    build: builds both sides from the classes of that module, or of a changed one.
    edit: makes the mistake on the page, if it is not in how the sides are built.
    """

    name: str
    title: str
    mistake: str
    channel: str
    page: ModuleType
    build: Callable[[Any], Machines]
    edit: Callable[[Page], None] | None = None

    def make(self) -> Machines:
        """Build both sides anew."""
        return self.build(_changed(self))

    def sender(self) -> Sender:
        """Build the sending side."""
        return self.make()[0]

    def receiver(self) -> Receiver:
        """Build the receiving side."""
        return self.make()[1]

    def __reduce__(self) -> tuple[Callable[[str], Exhibit], tuple[str]]:
        return _find, (self.name,)  # another process has the same museum

    @property
    def pages(self) -> list[type]:
        """The classes of its two sides, for `p2plab.show`."""
        kinds = dict.fromkeys(
            type(part) for each in self.make() for part in _parts(each)
        )
        families = ("p2plab.museum", "p2plab.protocols", "p2plab.fast")
        return [kind for kind in kinds if kind.__module__.startswith(families)]

    def diff(self) -> str:
        """Return how its page differs from the correct one, in the words of `diff`.

        Empty where a parameter, or the choice of the two sides, is all the mistake.
        """
        before, after = map(inspect.getsource, (self.page, _changed(self)))
        names = self.page.__name__, self.name
        lines = before.splitlines(), after.splitlines()
        return "\n".join(unified_diff(*lines, *names, lineterm=""))


def label(function: Callable[..., object]) -> str:
    """Return a function's docstring as one line."""
    return " ".join((function.__doc__ or "").split())


def _find(name: str) -> Exhibit:
    from p2plab.museum import EXHIBITS, HEALTHY

    return (EXHIBITS if name in EXHIBITS else HEALTHY)[name]


def _parts(machine: object) -> Iterator[object]:
    yield machine
    for name in ("sender", "receiver", "rtt"):
        if hasattr(machine, name):
            yield from _parts(getattr(machine, name))


@cache
def _changed(exhibit: Exhibit) -> ModuleType:
    """Return the exhibit's page as a module, with its mistake made."""
    page = Page(exhibit.page)
    if exhibit.edit is not None:
        exhibit.edit(page)
    if page.source == inspect.getsource(exhibit.page):
        return exhibit.page
    module = ModuleType(f"{exhibit.edit.__module__}.{exhibit.name}", exhibit.mistake)
    module.__file__ = file = f"<museum: {exhibit.name}>"
    # Without a time the entry stays for good: tracebacks and `inspect` read it.
    lines = page.source.splitlines(keepends=True)
    linecache.cache[file] = (len(page.source), None, lines, file)
    sys.modules[module.__name__] = module  # dataclasses and pickle look there
    exec(compile(page.source, file, "exec", dont_inherit=True), vars(module))
    return module
