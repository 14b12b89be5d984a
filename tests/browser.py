"""JupyterLab in a real Chromium: the fixtures, and the page that a test drives."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
import requests

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

ROOT = Path(__file__).resolve().parent.parent
ARTIFACTS = Path(os.environ.get("P2PLAB_ARTIFACTS") or ROOT / "artifacts")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE = 90.0  # seconds for any one step; a busy machine of two cores needs a third
SETTINGS = {
    "@jupyterlab/apputils-extension/notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
    },
    "@jupyterlab/docmanager-extension/plugin": {"autosave": False},
}

FAILED = pytest.StashKey[bool]()

# The toolbar's indicator says "idle" before there is a kernel; this does not.
IDLE = """() => {
    const session = window.jupyterapp?.shell.currentWidget?.sessionContext;
    const kernel = session?.session?.kernel;
    return Boolean(session?.isReady && kernel?.connectionStatus === "connected"
        && kernel?.status === "idle");
}"""
RUN_ALL = """() => {
    window.ranAll = false;
    window.jupyterapp.commands.execute("notebook:run-all-cells")
        .finally(() => { window.ranAll = true; });
}"""
OUTPUTS = """() => window.jupyterapp.shell.currentWidget.content.widgets
    .map(cell => cell.model.outputs?.toJSON() ?? [])"""


@dataclass(frozen=True)
class LabServer:
    """A JupyterLab on loopback whose files are a copy of the notebooks."""

    url: str
    token: str
    root: Path

    def write(self, name: str, *cells: str) -> str:
        """Put a notebook made of these code cells beside the others."""
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(cell) for cell in cells],
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        )
        (self.root / name).write_text(nbformat.writes(notebook), encoding="utf-8")
        return name

    def stop_kernels(self) -> None:
        """Shut every session down, or kernels pile up from test to test."""
        with requests.Session() as http:
            http.headers["Authorization"] = f"token {self.token}"
            sessions = http.get(f"{self.url}/api/sessions", timeout=PATIENCE).json()
            for session in sessions:
                where = f"{self.url}/api/sessions/{session['id']}"
                http.delete(where, timeout=PATIENCE)


class LabPage:
    """One tab with JupyterLab's simple interface; `page` is Playwright's own."""

    def __init__(self, page: Page, server: LabServer) -> None:
        self.page = page
        self.server = server
        page.set_default_timeout(PATIENCE * 1000)

    def open(self, notebook: str) -> None:
        """Open a notebook of the server's folder, and wait for its kernel."""
        where = f"{self.server.url}/doc/tree/{notebook}"
        self.page.goto(f"{where}?token={self.server.token}&reset")
        self.page.locator("#jupyterlab-splash").wait_for(state="detached")
        self.page.locator(".jp-Notebook").wait_for()
        self.wait_idle()

    def open_cells(self, name: str, *cells: str) -> None:
        """Write a notebook of these code cells, and open it."""
        self.open(self.server.write(name, *cells))

    def run_all(self) -> None:
        """Run all cells, and return when the last has ended or one has failed."""
        self.page.evaluate(RUN_ALL)
        self.page.wait_for_function("() => window.ranAll")
        self.wait_idle()

    def wait_idle(self) -> None:
        """Wait until a connected kernel has nothing to do."""
        self.page.wait_for_function(IDLE)

    def outputs(self) -> list[list[dict[str, Any]]]:
        """Return the outputs of every cell, in the notebook format's own form."""
        cells: list[list[dict[str, Any]]] = self.page.evaluate(OUTPUTS)
        return cells

    def errors(self) -> list[str]:
        """Return one line for every error that a cell shows."""
        return [
            f"cell {number}: {output['ename']}: {output['evalue']}"
            for number, outputs in enumerate(self.outputs(), start=1)
            for output in outputs
            if output["output_type"] == "error"
        ]

    def slider(self, nth: int = 0) -> Locator:
        """Return a slider's handle: focus() it, then press("ArrowRight")."""
        return self.page.locator(".widget-slider .noUi-handle").nth(nth)

    def screenshot(self, name: str) -> Path:
        """Keep what is on the screen as a PNG among the test artefacts."""
        path = ARTIFACTS / f"{name}.png"
        self.page.screenshot(path=path)
        return path


