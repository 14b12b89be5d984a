"""The grader: judges a file in child processes that have limits on time and memory."""

from __future__ import annotations

import faulthandler
import importlib.util
import json
import linecache
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from p2plab.checker import CHANNELS, Promise, Verdict, VerdictKind, check
from p2plab.checker.run import Makers, difference
from p2plab.checker.search import fingerprint, require_possible
from p2plab.core.validation import on_one_line
from p2plab.errors import P2PLabError

MEMORY: Final = 2**30  # that a child may have, where the system can limit it [bytes]
LOADING: Final = 4.0  # for the file itself, each of two times [s]
GRACE: Final = 8.0  # beyond the budget, for what Python cannot interrupt, too [s]
_ANSWER, _CRASH = "answer.json", "crash.txt"


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
    Raises Unusable if there is no protocol in the file, and ValueError for an
    impossible channel, budget, seed or speed.
    """
    path = Path(file).resolve()
    if not path.is_file():
        raise Unusable(f"there is no file {file}")
    require_possible(channel, budget, seed, speed)
    order = {"file": str(path), "channel": channel, "budget": budget, "seed": seed}
    verdict = _in_a_child({**order, "judge": True, "speed": speed}, hash_seed="0")
    if verdict["verdict"] == "breach":
        return verdict
    again = _in_a_child({**order, "judge": False}, hash_seed="4711")
    if again.get("verdict") == "breach":
        return again
    found = difference(verdict.pop("fingerprint"), again["fingerprint"])
    if found is None:
        return verdict
    words, ladder = found
    sentence = (
        f"In a second process, with another seed for hash(), the same trial took "
        f"another course: {words}. Does something depend on the order of a set, on "
        f"hash(), on chance or on a clock?"
    )
    kept = {name: verdict[name] for name in ("schedules", "seconds")}
    return {**_breach(channel, Promise.SAME_AGAIN, sentence), "ladder": ladder, **kept}


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
    return "\n".join(map(on_one_line, lines))


def _in_a_child(order: dict[str, Any], hash_seed: str) -> dict[str, Any]:
    """Return what a child process answers, or how it ended without an answer."""
    begun, path = time.monotonic(), Path(order["file"])
    with tempfile.TemporaryDirectory() as folder:
        child = _start(json.dumps({**order, "folder": folder}), hash_seed)
        try:
            with suppress(subprocess.TimeoutExpired):
                child.wait(order["budget"] + 3 * LOADING + GRACE)
            status = child.poll()
        finally:
            _end(child)
        answer: dict[str, Any] = {}
        with suppress(OSError, ValueError):  # it may have ended while it wrote
            answer = json.loads(Path(folder, _ANSWER).read_text("utf-8"))
        crash = ""
        with suppress(OSError):
            crash = Path(folder, _CRASH).read_text("utf-8", "replace")
    if "unusable" in answer:
        raise Unusable(on_one_line(str(answer["unusable"])))
    if "fingerprint" in answer or "verdict" in answer:
        return answer
    took, promise = round(time.monotonic() - begun, 3), Promise.NO_EXCEPTION
    if status is None or "Timeout (" in crash:
        what = f"did not come back: it was stopped after {took:.0f} s"
        promise = Promise.END
    elif status < 0:
        what = f"crashed Python ({signal.strsignal(-status)})"
    else:
        what = f"ended the whole process (exit status {status}; os._exit?)"
    sentence = f"{answer.get('doing', 'Loading')} {path.name} {what}."
    if lines := re.findall(rf'File "{re.escape(str(path))}", line (\d+)', crash):
        sentence += f" It was last seen at {_line(path, int(lines[0]))}."
    return {**_breach(order["channel"], promise, sentence), "seconds": took}


def _start(order: str, hash_seed: str) -> subprocess.Popen[bytes]:
    here = str(Path(__file__).resolve().parents[2])
    paths = [here, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ,
        "PYTHONHASHSEED": hash_seed,
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OPENBLAS_NUM_THREADS": "1",  # numpy asks for 40 MB for each of them
    }
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "p2plab.commands.grader", order],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a child, and what it may have started."""
    if sys.platform != "win32":
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
    child.kill()
    child.wait()


def _breach(channel: str, promise: Promise, sentence: str) -> dict[str, Any]:
    sentence += f" {promise.broken}"
    return Verdict(VerdictKind.BREACH, channel, sentence, promise).to_json()


def unusable(channel: str, why: str) -> dict[str, Any]:
    """Return what programs are told of a file that cannot be judged."""
    verdict = Verdict(VerdictKind.UNJUDGED, channel, why).to_json()
    return {**verdict, "verdict": "unusable", "faults": None}


def _line(path: Path, number: int) -> str:
    return (
        f"{path.name}, line {number}: `{linecache.getline(str(path), number).strip()}`"
    )


# From here on: inside the child.


def _child(
    folder: str,
    file: str,
    judge: bool,
    channel: str,
    budget: float,
    seed: int,
    speed: float | None = None,
) -> None:
    path = Path(file)
    sys.argv = [file]
    _limit_memory()
    with Path(folder, _CRASH).open("w") as crash:
        faulthandler.enable(crash)
        faulthandler.dump_traceback_later(2 * LOADING, exit=True, file=crash)
        try:
            makers, together = _load_twice(path)
        except Unusable as why:
            said: dict[str, Any] = {"unusable": str(why)}
        else:
            limit = budget + GRACE
            faulthandler.dump_traceback_later(limit, exit=True, file=crash)
            Path(folder, _ANSWER).write_text('{"doing": "Running"}', "utf-8")
            said = {}
            if judge:
                said = check(
                    *makers, channel, budget, seed, speed=speed, together=together
                ).to_json()
            if said.get("verdict") != "breach":
                said["fingerprint"] = fingerprint(
                    makers, CHANNELS[channel], seed, budget / 4
                )
        Path(folder, _ANSWER).write_text(json.dumps(said), "utf-8")
    os._exit(0)  # whatever threads the file has started


def _limit_memory() -> None:
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with suppress(ValueError, OSError):  # macOS does not keep this one
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def _load_twice(path: Path) -> tuple[Makers, Makers]:
    """Load a file twice, so that its two sides can have nothing in common.

    Returns a sender of the first copy with a receiver of the second one, and both of
    the first. What the file imports from its own folder is loaded twice as well.
    """
    sys.path.append(str(path.parent))
    before = set(sys.modules)
    together = _load(path)
    for name in set(sys.modules) - before:
        file = Path(getattr(sys.modules[name], "__file__", None) or "")
        ours = path.parent in file.parents and "site-packages" not in file.parts
        if ours and not name.startswith("p2plab."):
            del sys.modules[name]
    return (together[0], _load(path)[1]), together


def _load(path: Path) -> Makers:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise Unusable(f"{path.name} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)  # dataclasses look there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as why:
        frames = traceback.extract_tb(why.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(path)]
        line = getattr(why, "lineno", None) or (lines or [None])[-1]
        raise Unusable(
            f"{path.name} could not be loaded: {type(why).__name__}: {why}"
            + (f" at {_line(path, line)}" if line else "")
        ) from None
    for name in ("Sender", "Receiver"):
        if not callable(getattr(module, name, None)):
            close = get_close_matches(name, dir(module), n=1)
            hint = f" (it defines {close[0]})" if close and close != [name] else ""
            raise Unusable(f"{path.name} defines no class {name}{hint}")
    return module.Sender, module.Receiver


if __name__ == "__main__":
    _child(**json.loads(sys.argv[1]))
