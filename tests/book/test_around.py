"""What stands under a page: links where the book has an address, and how to cite it."""

import re

from sphinx.jinja2glue import SphinxFileSystemLoader
from sphinx.util.template import BaseRenderer

from tests.demo_project import ROOT

ADDRESS = "https://github.com/owner/name"


def under(page, address="", **more):
    loader = SphinxFileSystemLoader(str(ROOT / "book" / "_templates"))
    said = {"theme_repository_url": address, "theme_repository_branch": "main", "root_doc": "index"}
    said |= {"page_source_suffix": ".md", "title": "02 · <em>Repair</em>", "docstitle": "The book"}
    said |= {"author": "the project", "copyright": "2026", "release": "1.2", "translate": str}
    return BaseRenderer(loader).render("around.html", {**said, "pagename": page, **more})


def links(page, address=ADDRESS, **more):
    return re.findall('href="([^"]*)"', under(page, address, **more))


def test_without_an_address_nothing_leads_there():
    for page in ("index", "notebooks/01_a", "guides/api"):
        assert not links(page, "")


def test_chapters_are_edited_where_they_are_written_and_run_at_hosts():
    assert links("notebooks/01_a", ADDRESS + "/") == [
        f"{ADDRESS}/edit/main/notebooks/01_a.py",
        f"{ADDRESS}/issues/new?title=notebooks/01_a%3A%20",
        "https://mybinder.org/v2/gh/owner/name/main?urlpath=lab/tree/notebooks/01_a.ipynb",
        "https://colab.research.google.com/github/owner/name/blob/main/notebooks/01_a.ipynb",
    ]


def test_pages_are_edited_in_the_book_and_made_ones_nowhere():
    report = f"{ADDRESS}/issues/new?title="
    assert links("guides/api") == [
        f"{ADDRESS}/edit/main/book/guides/api.md",
        f"{report}guides/api%3A%20",
    ]
    assert links("reference/audio") == [f"{report}reference/audio%3A%20"]
    assert not links("search", page_source_suffix=None)


def test_other_hosts_have_no_launch_links():
    assert len(links("notebooks/01_a", "https://example.org/x")) == 2


def test_bibtex_of_a_chapter_and_of_the_book():
    entry = re.search("<pre>(.*)</pre>", under("notebooks/02_repair", ADDRESS), re.DOTALL)[1]
    assert entry.splitlines() == [
        "@incollection{audioldm-utils-02_repair,",
        "  author = {{the project}},",
        "  title = {Repair},",
        "  booktitle = {The book},",
        "  chapter = {2},",
        "  year = {2026},",
        "  note = {Version 1.2},",
        f"  url = {{{ADDRESS}}},",
        "}",
    ]
    assert "@book{audioldm-utils-index," in under("index")
    assert "@" not in under("guides/api")
