"""The whole book as one PDF: a single page of all chapters in order, printed by Chromium."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from audioldm_utils.book.layout import Layout
from audioldm_utils.book.lifeline import command
from audioldm_utils.errors import UserError
from audioldm_utils.files import atomic_write

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_chromium() -> str:
    """The browser named by the variable CHROMIUM, or the first one that is installed.

    Raises:
        UserError: there is none.
    """
    named = os.environ.get("CHROMIUM")
    found = named or next(filter(None, map(shutil.which, _NAMES)), None)
    if not found or not shutil.which(found):
        raise UserError(
            f"{named or 'Chromium'} is not installed, and only it prints the book: install it "
            "(Debian, Ubuntu: apt-get install chromium) or name one by CHROMIUM=/path/to/chromium."
        )
    return found


def print_book(out: str | Path) -> Path:
    """Print the book of a report as ``book.pdf`` beside its ``html`` folder.

    Players are left out, and tables are unfolded.

    Args:
        out: output folder of a finished report.

    Raises:
        UserError: Chromium is missing or failed, or there is no report.
    """
    chromium = find_chromium()
    layout = Layout(Path(out))
    staged, work, pdf = layout.out / "stage", layout.out / ".book", layout.out / "book.pdf"
    if not (staged / "_config.yml").is_file():
        raise UserError(f"{out} holds no report: build one by `audioldm-utils report` first.")
    shutil.rmtree(work, ignore_errors=True)
    # Without the API, which is for looking up.
    contents = re.sub(r" *- glob: reference/.*\n", "", (staged / "_toc.yml").read_text("utf-8"))
    toc = (work / "toc.yml").resolve()
    atomic_write(toc, contents)
    words = ["build", str(staged), "--path-output", str(work), "--toc", str(toc)]
    words += ["--builder", "singlehtml"]
    _run(command("jupyter_book.cli.main:main", *words), layout.log("pdf"), "the page")
    page = (work / "_build" / "singlehtml" / "index.html").resolve()
    page.write_text(unfold(page.read_text(encoding="utf-8")), encoding="utf-8")
    made = work / "book.pdf"
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer"]
    # Virtual time: as long as the formulas take, and no longer.
    flags += ["--virtual-time-budget=60000", f"--print-to-pdf={made.resolve()}"]
    _run([chromium, *flags, page.as_uri()], layout.log("chromium"), "the PDF")
    os.replace(made, pdf)
    shutil.rmtree(work, ignore_errors=True)
    return pdf


def unfold(page: str) -> str:
    """A page with its folded tables opened, for paper; folded code, which has a class, stays."""
    return page.replace("<details>", "<details open>")


def _run(words: list[str], log: Path, made: str) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as handle:
        environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
        status = subprocess.call(words, stdout=handle, stderr=subprocess.STDOUT, env=environment)
    if status != 0:
        raise UserError(f"{made} was not made ({status}); what was said is in {log}.")
