"""For lessons: the source of a class, function or module, and a prediction's value."""

from __future__ import annotations

import ast
import html
import inspect
import math
import re
from collections.abc import Iterable, Mapping
from difflib import unified_diff
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.display import HTML

# Written out, because a page's own styles for <pre> differ, in dark themes most of all.
_BOX = "padding: 0.6em 1em; overflow-x: auto; color: #1b1b1b;"
_TEXT = (
    "margin: 0; font-family: var(--jp-code-font-family, monospace), monospace; "
    "white-space: pre; background: transparent; color: inherit;"
)


def show(thing: Any, *, against: Any = None, about: str = "") -> HTML:
    """Return the source of a class, function, module or exhibit, for a notebook.

    against: show only what changes from that one to `thing`, as a unified diff.
    about: show only the paragraphs, from blank line to blank line, with these words.
    Raises ValueError if no paragraph has them, TypeError for things without a source.
    """
    from IPython.display import HTML

    where, source = _source(thing)
    language = "python"
    if about:
        paragraphs = [each for each in source.split("\n\n") if about in each]
        if not paragraphs:
            raise ValueError(f"no paragraph of {where} has the words {about!r}")
        source = "\n\n".join(paragraphs)
        language = "python" if _is_code(source) else "text"
    if against is not None:
        before, old = _source(against)
        lines = unified_diff(old.splitlines(), source.splitlines(), n=2, lineterm="")
        source = "\n".join(list(lines)[2:])  # the caption has the names
        where, language = f"from {before} (-) to {where} (+)", "diff"
    page = _page(where, source, language)
    return HTML(page)  # type: ignore[no-untyped-call]


def _is_code(source: str) -> bool:
    """Whether it is Python, and not the words of a docstring."""
    try:
        ast.parse(dedent(source))
    except SyntaxError:
        return False
    return True


def _source(thing: Any) -> tuple[str, str]:
    """Where it stands, from the package on, and what stands there."""
    if pages := getattr(thing, "pages", None):  # an exhibit of the museum
        places, sources = zip(*map(_source, pages), strict=True)
        return ", ".join(places), "\n\n\n".join(sources)
    file = Path(inspect.getfile(thing))
    # The last folder of that name: a clone's own folder is called so, too.
    package = (inspect.getmodule(thing) or inspect).__name__.split(".")[0]
    after = [at for at, part in enumerate(file.parts) if part == package]
    where = "/".join(file.parts[after[-1] if after else -1 :])
    if not inspect.ismodule(thing):
        where = f"{where}: {thing.__qualname__}"
    return where, inspect.getsource(thing).strip("\n")


def _page(caption: str, source: str, language: str) -> str:
    # type stubs for these are not worth a dependency
    from pygments import highlight  # type: ignore[import-untyped]
    from pygments.formatters import HtmlFormatter  # type: ignore[import-untyped]
    from pygments.lexers import get_lexer_by_name  # type: ignore[import-untyped]

    formatter = HtmlFormatter(noclasses=True, cssstyles=_BOX, prestyles=_TEXT)
    code = highlight(source, get_lexer_by_name(language), formatter)
    title = html.escape(caption)
    return f"<figure style='margin: 0'><figcaption>{title}</figcaption>{code}</figure>"


def as_value(prediction: Any, least: float = -math.inf, most: float = math.inf) -> Any:
    """Return a number, or True or False, also if it was written in quotes.

    None stays None. Anything else, and a number that is not in [least, most], becomes
    None, and a printed sentence says why.
    """
    try:
        quoted = isinstance(prediction, str)
        value = ast.literal_eval(prediction) if quoted else prediction
        if value is None or (math.isfinite(value) and least <= value <= most):
            return value
    except (TypeError, ValueError, SyntaxError, OverflowError):
        pass
    _refuse(prediction, f"write {_wanted(least, most)}")
    return None


def as_values(
    predictions: Any,
    names: Iterable[str],
    least: float = -math.inf,
    most: float = math.inf,
) -> dict[str, Any]:
    """Return a value for each name, as `as_value` does, from what a student wrote.

    Without a dictionary every value is None, and a printed sentence says why.
    """
    names = list(names)
    if not isinstance(predictions, Mapping):
        if predictions is not None:
            wanted = ", ".join(f"{name!r}: …" for name in names)
            _refuse(predictions, f"write {{{wanted}}}")
        predictions = {}
    return {name: as_value(predictions.get(name), least, most) for name in names}


def as_word(prediction: Any, choices: Iterable[str]) -> str | None:
    """Return which of the choices a student wrote, as `as_words` does, if it is one."""
    choices = list(choices)
    words = as_words(prediction, choices)
    if words is None or len(words) == 1:
        return words.pop() if words else None
    _refuse(prediction, f"write one of {', '.join(map(repr, choices))}")
    return None


def as_words(prediction: Any, choices: Iterable[str]) -> set[str] | None:
    """Return which of the choices a student wrote: in a set, a list, or one alone.

    Upper case, spaces and hyphens do not matter. None stays None. Anything else becomes
    None, and a printed sentence says why.
    """
    known = {_plain(choice): choice for choice in choices}
    if prediction is None:
        return None
    several = prediction.split(",") if isinstance(prediction, str) else prediction
    if not isinstance(several, Iterable):
        several = [prediction]
    words = set(map(_plain, several))
    if words <= known.keys():
        return {known[word] for word in words}
    _refuse(prediction, f"write one or more of {', '.join(map(repr, known.values()))}")
    return None


def _plain(word: Any) -> str:
    """How it compares; the kind of a packet has a name, and so is a word as well."""
    text = str(getattr(word, "name", word))
    return re.sub(r"[\s_-]+", " ", text).strip().casefold()


def _wanted(least: float, most: float) -> str:
    if math.isinf(least):
        return "a number, such as 12 or 0.5, or True or False"
    limits = f"{least:g} or more" if math.isinf(most) else f"{least:g} to {most:g}"
    return f"a number, {limits}"


def _refuse(prediction: Any, advice: str) -> None:
    print(f"{prediction!r} cannot be compared here: {advice}.")
