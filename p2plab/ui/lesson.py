"""For lessons: the source of a class, function or module, and predictions."""

from __future__ import annotations

import ast
import html
import inspect
import math
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import unified_diff
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.display import HTML

Words = str | Mapping[str, str]

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


@dataclass(slots=True)
class Prediction:
    """What a student expects of a run; `compare` it with what happens then.

    answer: a number, or True or False, also in quotes. None and ... are no answer yet.
        For a question with parts, a dictionary with their names, or a tuple in their
        order.
    choices: the words to choose from; upper case, spaces and hyphens do not matter.
    value, seen: what was compared: None where there was no answer.
    """

    question: str
    answer: Any
    choices: Iterable[str] = field(default=(), kw_only=True)
    value: Any = field(default=None, init=False)
    seen: Any = field(default=None, init=False)

    def compare(
        self,
        seen: Any,
        right: Words = "Right.",
        wrong: Words = "Think again.",
        *,
        low: Words = "",
        high: Words = "",
        hints: Mapping[Any, str] | None = None,
        all_right: str = "",
        within: float = 0.0,
        factor: float = 1.0,
    ) -> None:
        """Print how the prediction compares with what was seen.

        seen: what happened; a set asks for several words, a dictionary for parts.
        right, wrong, low, high: what to say; for parts also by name. Without words of
            their own, predictions that are too low or too high are wrong ones.
        hints: what to say to certain wrong answers.
        all_right: what to say after the parts, if all of them are right.
        within, factor: a number counts as right if it is so near, or so many times
            larger or smaller at most.
        What cannot be compared counts as no answer, and a sentence says why.
        """
        asked, none = self.question.removesuffix("?"), "no prediction yet"
        truths = seen if isinstance(seen, Mapping) else {asked: seen}
        answers = self.answer if truths is seen else {asked: self.answer}
        if isinstance(answers, tuple) and len(answers) == len(truths):
            answers = dict(zip(truths, answers, strict=True))
        if not isinstance(answers, Mapping):
            if answers is not None and answers is not ...:
                wanted = ", ".join(f"{name!r}: …" for name in truths)
                print(f"{answers!r} cannot be compared here: write {{{wanted}}}.")
            answers = {}
        parts = {n: self._taken(answers.get(n), truths[n]) for n in truths}
        self.seen, self.value = seen, parts if truths is seen else parts[asked]
        if all(value is None for value in parts.values()):
            print(f"{asked}: {none}. Write it above, then run both cells.")
            return
        said: dict[str, Words] = {"right": right, "wrong": wrong, "none": none}
        said |= {"low": low or wrong, "high": high or wrong}
        judged = {n: _judge(v, truths[n], within, factor) for n, v in parts.items()}
        for name, verdict in judged.items():
            words = said[verdict]
            words = words if isinstance(words, str) else words.get(name, "")
            if verdict not in ("right", "none") and hints is not None:
                words = hints.get(parts[name], words)
            kept = "" if verdict == "none" else _beside(parts[name], truths[name])
            print(f"{name}: {words}{kept}")
        if all_right and {*judged.values()} == {"right"}:
            print(all_right)

    def _taken(self, answer: Any, truth: Any) -> Any:
        """The answer as something that can be compared; None, and words, if not."""
        if answer is None or answer is ...:
            return None
        if known := {_plain(choice): choice for choice in self.choices}:
            several = isinstance(truth, set | frozenset)
            parts = answer.split(",") if isinstance(answer, str) else answer
            parts = parts if isinstance(parts, Iterable) else [answer]
            found = frozenset(known.get(_plain(part)) for part in parts)
            if None not in found and (several or len(found) == 1):
                return found if several else next(iter(found))
            wanted = "one or more" if several else "one"
            wanted = f"{wanted} of {', '.join(map(repr, known.values()))}"
        else:
            with suppress(TypeError, ValueError, SyntaxError, OverflowError):
                value = ast.literal_eval(answer) if isinstance(answer, str) else answer
                if value is None or math.isfinite(value):
                    return value
            wanted = "a number, such as 12 or 0.5, or True or False"
        print(f"{answer!r} cannot be compared here: write {wanted}.")
        return None


predict = Prediction  # a lesson says what is done


def _judge(value: Any, truth: Any, within: float, factor: float) -> str:
    if value is None:
        return "none"
    if value == truth:
        return "right"
    if not isinstance(truth, float | int):
        return "wrong"
    small, large = sorted((truth / factor, truth * factor))
    if value < small - within:
        return "low"
    return "right" if value <= large + within else "high"


def _beside(answer: Any, truth: Any) -> str:
    """The prediction beside what happened."""
    return f" (You said {_shown(answer)}; it was {_shown(truth)}.)"


def _shown(value: Any) -> str:
    if isinstance(value, set | frozenset):
        return ", ".join(sorted(map(str, value))) or "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _plain(word: Any) -> str:
    """How it compares; the kind of a packet has a name, and so is a word as well."""
    text = str(getattr(word, "name", word))
    return re.sub(r"[\s_-]+", " ", text).strip().casefold()
