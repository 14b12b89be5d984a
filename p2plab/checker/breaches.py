"""Breaches of the machine's own promises: found, put in words, with the line."""

from __future__ import annotations

import linecache
from typing import Any

from p2plab.checker.blame import fickle, member_line, methods, place, raised_at
from p2plab.checker.memory import attributes, changeable, shared
from p2plab.checker.network import CHANNELS, SIDES
from p2plab.checker.trial import Failure, Makers, Trial, plain
from p2plab.checker.watchdog import LIMIT, Pulse, watching
from p2plab.checker.world import TooLong, World, at_a_limit
from p2plab.core.trace import RECEIVER, SENDER
from p2plab.errors import BrokenContract, Promise
from p2plab.sim.contract import require_machine


def unfit(makers: Makers, pulse: Pulse) -> Failure | None:
    """Look at both machines before anything is run."""
    for way, (make, role) in enumerate(zip(makers, (SENDER, RECEIVER), strict=True)):
        pulse.count += 1
        try:
            with watching(pulse):
                machine = make()
        except (Exception, SystemExit, TooLong) as why:
            return unbuilt(make, way, why)
        try:
            require_machine(machine, role)
            promised = getattr(make, "channel", "fifo")
            if isinstance(promised, str) and promised not in CHANNELS:
                name = type(machine).__name__
                what = f"{name}.channel is {promised!r}, and not one of "
                what += ", ".join(CHANNELS)
                raise BrokenContract(Promise.INTERFACE, name, "channel", what)
        except BrokenContract as why:
            line = member_line(machine, str(why)) or _class_line(type(machine))
            return Failure("breach", "interface", _see(str(why), line), way, why)
        except Exception as why:
            words = f"the {SIDES[way]} raised {_error(why)}{_at(why, type(machine))}"
            return Failure("breach", "interface", words, way, why)
    return None


def unbuilt(make: Any, way: int, why: BaseException) -> Failure:
    """Say why there is no machine."""
    kind = make if isinstance(make, type) else type(make)
    name = getattr(make, "__name__", kind.__name__)
    if isinstance(why, TooLong):
        words = f"{name}() did not come back within about {LIMIT:g} s{_at(why, kind)}"
    elif hasattr(make, "next_packet") and not callable(make):
        words = f"the {SIDES[way]} is a machine already: hand over its class, {name}"
    elif not callable(make):
        words = f"the {SIDES[way]} is {make!r:.60}: hand over a class"
    else:
        words = f"{name}() raised {_error(why)}{_at(why, kind)}"
        if isinstance(why, TypeError):
            code = getattr(vars(kind).get("__init__"), "__code__", None)
            if code is not None and not _at(why, kind):
                words += f" at {place(code.co_filename, code.co_firstlineno)}"
            words += f". The {SIDES[way]} is built without arguments: give each of its "
            words += "parameters a default"
    return Failure("breach", "interface", words, way, why)


def explained(failure: Failure, machine: Any) -> Failure:
    """Put a breach in words that name the student's line and the remedy."""
    error = failure.error
    if error is None:
        return failure
    who = type(machine).__name__
    if isinstance(error, BrokenContract) and error.__cause__ is None:
        words = str(error).removesuffix(".")
        line = member_line(machine, words)
        if words.startswith("next_"):
            words = f"{who}: {words}"
        if "generator object" in words:
            words += ". `yield` makes it a generator: use `return`"
        return failure._replace(promise=error.promise.value, words=_see(words, line))
    method, line = raised_at(error, type(machine))
    if isinstance(error, TooLong):
        words = f"{who}.{method}" if method else who
        words += f" did not come back within about {LIMIT:g} s"
        words += f": an endless loop or a pause at {line}" if line else ""
        return failure._replace(promise="end", words=words)
    if not method:
        promise, words = _odd(machine, error)
        return failure._replace(promise=promise, words=words)
    words = f"{who}.{method} raised {_error(error.__cause__ or error)} at {line}"
    if at_a_limit(failure):
        words += ": it is more than the limit of memory"
    return failure._replace(promise="no exception", words=words)


def unlike(failure: Failure, machines: list[Any], apart: str) -> Failure:
    """Say why a trial differed when it was run again."""
    if apart:
        return failure._replace(promise="apart", words=f"{failure.words}. {apart}")
    hints = [hint for machine in machines if (hint := fickle(machine))]
    why = hints[0] if hints else "Look for chance, a clock, or the order of a set"
    return failure._replace(words=f"{failure.words}. {why}")


def in_common(makers: Makers) -> str:
    """Say what two machines made one after the other share and change, if anything."""
    before = _common(makers)
    World(Trial(plain(2)), makers).run()
    for words, value in _common(makers).items():
        if before.get(words, value) != value:
            return words
    return ""


def _common(makers: Makers) -> dict[str, str]:
    """Return what machines share: the words to say if it changes, and its value."""
    found = {}
    for make in makers:
        machine = make()
        who = type(machine).__name__
        for name, value in shared(machine, make()).items():
            cure = f"make it in __init__ (self.{name} = …), or with "
            cure += "field(default_factory=…)"
            if name in dict(attributes(machine)):  # a default or a global
                cure = f"a default is made only once: write {name}=None, and make a "
                cure += "new one in __init__ if it is None"
            words = (
                f"{who}.{name} belongs to all machines of the class together, and what "
                f"one leaves there the next one finds: {cure}"
            )
            found[words] = repr(value)[:4000]
        for _, method in methods(type(machine)):
            for name in method.__code__.co_names:
                if changeable(value := method.__globals__.get(name)):
                    words = (
                        f"{who} changes the global {name}, which all machines share: "
                        f"keep it in `self`, made in __init__"
                    )
                    found[words] = repr(value)[:4000]
    return found


def _odd(machine: Any, error: BaseException) -> tuple[str, str]:
    """Return the promise that is broken by a value that no driver can use, and how."""
    who = type(machine).__name__
    for name, unit in (("deadline", "seconds"), ("pacing_rate", "packets per second")):
        value = getattr(machine, name, None)
        if value is not None and not isinstance(value, int | float):
            return "timer", (
                f"{who}.{name} is {value!r:.60} (a {type(value).__name__}); it is a "
                f"number of {unit} or None"
            )
    return "interface", f"the driver could not go on with {who}: {_error(error)}"


def _error(why: BaseException) -> str:
    said = f": {why}" if str(why) else ""
    return f"{type(why).__name__}{said}"


def _at(why: BaseException, kind: type) -> str:
    _, line = raised_at(why, kind)
    return f" at {line}" if line else ""


def _class_line(kind: type) -> str:
    """Return the line in which a class begins."""
    for _, method in methods(kind):
        code = method.__code__
        lines = linecache.getlines(code.co_filename)[: code.co_firstlineno]
        for number in range(len(lines), 0, -1):
            if lines[number - 1].lstrip().startswith(f"class {kind.__name__}"):
                return place(code.co_filename, number)
    return ""


def _see(words: str, line: str) -> str:
    words = words.removesuffix(".")
    mark = "" if words.endswith("?") else "."
    return f"{words}{mark} See {line}" if line else words
