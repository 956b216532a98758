"""Text from outside on its way to a terminal or a page: what it says, and nothing that it does.

Names of files, captions, prompts and classes come from strangers. They are made harmless where
text leaves the program.
"""

from __future__ import annotations

import html
import re
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

#: Joiners, which scripts and emoji need; other format characters turn the reading order.
_JOINERS = "\u200c\u200d"
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
#: What MyST reads in the midst of a line, and at its beginning.
_ACTIVE = re.compile(r"[\\`*_{}\[\]<>&$|~]")
_LEADING = re.compile(r"^([-+=%#:(]|\d+(?=[.)](?:\s|$)))")
_SPACE = re.compile(r"[ \t\r\n\v\f\x85\u2028\u2029]+")  # not those that keep a unit with its number
# What progress bars begin and end with: they go back, or up, to draw over themselves.
_MOVES = re.compile(r"((?:[\r\n]|\x1b\[A)*)(.*?)([\r\n]*)", re.DOTALL)
_NO_MOVES = re.compile(r"()(.*)()", re.DOTALL)


def visible(text: object, keep: str = "") -> str:
    r"""Text for a terminal: control characters as ``\x1b``, except those to ``keep``.

    Bidirectional marks and halves of characters (names that are no UTF-8) become visible too.
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in _HIDDEN and character not in _JOINERS + keep
        else character
        for character in text
    )


def plain(text: str) -> str:
    """What a program printed without its colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def one_line(text: object) -> str:
    """Text for a page: white space is single spaces, other control characters are visible."""
    return visible(_SPACE.sub(" ", str(text)).strip())


def markdown(text: object) -> str:
    """Text that a MyST page shows as it is, within a paragraph, list item, cell or caption."""
    escaped = _ACTIVE.sub(r"\\\g<0>", one_line(text))
    return _LEADING.sub(lambda m: m[0] + "\\" if m[0][0].isdigit() else f"\\{m[0]}", escaped)


def code(text: object) -> str:
    """Text as a code span of a MyST page, whatever backticks it has."""
    line = one_line(text)
    runs = [len(run) for run in re.findall("`+", line)]
    fence = "`" * next(n for n in range(1, len(runs) + 2) if n not in runs)
    # A space next to a fence is taken off again, where there is one on both sides.
    space = " " if not line or line[0] in "` " or line[-1] in "` " else ""
    return f"{fence}{space}{line}{space}{fence}"


def markup(text: object) -> str:
    """Text for HTML, also within an attribute: no markup, and no line on which Markdown begins."""
    return html.escape(one_line(text))


class _Guarded:
    """A text stream that shows control characters; line ends pass, and a progress bar's moves."""

    def __init__(self, stream: Any, moves: re.Pattern[str]) -> None:
        self._stream, self._moves = stream, moves

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write; the length is that of what was asked for."""
        before, said, after = self._moves.fullmatch(text).groups()  # type: ignore[union-attr]
        self._stream.write(before + visible(said, keep="\n\t") + after)
        return len(text)


@contextmanager
def guarded() -> Iterator[None]:
    """Standard output and error of a command, through which no control character gets."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Guarded(before[0], _NO_MOVES), _Guarded(before[1], _MOVES)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
