"""The grader: judges a file in a child process that has limits on time and memory."""

from __future__ import annotations

import faulthandler
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from p2plab.checker import CHANNELS, check, guard
from p2plab.checker.checking import require_possible
from p2plab.checker.fingerprint import difference, fingerprint
from p2plab.checker.promises import Promise
from p2plab.checker.source import last_line, place
from p2plab.errors import P2PLabError

MEMORY: Final = 2**30  # that a child may have, where the system can limit it [bytes]
LOADING: Final = 4.0  # for the file itself [s]
STUCK: Final = 2.0  # for what Python cannot interrupt [s]
GRACE: Final = 20.0  # beyond the budget, for a child that does not even end itself [s]
_SEEDS: Final = {"judge": "0", "again": "4711"}  # of hash(), for each child
_RESULT, _LOADED, _CRASH = "result.json", "loaded", "crash.txt"


class Unusable(P2PLabError):
    """There is no protocol in the file, or no file."""


def grade(
    file: str | Path,
    channel: str = "fifo",
    budget: float = 2.0,
    seed: int = 0,
    speed: float | None = None,
) -> dict[str, Any]:
    """Judge the `Sender` and `Receiver` that a Python file defines.

    Returns what Verdict.to_json returns. The file runs in child processes only, which
    end some seconds after the budget at the latest; on Windows nothing limits their
    memory.
    Raises Unusable if there is no protocol in the file.
    """
    path = Path(file).resolve()
    if not path.is_file():
        raise Unusable(f"there is no file {file}")
    require_possible(channel, budget, seed, speed)
    limit = budget + GRACE
    words = [str(path), channel, str(budget), str(seed), str(speed or 0)]
    jobs, answers = [], []
    with tempfile.TemporaryDirectory() as folder:
        try:
            for role, hash_seed in _SEEDS.items():
                room = Path(folder) / role
                room.mkdir()
                child = _start([role, *words, str(room)], hash_seed)
                jobs.append(_Job(child, room))
            begun = time.monotonic()
            for job in jobs:
                answer = job.answer(limit - (time.monotonic() - begun))
                if answer is None:
                    took = time.monotonic() - begun
                    return {**_died(job, path, channel), "seconds": took}
                if "unusable" in answer:
                    raise Unusable(answer["unusable"])
                if answer.get("verdict") == "breach":
                    return answer
                answers.append(answer)
            return _compared(*answers)
        finally:
            for job in jobs:
                job.end()


def report(verdict: dict[str, Any]) -> str:
    """Write what `grade` returned for a person to read."""
    network = CHANNELS[verdict["channel"]].words
    lines = [
        f"{verdict['verdict']}: {verdict['sentence']}",
        f"The network ({verdict['channel']}): {network}.",
    ]
    for event in verdict["ladder"]:
        packet = f"{event['kind']} {event['seq']}" if "kind" in event else ""
        text = f"{event['time']:9.3f} s  {event['host']:8}  {event['what']:10} {packet}"
        lines.append(text.rstrip())
    return "\n".join(lines)


@dataclass(slots=True)
class _Job:
    child: subprocess.Popen[bytes]
    room: Path

    def answer(self, patience: float) -> dict[str, Any] | None:
        """Wait for the child; None if it did not say anything."""
        with suppress(subprocess.TimeoutExpired, OSError, ValueError):
            self.child.wait(max(patience, 0.1))
            said: dict[str, Any] = json.loads((self.room / _RESULT).read_text("utf-8"))
            return said
        return None

    def end(self) -> None:
        """End the child, and what it may have started."""
        if sys.platform != "win32":
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.child.pid, signal.SIGKILL)
        self.child.kill()
        self.child.wait()


def _start(words: Sequence[str], hash_seed: str) -> subprocess.Popen[bytes]:
    here = str(Path(__file__).resolve().parent.parent)
    paths = [here, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ,
        "PYTHONHASHSEED": hash_seed,
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OPENBLAS_NUM_THREADS": "1",  # numpy asks for 40 MB for each of them
    }
    nothing = subprocess.DEVNULL
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "p2plab.checker.grader", *words],
        env=environment,
        stdin=nothing,
        stdout=nothing,
        stderr=nothing,
        start_new_session=os.name == "posix",
    )


