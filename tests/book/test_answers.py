"""Every falsifier is judged, and a number on a landing page has its n."""

from __future__ import annotations

import re

import jupytext
import pytest

from audioldm_utils.studies.verdicts import REFUTED, UNDECIDED, UPHELD
from tests.glued import CHAPTERS, ROOT, filled

#: A box, and the items of a list with all their lines.
BOX = re.compile(r"^:::\{admonition\} [^\n]*answer[^\n]*\n(.*?)^:::\s*$", re.DOTALL | re.MULTILINE)
ITEM = re.compile(r"^- .*(?:\n  .*)*", re.MULTILINE)
VERDICT = re.compile(rf"\*\*({UPHELD}|{REFUTED}|{UNDECIDED})\*\*")
#: How a text says of how many its number is.
COUNTED = re.compile(r"n = \d|\d+ (\w+ )?(clips|recordings|samples|figures)\b|\d+ (项|个提示词)")


def unjudged(text: str, chapter: str) -> list[str]:
    """Lines of a chapter's box that make a claim, and have no verdict once values are filled in."""
    found = BOX.search(text)
    assert found, "the chapter has no answer box"
    items = ITEM.findall(found[1])
    assert items, "the box says nothing that could change our mind"
    return [item for item in items if not VERDICT.search(filled(item, chapter))]


def uncounted(page: str) -> list[str]:
    """Items of a page's lists that take a number from a chapter and do not say of how many."""
    found = []
    for item in ITEM.findall(page):
        values = [filled(one) for one in re.findall(r"\{\{\d\d[^}]*\}\}", item)]
        if re.search(r"\d", "".join(values)) and not COUNTED.search(filled(item)):
            found.append(filled(item))
    return found


def markdown_of(chapter: str) -> str:
    cells = jupytext.read(CHAPTERS[chapter]).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_falsifier_has_its_verdict(chapter):
    assert unjudged(markdown_of(chapter), chapter) == []


@pytest.mark.parametrize("page", ["index.md", "zh/index.md"])
def test_every_number_of_a_landing_page_has_its_n(page):
    assert uncounted((ROOT / "book" / page).read_text(encoding="utf-8")) == []


def test_what_is_not_judged_or_counted_is_found():
    box = (
        ":::{admonition} The answer\n- It holds: **{glue:text}`claim_1`**.\n- So\n  does %s.\n:::\n"
    )
    assert unjudged(box % "this: **{glue:text}`claim_2`**", "01") == []
    for open_still in ("this", "this: **{glue:text}`n`**", "this: **{glue:text}`no_such_key`**"):
        assert len(unjudged(box % open_still, "01")) == 1
    item = "- It costs {{01_bottleneck_analysis:polarity_snr}}%s.\n"
    assert len(uncounted(item % "")) == 1
    assert uncounted(item % " (n = {{01_bottleneck_analysis:n_attacks}})") == []
    assert uncounted("- It is {{01_bottleneck_analysis:claim_1}}.\n- It has 7.\n") == []
