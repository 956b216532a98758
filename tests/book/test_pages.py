"""Pages of the book: values filled in, links that fit, code folded."""

from __future__ import annotations

import shutil
from pathlib import PurePosixPath

import nbformat
import pytest

from audioldm_utils.book import chapters as chapters_module
from audioldm_utils.book import pages as book_pages
from audioldm_utils.book.execution import Layout
from audioldm_utils.errors import UserError
from tests.demo_project import sources, write_notebook

__all__ = ["sources"]


VALUES = {"01_listen": {"loss": "2.5 dB", "grid": '<audio src="../results/01_listen/a.flac">'}}


def test_values_are_filled_in_with_addresses_that_fit_the_page():
    page = PurePosixPath("index.md")
    text = "Lost {{01:loss}} of {{audio}}.\n\n{{01_listen:grid}}\n"
    filled = book_pages.fill(text, page, VALUES, {"audio": "data"})
    assert filled == 'Lost 2.5 dB of data.\n\n<audio src="results/01_listen/a.flac">\n'
    deep = book_pages.fill("{{01:grid}}", PurePosixPath("guides/a.md"), VALUES, {})
    assert deep == '<audio src="../results/01_listen/a.flac">'


def test_sentences_about_chapters_that_are_not_there_go():
    text = "Kept.\n\nGone {{02:x}},\nall of it.\n\n- one {{01:loss}}\n- two {{02:x}}\n\nEnd."
    filled = book_pages.fill(text, PurePosixPath("index.md"), VALUES, {})
    assert "Gone" not in filled
    assert "all of it" not in filled
    assert "- one 2.5 dB" in filled
    assert "two" not in filled
    assert filled.startswith("Kept.")
    assert filled.endswith("End.")


def test_a_table_of_which_only_the_head_is_left_goes():
    head = "| a | b |\n|:--|--:|"
    page = PurePosixPath("index.md")
    gone = book_pages.fill(f"Kept.\n\n{head}\n| x | {{{{02:x}}}} |\n\nEnd.", page, VALUES, {})
    assert gone.split() == ["Kept.", "End."]
    kept = book_pages.fill(f"{head}\n| x | {{{{02:x}}}} |\n| y | z |\n\nEnd.", page, VALUES, {})
    assert kept == f"{head}\n| y | z |\n\nEnd."


def test_facts_stay_and_fences_stay_closed():
    page = PurePosixPath("index.md")
    text = "```{note}\n:class: x\n\nOn {{audio}},\nmany.\n\n{{02:gone}} here.\n```\n\nAfter."
    filled = book_pages.fill(text, page, VALUES, {"audio": "data"})
    assert filled == "```{note}\n:class: x\n\nOn data,\nmany.\n\n```\n\nAfter."


def test_glued_text_is_read_as_python_wrote_it():
    prefix = "application/papermill.record/"
    outputs = [
        nbformat.v4.new_output("display_data", data, metadata={"scrapbook": {"name": name}})
        for name, data in (
            ("a", {f"{prefix}text/plain": "'2.1\\u202fdB'"}),
            ("b", {f"{prefix}text/plain": "<X>", f"{prefix}text/html": "<b>x</b>"}),
        )
    ]
    cell = nbformat.v4.new_code_cell("x", outputs=outputs)
    values = book_pages.glued_values(nbformat.v4.new_notebook(cells=[cell]))
    assert values == {"a": "2.1\u202fdB", "b": "<b>x</b>"}


def test_unknown_keys_are_errors():
    page = PurePosixPath("index.md")
    with pytest.raises(UserError, match=r"index.md asks for 01:lost, but 01_listen glues only"):
        book_pages.fill("{{01:lost}}", page, VALUES, {})
    with pytest.raises(UserError, match=r"index.md asks for \{\{weather\}\}"):
        book_pages.fill("{{weather}}", page, VALUES, {})


def test_mathematics_is_left_alone():
    text = r"$\bar{{x}}$ and ${{\alpha}}$"
    assert book_pages.fill(text, PurePosixPath("index.md"), VALUES, {}) == text


