"""Getting started: an import, and the first picture of the first notebook."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from figures import Figure
from jupyter_client.manager import start_new_kernel

ROUNDS = 7
NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
IMPORT = """
import time
start = time.perf_counter()
import {}
taken = time.perf_counter() - start
import json, sys
sys.path += {}
from peak import peak
print(json.dumps([taken, peak()]))
"""


def imports() -> Iterator[Figure]:
    """How long a new interpreter takes to import us, and its memory then."""
    found: dict[str, list[list[float]]] = {"p2plab": [], "numpy": []}
    for _ in range(ROUNDS):
        for module, tries in found.items():
            program = IMPORT.format(module, sys.path)
            answer = subprocess.check_output([sys.executable, "-c", program])
            tries.append(json.loads(answer))
    for column, unit, factor in ((0, "s", 1.0), (1, "MB, all of Python", 1e-6)):
        ours, others = (
            factor * median(each[column] for each in found[module]) for module in found
        )
        yield Figure(
            "import p2plab", f"{ours:.3g} {unit}", f"numpy: {others:.3g}", others / ours
        )


def first_picture() -> Iterator[Figure]:
    """Run the first notebook in a fresh kernel until it shows a picture."""
    notebook = json.loads((NOTEBOOKS / "00-start-here.ipynb").read_text("utf-8"))
    sources = ["".join(cell["source"]) for cell in notebook["cells"]]
    kinds = [cell["cell_type"] for cell in notebook["cells"]]
    shown: list[float] = []

    def look(message: dict[str, Any]) -> None:
        data = message["content"].get("data", {})
        if (
            "image/png" in data
            or "<svg" in data.get("text/html", "")
            or "<iframe" in data.get("text/html", "")
            or "<img" in data.get("text/html", "")
        ):
            shown.append(time.perf_counter())

    manager, client = start_new_kernel(kernel_name="python3", cwd=str(NOTEBOOKS))
    begun, cells = time.perf_counter(), 0
    try:
        for kind, source in zip(kinds, sources, strict=True):
            if kind == "code" and not shown:
                client.execute_interactive(source, output_hook=look, timeout=60)
                cells += 1
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    yield Figure(
        "the first picture of the first notebook",
        f"{shown[0] - begun:.2f} s",
        f"the first {cells} cells, each at once",
    )


def startup() -> Iterator[Figure]:
    """Return all of it."""
    yield from imports()
    yield from first_picture()
