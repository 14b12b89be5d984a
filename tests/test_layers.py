"""The rooms of the package, and which doors between them may be used."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

import pytest
from browser import ROOT

# A room imports from the rows above its own, or from the left in its own row.
ROWS = {
    "words": "errors amounts packet",
    "rules": "endpoint rtt congestion mixing content orders sources sample chunks "
    "theory",
    "protocols": "protocols",
    "world": "link rows trace",
    "drivers": "driver replay rerun simulator threads stuck offer transfer emulator "
    "flow flows session datagrams reactor paths contact reception stun stun_client "
    "stun_server udp frames handshake inbox conversation talks chat_server chat "
    "rendezvous",
    "measures": "summary metrics experiments museum checker",
    "faces": "arrivals witness meetings peer lab",
    "pictures": "plots listing",
    "panels": "widgets",
    "command line": "demo console grader cli __main__",
}
PLACES = {
    room: (row, column)
    for row, rooms in enumerate(ROWS.values())
    for column, room in enumerate(rooms.split())
}

# Machines are given the time and their luck; they never fetch them.
MACHINES = {"endpoint", "rtt", "congestion", "protocols"}
CLOCKS_AND_CHANCE = {"time", "datetime", "random", "secrets", "logging"}

# The rooms that run in a browser's Python, which has no sockets and no threads.
STANDARD = {room for room in PLACES if PLACES[room] <= PLACES["simulator"]}
STANDARD |= {"museum", "checker"}
QUIET = STANDARD | {"metrics", "experiments"}
NOISY = {"socket", "socketserver", "selectors", "ssl", "http", "threading", "asyncio"}
LATE_NOISE = {"checker": {"threading"}}  # its watchdog, where there are threads

# Packages from outside the standard library: who may have which. Rooms that are neither
# here nor in STANDARD may have any.
GUESTS = {"metrics": {"numpy"}, "experiments": {"numpy", "tqdm"}}
LATE_GUESTS = {  # inside functions
    "trace": {"numpy"},
    "protocols": {"raptorq"},
    "sample": {"numpy"},
    "orders": {"numpy"},
    "sources": {"numpy", "PIL"},
    "chunks": {"numpy", "PIL"},
}

SLOW = ["redis", "fakeredis", "fastapi", "uvicorn", "requests", "numpy", "PIL"]
SLOW += ["matplotlib", "ipywidgets", "IPython"]


@dataclass(frozen=True)
class Import:
    """One imported module. late: it waits for a call, or is there for types only."""

    target: str
    line: int
    late: bool


def imports(source: str, package: PurePosixPath) -> Iterator[Import]:
    """Find every import, however deep it stands."""
    todo: list[tuple[ast.AST, bool]] = [(ast.parse(source), False)]
    while todo:
        node, late = todo.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            for target in targets(node, package):
                yield Import(target, node.lineno, late)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            todo += [(child, True) for child in node.body]
            todo += [(child, late) for child in node.orelse]
            continue
        late = late or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        todo += [(child, late) for child in ast.iter_child_nodes(node)]


def targets(node: ast.Import | ast.ImportFrom, package: PurePosixPath) -> list[str]:
    """Return the full names of what a statement imports, relative ones resolved."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    here = list(package.parts)[: len(package.parts) + 1 - node.level]
    start = [*(here if node.level else []), *filter(None, [node.module])]
    return [".".join([*start, alias.name]) for alias in node.names]


def complaints(path: str, source: str) -> list[str]:
    """Return one sentence for each door that a module uses wrongly."""
    module = PurePosixPath(path)
    room = PurePosixPath(module.parts[1]).stem
    if room == "__init__":
        return []  # the front door; what it loads is looked at in a fresh interpreter
    if room not in PLACES:
        return [
            f"{path} has no room yet: give it a place in ROWS, tests/test_layers.py"
        ]
    found = []
    for door in sorted(imports(source, module.parent), key=lambda door: door.line):
        inside = door.target.split(".")[0] == "p2plab"
        why = wrong_door(module, room, door) if inside else wrong_guest(room, door)
        if why:
            found.append(f"{path}:{door.line} imports {door.target}: {why}")
    return found


def wrong_door(module: PurePosixPath, room: str, door: Import) -> str:
    """Say why a room may not import another one; empty if it may."""
    other = (*door.target.split("."), "")[1]
    if other not in PLACES:
        return "ROWS has no such room; import the module that has what you need"
    if other == room:
        page = room == "protocols" and module.stem != "__init__"
        return "a protocol's page is complete without the other pages" if page else ""
    if PLACES[other] < PLACES[room]:
        return ""
    (row, _), (other_row, _) = PLACES[room], PLACES[other]
    if row == other_row:
        return f"{other} stands to the right of {room} in their row; look left or above"
    names = list(ROWS)
    return (
        f"{other} is in the row '{names[other_row]}', below '{names[row]}', the row of "
        f"{room}; a room imports from rows above, or from the left in its own row"
    )


