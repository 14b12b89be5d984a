"""A button that brings a file from the browser, however large it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anywidget
import traitlets

from p2plab.content.content import MAX_BYTES


class Upload(anywidget.AnyWidget):
    """A button; `value` has the file, as the value of a FileUpload has it.

    A file comes in pieces, so that no front end's limit on a message cuts it. One of
    more than `limit` bytes is not sent at all: then its `content` is None.
    """

    _esm = (Path(__file__).parent / "upload.mjs").read_text(encoding="utf-8")
    label = traitlets.Unicode("Upload a picture").tag(sync=True)
    accept = traitlets.Unicode("image/*").tag(sync=True)
    limit = traitlets.Int(MAX_BYTES).tag(sync=True)
    value: Any = traitlets.Tuple()

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        self._pieces = bytearray()
        self.on_msg(self._take)

    def _take(self, _: object, piece: dict[str, Any], buffers: list[Any]) -> None:
        name, size, start = str(piece["name"]), int(piece["size"]), int(piece["start"])
        if start < 0:
            self.value = ({"name": name, "size": size, "content": None},)
            return
        if start == 0:
            self._pieces.clear()
        if start != len(self._pieces) or size > self.limit:
            return  # of an upload that was given up
        self._pieces += b"".join(map(bytes, buffers))
        self.send({"got": start})
        if len(self._pieces) >= size:
            content, self._pieces = bytes(self._pieces), bytearray()
            self.value = ({"name": name, "size": size, "content": content},)