def _died(job: _Job, path: Path, channel: str) -> dict[str, Any]:
    """Say how a child ended that left no verdict."""
    doing = "running" if (job.room / _LOADED).exists() else "loading"
    status = job.child.returncode
    crash = job.room / _CRASH
    text = crash.read_text("utf-8", "replace") if crash.exists() else ""
    lines = re.findall(rf'File "{re.escape(str(path))}", line (\d+)', text)
    where = f" It was last seen at {place(str(path), int(lines[0]))}." if lines else ""
    if status is None or "Timeout (" in text:
        limit = STUCK if doing == "running" else LOADING
        what, promise = f"did not come back within about {limit:.0f} s", Promise.END
    elif status < 0:
        what, promise = f"crashed Python ({_signal(-status)})", Promise.NO_EXCEPTION
    else:
        what = f"ended the whole process (exit status {status}; os._exit?)"
        promise = Promise.NO_EXCEPTION
    sentence = f"{doing.capitalize()} {path.name} {what}.{where} {promise.broken}"
    return _breach(channel, promise, sentence)


def _breach(channel: str, promise: Promise, sentence: str) -> dict[str, Any]:
    return {
        "verdict": "breach",
        "channel": channel,
        "faults": 0,
        "promise": promise,
        "sentence": sentence,
        "ladder": [],
        "schedules": 0,
        "seconds": 0.0,
    }


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _compared(verdict: dict[str, Any], again: dict[str, Any]) -> dict[str, Any]:
    """Look whether the second process saw the same packets."""
    found = difference(verdict.pop("fingerprint"), again["fingerprint"])
    if found is None:
        return verdict
    words, ladder = found
    sentence = (
        f"In a second process, with another seed for hash(), the same trial took "
        f"another course: {words}. Does something depend on the order of a set, on "
        f"hash(), on chance or on a clock? {Promise.SAME_AGAIN.broken}"
    )
    kept = {name: verdict[name] for name in ("schedules", "seconds")}
    breach = _breach(verdict["channel"], Promise.SAME_AGAIN, sentence)
    return {**breach, "ladder": ladder, **kept}


# From here on: inside the child.


def _child(words: Sequence[str]) -> None:
    role, file, channel, budget, seed, speed, folder = words
    sys.argv = [file]
    room = Path(folder)
    with (room / _CRASH).open("w") as crash:
        _limit_memory()
        faulthandler.enable(crash)
        end_after = partial(faulthandler.dump_traceback_later, exit=True, file=crash)
        end_after(LOADING)
        try:
            module = _load(Path(file))
            makers = _machines(module, Path(file).name)
        except Unusable as why:
            said: dict[str, Any] = {"unusable": str(why)}
        else:
            (room / _LOADED).touch()
            end_after(float(budget) + GRACE / 2)  # where nothing can be watched
            guard.on_look = partial(end_after, STUCK)
            said = {}
            if role == "judge":
                left = max(float(budget) / 2, float(budget) - time.process_time())
                share = float(speed) or None
                said = check(*makers, channel, left, int(seed), speed=share).to_json()
            if said.get("verdict") != "breach":
                seconds = float(budget) / 4
                said["fingerprint"] = fingerprint(makers, channel, int(seed), seconds)
        faulthandler.cancel_dump_traceback_later()
        part = room / "part"
        part.write_text(json.dumps(said), "utf-8")
        part.replace(room / _RESULT)  # all of it or nothing
    os._exit(0)  # whatever threads the file has started


def _limit_memory() -> None:
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with suppress(ValueError, OSError):  # macOS does not keep this one
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def _load(path: Path) -> ModuleType:
    sys.path.append(str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise Unusable(f"{path.name} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)  # dataclasses look there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as why:
        line = getattr(why, "lineno", None)
        where = place(str(path), line) if line else last_line(why, {str(path)})[1]
        raise Unusable(
            f"{path.name} could not be loaded: {type(why).__name__}: {why}"
            + (f" at {where}" if where else "")
        ) from None
    return module


def _machines(module: ModuleType, name: str) -> tuple[Any, Any]:
    found = []
    for wanted in ("Sender", "Receiver"):
        kind = getattr(module, wanted, None)
        if not callable(kind):
            close = get_close_matches(wanted, dir(module), n=1, cutoff=0.6)
            hint = f" (it defines {close[0]})" if close else ""
            if kind is not None:
                hint = f" that is a class: it is {kind!r:.60}"
            raise Unusable(f"{name} defines no {wanted}{hint}")
        found.append(kind)
    return found[0], found[1]


if __name__ == "__main__":
    _child(sys.argv[1:])
