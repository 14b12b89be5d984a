"""A browser's Python, Pyodide, run by Node: no page, no sockets, no threads."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
NODE = shutil.which("node")
PYODIDE = Path(sys.prefix) / "node_modules" / "pyodide"


def missing() -> str:
    """Say what is not installed here, if anything."""
    if NODE is None:
        return "node is not installed"
    if not PYODIDE.is_dir():
        return f"Pyodide is not installed: npm install --prefix {sys.prefix} pyodide"
    return ""


def in_browser_python(program: str) -> Any:
    """Run a program there; its last expression is the JSON that we return."""
    assert NODE is not None
    script = str(Path(__file__).with_suffix(".mjs"))
    done = subprocess.run(
        [NODE, script, str(PYODIDE), str(ROOT)],
        input=program,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
