"""Tokens and keys appear nowhere, and what others call themselves stays text."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from loopback import PATIENCE, PICTURE, eventually
from matplotlib.axes import Axes

from p2plab import plots
from p2plab.core.meeting import Seen
from p2plab.errors import RendezvousError
from p2plab.peer.peer import Peer
from p2plab.rendezvous import client
from p2plab.rendezvous.admission import Request
from p2plab.rendezvous.client import understood
from p2plab.rendezvous.model import legal_name
from p2plab.rendezvous.server import RendezvousServer
from p2plab.ui import PeerPanel

HTML = "<b>x</b>"
STEERING = "\x1b[31mbob\x07"
SESSION = "00c0ffee00c0ffee"


def secrets_of(peer: Peer) -> list[str]:
    """Everything of a peer that nobody else may read, as it could be written."""
    assert peer.registration is not None
    found = [peer.registration.token, peer.registration.nonce]
    for meeting in peer.meetings:
        key = meeting.met.key
        found += [key.hex(), repr(key)[2:-1], str(list(key))[1:-1]]
    return found


def drawn(axes: Axes) -> str:
    """The figure as a file."""
    page = io.StringIO()
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.savefig(page, format="svg")
    return page.getvalue()


def test_no_token_and_no_key_is_in_a_log_a_repr_a_trace_or_a_file(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    with (
        RendezvousServer(redis_url="") as server,
        Peer("alice", server.url) as alice,
        Peer("bob", server.url) as bob,
    ):
        alice.register()
        bob.register()
        alice.send_text("bob", "hello")
        transfer = alice.send_picture("bob", PICTURE).wait(PATIENCE)
        meeting = alice.introduce("bob")
        meeting.contact.wait()
        eventually(lambda: bob.meetings.last("alice"), "bob has met alice, too")
        thief = requests.get(
            f"{server.url}/rooms/lobby/peers/alice/inbox",
            headers={"Authorization": "Bearer " + "t" * 32},
            timeout=PATIENCE,
        )
        assert thief.status_code == 403
        seen = meeting.seen()
        transfer.trace.save(tmp_path / "transfer.json")
        alice.text_trace(bob).save(tmp_path / "texts.json")
        things: list[object] = [alice, bob, alice.registration, transfer, *seen]
        things += [meeting, meeting.met, meeting.session, meeting.contact]
        things += [alice.rendezvous, alice.meetings, alice.pictures, alice.text_events]
        things += [bob.inbox, transfer.trace.about, server, server.contents()]
        pages = [*map(repr, things), plots.meeting_table(seen), thief.text]
        pages += [drawn(plots.ladder(transfer.trace)), drawn(plots.meeting(seen))]
        pages += [path.read_text() for path in tmp_path.iterdir()]
        pages += [caplog.text, *(str(each.__dict__) for each in caplog.records)]
        told = "\n".join(pages)
        assert "uvicorn" in caplog.text, "a log was kept"
        secret = [*secrets_of(alice), *secrets_of(bob)]
    assert len(secret) >= 10
    assert [each for each in secret if each in told] == []


@pytest.mark.parametrize("name", [HTML, STEERING, "\u202ebob", "bob\n", ""])
def test_a_rendezvous_cannot_bring_a_name_that_is_none(name: str) -> None:
    with pytest.raises(ValueError, match="a name has"):
        legal_name(name)
    one = {"name": name, "since": 1}
    event = {"what": "asked", "session": SESSION, "peer": name}
    row = {"at": 1.0, "who": name, "what": "probe", "note": ""}
    readers: list[tuple[Any, dict[str, Any]]] = [
        (client.LISTED, one),
        (client.PAGE, {"peers": [one], "next": None}),
        (client.INBOX, {"events": [event], "next": "1-0"}),
        (client.MEETING, {"events": [row]}),
    ]
    for kind, answer in readers:
        with pytest.raises(RendezvousError, match="not a p2plab rendezvous"):
            understood(kind, 200, json.dumps(answer).encode(), "http://127.0.0.1")


def test_even_such_a_name_would_stay_text_in_panel_table_and_figure() -> None:
    rows = [Seen(float(n), "introduce", HTML, HTML) for n in range(3)]
    shown = plots.meeting_table(rows) + drawn(plots.meeting(rows))
    with RendezvousServer(redis_url="") as server:
        panel = PeerPanel(server.url, name="ann").register().wait()
        panel.requests.draw([Request(HTML, SESSION, lambda *told: None)])
        shown += panel.requests.box.children[0].children[0].value
        panel.close()
    assert HTML not in shown
    assert shown.count("&lt;b&gt;x&lt;/b&gt;") >= 3


@contextmanager
def hostile_rendezvous(message: str) -> Iterator[str]:
    """Refuses everything, in its own words."""
    refusal = {"error": "bug", "message": message, "do": "", "retry_after": None}

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.send_response(409)
            self.end_headers()
            self.wfile.write(json.dumps(refusal).encode())

        def log_message(self, *words: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_the_words_of_a_rendezvous_cannot_steer_the_terminal() -> None:
    with hostile_rendezvous("\x1b[31m\x1b]0;gotcha\x07no\r") as url:
        run = subprocess.run(
            [sys.executable, "-m", "p2plab", "peer", "ann", "--rendezvous", url],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert run.returncode == 1
    assert r"gotcha\x07no" in run.stderr
    assert run.stderr.rstrip("\n").isprintable()