def test_dead_links_become_text():
    pages = [PurePosixPath("index.md"), PurePosixPath("guides/a.md")]
    page = PurePosixPath("guides/b.md")
    text = "[home](../index.md), [a](a.md#x), [gone](c.md), [out](https://x.org/y.md), ![i](i.md)"
    assert book_pages.drop_dead_links(text, page, pages) == (
        "[home](../index.md), [a](a.md#x), gone, [out](https://x.org/y.md), ![i](i.md)"
    )


def test_two_figures_in_a_cell_are_refused():
    output = nbformat.v4.new_output(
        "display_data",
        {"image/png": ""},
        metadata={book_pages.FIGURE_KEY: {"name": "a", "caption": "b", "alt": "c"}},
    )
    cell = nbformat.v4.new_code_cell("x", outputs=[output, output])
    with pytest.raises(UserError, match="shows 2 figures"):
        book_pages.dress(nbformat.v4.new_notebook(cells=[cell]))


def test_code_that_shows_nothing_is_folded_with_what_follows():
    def code(source, *outputs, tags=()):
        return nbformat.v4.new_code_cell(
            source, outputs=list(outputs), metadata={"tags": list(tags)}
        )

    glued = nbformat.v4.new_output(
        "display_data",
        {"application/papermill.record/text/plain": "'1'"},
        metadata={"scrapbook": {"name": "a"}},
    )
    shown = nbformat.v4.new_output("stream", text="x")
    text = nbformat.v4.new_markdown_cell("words")
    cells = [code("a"), code("b", glued), code("c", shown), code("d"), text, code("e")]
    cells += [code("f", tags=["show-input"]), code("g", shown), code("h")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    book_pages.dress(notebook)
    assert [c.source for c in notebook.cells] == ["a\n\nb\n\nc", "d", "words", "e", "f", "g", "h"]
    assert notebook.cells[0].outputs == [glued, shown]
    assert book_pages.glued_values(notebook) == {"a": "1"}


def test_folded_tables_are_found_by_a_name_of_their_own():
    def shown(html):
        return nbformat.v4.new_output("display_data", {"text/html": html})

    tables = ["<table><tr></table>", "<table><caption>Costs</caption></table>"]
    tables += ["<details><summary>x</summary><table></table></details>", "<p>no</p>"]
    cells = [
        nbformat.v4.new_code_cell("x", outputs=[*map(shown, tables)], metadata={"tags": tags})
        for tags in (["hide-input", "hide-output"], ["hide-input"])
    ]
    book_pages.dress(nbformat.v4.new_notebook(cells=cells))
    assert [{*cell.metadata["tags"]} for cell in cells] == [{"hide-input"}] * 2
    folded, plain = ([one.data["text/html"] for one in cell.outputs] for cell in cells)
    assert plain == tables
    assert folded[0] == f"<details><summary>Show the table</summary>{tables[0]}</details>"
    assert folded[1].startswith("<details><summary>Show the table: Costs</summary><table>")
    assert folded[2:] == tables[2:]


def test_a_book_without_chapters_can_be_staged(sources, tmp_path):
    names = ["audio", "clips", "checkpoint", "fingerprint", "version", "cores", "python"]
    names += ["skipped"]
    facts = dict.fromkeys(names, "something")
    pages = tmp_path / "pages"
    shutil.copytree(sources / "book", pages)
    folder = book_pages.stage(pages, Layout(tmp_path / "out"), [], {}, facts)
    assert "notebooks" not in (folder / "_toc.yml").read_text()
    assert "guides/reading" in (folder / "_toc.yml").read_text()
    index = (folder / "index.md").read_text()
    assert "No chapter was run" in index
    assert "{{" not in index


def test_parameter_tables_escape_bars(tmp_path):
    body = '# %% tags=["parameters"]\nclip: str = "a|b"  # one | all\n'
    chapter = chapters_module.read_chapter(write_notebook(tmp_path, "01_a", body))
    table = book_pages.parameter_tables([chapter])
    assert r'| `clip` | `str` | `"a\|b"` | one \| all |' in table