def jupyter_environment(home: Path) -> dict[str, str]:
    """Return variables that keep a person's own Jupyter settings out of the tests."""
    folders = {
        "JUPYTER_CONFIG_DIR": home / "config",
        "JUPYTER_DATA_DIR": home / "data",
        "JUPYTER_RUNTIME_DIR": home / "runtime",
        "JUPYTERLAB_SETTINGS_DIR": home / "settings",
        "JUPYTERLAB_WORKSPACES_DIR": home / "workspaces",
        "IPYTHONDIR": home / "ipython",
    }
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    return {name: str(folder) for name, folder in folders.items()}


def write_settings(folder: Path) -> None:
    """No pop-up about news, and nothing saved behind a test's back."""
    for plugin, settings in SETTINGS.items():
        path = folder / f"{plugin}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings), encoding="utf-8")


def lab_command(port: int, token: str, root: Path) -> list[str]:
    as_root = hasattr(os, "getuid") and os.getuid() == 0
    return [
        *(sys.executable, "-m", "jupyterlab", "--no-browser"),
        *(["--allow-root"] if as_root else []),
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={token}",
        f"--ServerApp.root_dir={root}",
        "--expose-app-in-browser",
    ]


def wait_until_it_answers(lab: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Ask until the server answers; fail with its own words if it ends before."""
    for _ in range(int(PATIENCE / 0.1)):
        try:
            requests.get(f"{url}/api", timeout=PATIENCE).raise_for_status()
            return
        except requests.ConnectionError:
            pass
        try:
            lab.wait(0.1)
            break
        except subprocess.TimeoutExpired:
            continue
    words = log.read_text(encoding="utf-8", errors="replace")
    pytest.fail(f"JupyterLab did not start:\n{words[-2000:]}")


def copy_of_the_notebooks(folder: Path) -> Path:
    """Copy notebooks/, so that nothing a test does lands in the tree."""
    ignore = shutil.ignore_patterns(".ipynb_checkpoints")
    return shutil.copytree(ROOT / "notebooks", folder, ignore=ignore)


@pytest.fixture(scope="session")
def jupyter_home(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a person who has never used Jupyter before."""
    return jupyter_environment(tmp_path_factory.mktemp("jupyter"))


@pytest.fixture(scope="session")
def lab_server(
    jupyter_home: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LabServer]:
    """One JupyterLab for all browser tests."""
    folder = tmp_path_factory.mktemp("lab")
    root = copy_of_the_notebooks(folder / "notebooks")
    write_settings(Path(jupyter_home["JUPYTERLAB_SETTINGS_DIR"]))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    server = LabServer(f"http://127.0.0.1:{port}", secrets.token_hex(8), root)
    environment = {**os.environ, **jupyter_home}
    environment.pop("MPLBACKEND", None)  # a kernel draws inline
    log = folder / "lab.log"
    with log.open("wb") as words:
        lab = subprocess.Popen(
            lab_command(port, server.token, root),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until_it_answers(lab, server.url, log)
        yield server
    finally:
        stop(lab)


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """One Chromium for all browser tests: the system's, or Playwright's own."""
    reason = "Playwright is not installed: pip install -e .[ui]"
    sync_api = pytest.importorskip("playwright.sync_api", reason=reason)
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    with sync_api.sync_playwright() as playwright:
        path = found or playwright.chromium.executable_path
        if not Path(path).exists():
            pytest.skip("no Chromium here: install it, or run playwright install")
        browser = playwright.chromium.launch(executable_path=path)
        yield browser
        browser.close()


@pytest.fixture
def lab_page(
    lab_server: LabServer, chromium: Browser, request: pytest.FixtureRequest
) -> Iterator[LabPage]:
    """A fresh tab; its kernel is stopped at the end, and a failure leaves a picture."""
    with chromium.new_context(viewport={"width": 1280, "height": 1000}) as context:
        page = LabPage(context.new_page(), lab_server)
        try:
            yield page
            if request.node.stash.get(FAILED, False):
                page.screenshot("failed-" + re.sub(r"\W+", "-", request.node.name))
        finally:
            lab_server.stop_kernels()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    item.stash[FAILED] = report.failed  # lab_page asks when the test is over
    return report
