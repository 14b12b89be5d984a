"""Whether a machine has a driver's members: looked at before a run, said in words."""

from __future__ import annotations

import inspect
from difflib import get_close_matches
from typing import Any, Final

from p2plab.core.trace import RECEIVER, SENDER
from p2plab.errors import BrokenContract, Promise

# member -> how many arguments the driver calls it with; None: it reads a value
_ENDPOINT: Final = {"deadline": None, "next_packet": 1, "on_packet": 2, "on_timeout": 1}
_OWN: Final[dict[str, dict[str, int | None]]] = {
    SENDER: {"done": None, "send": 1},
    RECEIVER: {"next_payload": 0},
}


def require_machine(machine: object, role: str) -> None:
    """Raise BrokenContract unless `machine` has all members of its role.

    role: SENDER or RECEIVER.
    """
    name = type(machine).__name__
    if isinstance(machine, type):
        name = machine.__name__
        cure = f"{name}()"
        what = f"{name} is a class: hand over a machine made of it, {cure}"
        raise BrokenContract(Promise.INTERFACE, name, "", what)
    members = {**_OWN[role], **_ENDPOINT}
    for member, arguments in members.items():
        if not hasattr(machine, member):
            what = f"{name} has no {member}, which every {role} needs"
            where = role.capitalize() if member in _OWN[role] else "Endpoint"
            cure = _misspelling(machine, member, members)
            if role == RECEIVER and hasattr(machine, "send"):
                cure = "Is it a sender?"
            what = f"{what} (see {where})"
        else:
            what, cure = _misfit(
                f"{name}.{member}", getattr(machine, member), arguments
            )
        if what:
            raise BrokenContract(Promise.INTERFACE, name, member, what, cure)


def _misspelling(machine: object, member: str, members: dict[str, int | None]) -> str:
    others = [name for name in dir(machine) if name not in members]
    if members[member] is not None:
        others = [name for name in others if callable(getattr(machine, name))]
    close = get_close_matches(member, (n for n in others if not n.startswith("__")), 1)
    return f"It has {close[0]}: is that a misspelling?" if close else ""


def _misfit(name: str, member: Any, arguments: int | None) -> tuple[str, str]:
    """Return why a driver cannot use a member, and what to do about it."""
    if arguments is None:
        if not inspect.ismethod(member):
            return "", ""
        what = f"{name} is a method, but the driver reads it as a value"
        return what, "Write @property above it."
    code = getattr(getattr(member, "__func__", None), "__code__", None)
    flags = code.co_flags if code else 0
    if code and not flags & inspect.CO_COROUTINE:
        if (code.co_argcount, code.co_kwonlyargcount) == (1 + arguments, 0):
            return "", ""  # plain, as nearly always: the other questions take long
        if not (code.co_argcount or flags & inspect.CO_VARARGS):
            return f"{name} is a method: write `self` as its first name", ""
    if inspect.iscoroutinefunction(member):
        return f"{name} is `async`, and nobody awaits it", "Write `def`."
    if not callable(member):
        return f"{name} is a value, but must be a method", ""
    try:
        inspect.signature(member).bind(*range(arguments))
    except ValueError:
        pass  # built into Python, which does not say how it is called
    except TypeError as why:
        what = f"{name} is called with {arguments} argument(s) after self, and cannot "
        return f"{what}be: {why}", ""
    return "", ""
