"""The book as a PDF: what is missing is said in a sentence, and tables are opened for paper."""

import pytest

from audioldm_utils.book import printing
from audioldm_utils.errors import UserError
from tests.demo_project import built_demo

__all__ = ["built_demo"]


def test_without_chromium_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("CHROMIUM", "/nowhere/chromium")
    with pytest.raises(UserError, match="/nowhere/chromium is not installed"):
        printing.print_book(tmp_path)


def test_without_a_report_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(printing, "find_chromium", lambda: "chromium")
    with pytest.raises(UserError, match="holds no report"):
        printing.print_book(tmp_path)


def test_tables_are_opened_and_code_stays_folded():
    code = '<details class="admonition hide above-input">'
    assert printing.unfold(f"<details><summary>{code}") == f"<details open><summary>{code}"


@pytest.mark.browser
def test_the_demonstration_is_printed(built_demo):
    try:
        printing.find_chromium()
    except UserError as reason:
        pytest.skip(str(reason))
    pdf = printing.print_book(built_demo / "build")
    assert pdf == built_demo / "build" / "book.pdf"
    assert pdf.read_bytes()[:5] == b"%PDF-"
    assert not (built_demo / "build" / ".book").exists()
