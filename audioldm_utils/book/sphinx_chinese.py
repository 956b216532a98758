"""Sphinx extension for the pages under ``zh/``: search in Chinese, their language, their lines.

Sphinx takes a run of Chinese characters as one word, so that its search would find a term only
where a whole clause is asked for. Here a run becomes its pairs of neighbours, in the index and in
the query alike: a term is found wherever its pairs are, with no dictionary and no server. Single
characters are in the index too.

The pages get ``lang="zh-CN"`` and Chinese names for the theme's buttons. A line end of their
source is no space where Chinese stands beside it.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx.search.en import SearchEnglish

from audioldm_utils.book.chinese import FOLDER, HAN, INTERFACE, LANGUAGE, terms

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_SPLITTER = r"""
function splitQuery(query) {
  const pieces = /[HAN]+|(?:(?![HAN])[\p{Letter}\p{Number}_\p{Emoji_Presentation}])+/gu;
  return (query.match(pieces) || []).flatMap((piece) => {
    if (piece.length < 2 || !/[HAN]/.test(piece)) return [piece];
    return Array.from({ length: piece.length - 1 }, (_, i) => piece.slice(i, i + 2));
  });
}
"""


class BilingualSearch(SearchEnglish):
    """English search that finds Chinese terms as well."""

    lang = "en_zh"
    language_name = "English and Chinese"
    js_splitter_code = _SPLITTER.replace("HAN", HAN)

    def split(self, input: str) -> list[str]:  # its name in Sphinx
        """The words of a text."""
        return terms(input)


def is_chinese(docname: str) -> bool:
    """Whether a page is one of the Chinese ones, by its name without ending."""
    return docname.startswith(f"{FOLDER}/")


def _is_wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in "WF"


def join_lines(document: nodes.document) -> None:
    """Take out the line ends within paragraphs that stand beside Chinese, in place."""
    for paragraph in document.findall(nodes.TextElement):
        texts = [text for text in paragraph.findall(nodes.Text) if text != ""]  # nodes are true
        for before, end, after in zip(texts, texts[1:], texts[2:], strict=False):
            if end != "\n" or not _is_wide(before[-1]):
                continue
            if _is_wide(after[0]) or unicodedata.category(before[-1]).startswith("P"):
                end.parent.replace(end, nodes.Text(""))


def _read(app: Sphinx, document: nodes.document) -> None:
    if is_chinese(app.env.docname):
        join_lines(document)


def _dress(app: Sphinx, pagename: str, _: str, context: dict[str, Any], document: Any) -> None:
    if is_chinese(pagename):
        translate = context.get("translate", str)
        context["language"] = LANGUAGE
        context["gettext"] = lambda text: INTERFACE.get(text, text)
        context["translate"] = lambda text: INTERFACE.get(text) or translate(text)
        context["theme_search_bar_text"] = "搜索本书"
        for button in context.get("header_buttons", ()):  # the theme's template shows it as it is
            button["tooltip"] = INTERFACE.get(button["tooltip"], button["tooltip"])
        heading = "Link to this heading"  # which Sphinx has written into the page by now
        context["body"] = context.get("body", "").replace(f'"{heading}"', f'"{INTERFACE[heading]}"')


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx for the extension of this name."""
    app.add_search_language(BilingualSearch)
    app.connect("doctree-read", _read)
    app.connect("html-page-context", _dress, priority=900)  # after the theme's own
    return {"parallel_read_safe": True, "parallel_write_safe": True}