def wrong_guest(room: str, door: Import) -> str:
    """Say why a room may not import something from outside; empty if it may."""
    guest = door.target.split(".")[0]
    if room in MACHINES and guest in CLOCKS_AND_CHANCE:
        return "a machine is given the time and its luck, and tells nobody"
    if door.target == "threading.Lock":
        return ""  # a lock alone starts nothing
    if door.late and guest in LATE_NOISE.get(room, ()):
        return ""
    if room in QUIET and guest in NOISY:
        return f"{room} works without sockets, threads and event loops"
    if guest in sys.stdlib_module_names or room not in QUIET:
        return ""
    if guest in GUESTS.get(room, ()):
        return ""
    if guest in LATE_GUESTS.get(room, ()):
        return (
            "" if door.late else f"{room} imports it inside the function that uses it"
        )
    return f"{room} needs the standard library alone"


def modules() -> list[str]:
    paths = (ROOT / "p2plab").rglob("*.py")
    return sorted(path.relative_to(ROOT).as_posix() for path in paths)


def test_every_module_uses_the_right_doors() -> None:
    found = [
        complaint
        for path in modules()
        for complaint in complaints(path, (ROOT / path).read_text(encoding="utf-8"))
    ]
    assert not found, "wrong doors:\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("path", "source", "complaint"),
    [
        (
            "p2plab/link.py",
            "import math\nfrom p2plab.simulator import simulate",
            "p2plab/link.py:2 imports p2plab.simulator.simulate: simulator is in the "
            "row 'drivers', below 'world', the row of link; a room imports from rows "
            "above, or from the left in its own row",
        ),
        (
            "p2plab/rtt.py",
            "def late():\n    from . import theory",
            "p2plab/rtt.py:2 imports p2plab.theory: theory stands to the right of rtt "
            "in their row; look left or above",
        ),
        (
            "p2plab/peer.py",
            "if TYPE_CHECKING:\n    import p2plab.lab",
            "p2plab/peer.py:2 imports p2plab.lab: lab stands to the right of peer in "
            "their row; look left or above",
        ),
        (
            "p2plab/protocols/go_back_n.py",
            "from .stop_and_wait import StopAndWaitSender as Sender",
            "p2plab/protocols/go_back_n.py:1 imports p2plab.protocols.stop_and_wait."
            "StopAndWaitSender: a protocol's page is complete without the other pages",
        ),
        (
            "p2plab/protocols/go_back_n.py",
            "class Sender:\n    def on_timeout(self):\n        import random",
            "p2plab/protocols/go_back_n.py:3 imports random: a machine is given the "
            "time and its luck, and tells nobody",
        ),
        (
            "p2plab/metrics.py",
            "try:\n    from threading import Thread\nexcept ImportError:\n    pass",
            "p2plab/metrics.py:2 imports threading.Thread: metrics works without "
            "sockets, threads and event loops",
        ),
        (
            "p2plab/trace.py",
            "import numpy as np",
            "p2plab/trace.py:1 imports numpy: trace imports it inside the function "
            "that uses it",
        ),
        (
            "p2plab/theory.py",
            "def table():\n    import numpy",
            "p2plab/theory.py:2 imports numpy: theory needs the standard library alone",
        ),
        (
            "p2plab/widgets/transfer.py",
            "from p2plab import simulate",
            "p2plab/widgets/transfer.py:1 imports p2plab.simulate: ROWS has no such "
            "room; import the module that has what you need",
        ),
        (
            "p2plab/misc.py",
            "",
            "p2plab/misc.py has no room yet: give it a place in ROWS, "
            "tests/test_layers.py",
        ),
    ],
)
def test_a_wrong_door_is_named_with_its_line_and_the_reason(
    path: str, source: str, complaint: str
) -> None:
    assert complaints(path, source) == [complaint]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (
            "p2plab/protocols/go_back_n.py",
            "from ..packet import DATA\nimport collections",
        ),
        ("p2plab/protocols/__init__.py", "from p2plab.protocols.finish import Finish"),
        ("p2plab/trace.py", "def table():\n    import numpy as np"),
        ("p2plab/chunks.py", "if TYPE_CHECKING:\n    from PIL import Image"),
        ("p2plab/chunks.py", "from threading import Lock"),
        ("p2plab/rendezvous/server.py", "from p2plab.rendezvous.store import Store"),
        ("p2plab/rendezvous/store.py", "import asyncio\nfrom redis import Redis"),
        ("p2plab/lab.py", "from p2plab import peer\nimport threading"),
    ],
)
def test_a_right_door_is_left_alone(path: str, source: str) -> None:
    assert complaints(path, source) == []


def run_python(*arguments: str) -> str:
    """Return what a fresh interpreter prints."""
    command = [sys.executable, *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_importing_p2plab_loads_none_of_the_slow_packages() -> None:
    code = f"import p2plab, sys; print(*sorted(sys.modules.keys() & {set(SLOW)}))"
    loaded = run_python("-c", code).split()
    assert not loaded, f"import p2plab must stay quick, but it loads {loaded}"


def test_the_upper_rooms_import_where_no_package_is_installed() -> None:
    names = [
        ".".join(PurePosixPath(path).with_suffix("").parts).removesuffix(".__init__")
        for path in modules()
        if PurePosixPath(PurePosixPath(path).parts[1]).stem in STANDARD
    ]
    code = f"""
import importlib, sys
sys.path.insert(0, {str(ROOT)!r})
for name in {names}:
    importlib.import_module(name)
"""
    # -S: no site-packages, so the standard library is all there is
    run_python("-I", "-S", "-c", code)
