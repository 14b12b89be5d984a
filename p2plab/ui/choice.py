"""A picture to send: a sample in several sizes, or one that somebody brings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import ipywidgets as widgets

from p2plab.content.chunks import cut
from p2plab.content.sample import sample_picture
from p2plab.errors import BadContent
from p2plab.ui.knobs import INDENT, dropdown

SIZES: Final = (64, 128, 256, 512)
_OWN: Final = "own"  # the choice that stands for a picture which somebody brought
_YOURS: Final = "your picture"
_UNREADABLE: Final = "not a picture"  # part of what is said of a file that is none


class PictureChoice:
    """A sample picture in several sizes, or one that somebody brings."""

    name = "picture"

    def __init__(self, size: int = 256) -> None:
        self._own: object = None
        self._samples: list[tuple[str, Any]] = [
            (f"landscape, {each} × {each}", each) for each in SIZES
        ]
        self.choice = dropdown("picture-choice", "Picture", self._samples, size)
        self.upload = widgets.FileUpload(
            accept="image/*",
            description="Upload a picture\n",  # the count of files goes below, unseen
            icon="",  # what room there is, the words need
            layout=widgets.Layout(width="auto", margin=f"2px 2px 2px {INDENT}"),
        )
        self.upload.add_class("p2p-upload")
        self.box = widgets.VBox([self.choice, self.upload])

    @property
    def value(self) -> object:
        """Whatever `send_picture` takes; BadContent meets what it refuses."""
        chosen = self.choice.value
        return self._own if chosen == _OWN else sample_picture(chosen)

    @value.setter
    def value(self, picture: object) -> None:
        if isinstance(picture, int):
            if picture not in SIZES:
                raise ValueError(f"the sample has sizes {SIZES}, got {picture}")
            self.choice.value = picture
        else:
            self._bring(picture, _YOURS)

    def observe(self, callback: Callable[[object], None]) -> None:
        """Call it with every new choice."""
        self.choice.observe(callback, "value")

    def take_upload(self) -> None:
        """Choose what was uploaded; raises BadContent, and then nothing changes."""
        if files := self.upload.value:
            self.upload.value = ()  # or nobody would hear of the same file again
            self._bring(files, str(files[0]["name"]))

    def _bring(self, picture: object, label: str) -> None:
        try:
            cut(picture, kind="picture")
        except BadContent as why:
            if _UNREADABLE not in str(why):
                raise
            what = label if label == _YOURS else f"the file {label}"
            raise BadContent(
                f"{what} is not a picture that can be read: "
                "choose a PNG, JPEG, GIF or WebP file"
            ) from why
        if self.choice.value == _OWN:  # or nobody would hear of the second one
            self.choice.value = SIZES[0]
        self._own = picture
        self.choice.options = [*self._samples, (label[:40], _OWN)]
        self.choice.value = _OWN
