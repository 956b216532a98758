"""From ``book/`` and executed notebooks to a folder that Jupyter Book can build as it is.

Pages may take any number, figure or player that a chapter glued: ``{{01:mel_loss}}`` is the
value of the key ``mel_loss`` of the chapter whose number is 01. A paragraph, list item or table
row that asks a chapter which is not in this build is left out, and links to pages that are not
in it become plain text, so that a report of some chapters is a whole book too. A key that its
chapter does not have is an error. An evidence table with the columns ``key`` and ``text`` is
asked in the same way, by its name: ``{{streaming:n}}``.
"""

from __future__ import annotations

import ast
import csv
import posixpath
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from audioldm_utils.book import chinese
from audioldm_utils.book.chapters import Chapter
from audioldm_utils.book.execution import Stamp
from audioldm_utils.book.layout import Layout
from audioldm_utils.book.reference import write_reference
from audioldm_utils.errors import UserError
from audioldm_utils.text import markdown, markup, one_line, visible

if TYPE_CHECKING:
    from nbformat import NotebookNode

FIGURE_KEY = "audioldm_utils_figure"
"""Output metadata by which a figure brings its name, caption and alternative text."""

_RECORD = "application/papermill.record/"
# Not inside mathematics, where doubled braces are common: \bar{{x}}, ${{x}}$.
_REFERENCE = re.compile(r"(?<![A-Za-z0-9_}$^\\])\{\{\s*([a-z0-9_]+)(?::([A-Za-z0-9_.-]+))?\s*\}\}")
_LINK = re.compile(r"(?<!!)\[([^\[\]]+)\]\(([^()#\s:]+\.(?:md|ipynb))(#[^()\s]*)?\)")
_FENCE = re.compile(r"\s*(`{3,}|:{3,}|~{3,})")
_ITEM = re.compile(r"\s*([|*+-]|\d+\.)\s*\S")
_RULE = re.compile(r"\s*\|[\s:|-]+\|\s*")
_NO_CHAPTER = "*No chapter was run for this build.*"


def glued_values(notebook: NotebookNode) -> dict[str, str]:
    """Key to Markdown or HTML of all that an executed notebook glued; text shows as it is."""
    values: dict[str, str] = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            record = output.get("metadata", {}).get("scrapbook")
            if not record:
                continue
            data = {mime.removeprefix(_RECORD): content for mime, content in output.data.items()}
            # Glue keeps text as Python writes it.
            plain = ast.literal_eval(data["text/plain"]) if "text/html" not in data else ""
            values[record["name"]] = data.get("text/html", markdown(plain))
    return values


def table_values(evidence: Path) -> dict[str, dict[str, str]]:
    """Table name to its texts by key, of evidence tables that have both columns.

    What a page shows beside them lies as ``KEY.html`` in a folder of the table's name.
    """
    values: dict[str, dict[str, str]] = {}
    for path in sorted(evidence.glob("*.csv")):
        with path.open(newline="", encoding="utf-8") as handle:
            reader = csv.DictReader(handle)
            if not {"key", "text"} <= set(reader.fieldnames or ()):
                continue
            values[path.stem] = {row["key"]: row["text"] for row in reader}
        for shown in sorted(path.with_suffix("").glob("*.html")):
            values[path.stem][shown.stem] = shown.read_text(encoding="utf-8").strip()
    return values


def fill(
    text: str,
    page: PurePosixPath,
    values: Mapping[str, Mapping[str, str]],
    facts: Mapping[str, str],
) -> str:
    """Put values into a page.

    Args:
        text: MyST Markdown with ``{{chapter:key}}`` and ``{{fact}}``.
        page: its path in the book; addresses of results are relative to it.
        values: chapter or evidence table to its values.
        facts: what the report itself knows, as Markdown.

    Raises:
        UserError: a key that its chapter lacks, or an unknown fact.
    """
    up = "../" * (len(page.parts) - 1)

    def value(match: re.Match[str]) -> str:
        source, key = match.groups()
        known, name, refused = facts, source, f"{{{{{source}}}}}; there are"
        if key is not None:
            chapter, name = _chapter_of(source, values), key
            known, refused = values[chapter], f"{source}:{key}, but {chapter} glues only"
        if name not in known:
            listed = ", ".join(sorted(known)) or "none"
            raise UserError(f"{page} asks for {refused}: {listed}.")
        found = known[name].replace("../results/", f"{up}results/")
        return chinese.said(found) if page.parts[0] == chinese.FOLDER else found

    def answerable(line: str) -> bool:
        return all(
            not key or _chapter_of(source, values) for source, key in _REFERENCE.findall(line)
        )

    blocks = []
    for block in re.split(r"(\n[ \t]*\n)", text):
        lines = block.split("\n")
        if not answerable(block):
            # Lists and tables lose a line, other paragraphs go as a whole; fences stay closed.
            fences = [line for line in lines if _FENCE.match(line)]
            itemised = all(_ITEM.match(line) for line in lines if line not in fences)
            lines = [x for x in lines if x in fences or (itemised and answerable(x))]
            if len(lines) > 1 and _RULE.fullmatch(lines[-1]):
                lines = []  # of a table its head alone is left
        blocks.append(_REFERENCE.sub(value, "\n".join(lines)))
    return "".join(blocks)


def _chapter_of(source: str, values: Mapping[str, Any]) -> str | None:
    return next((name for name in values if name in (source, f"{source}_{name[3:]}")), None)


def drop_dead_links(text: str, page: PurePosixPath, pages: Iterable[PurePosixPath]) -> str:
    """Make plain text of Markdown links to pages that are not in the book."""
    there = {str(p) for p in pages}

    def keep(match: re.Match[str]) -> str:
        target = posixpath.normpath(f"/{page.parent / match[2]}")
        return match[0] if target[1:] in there else match[1]

    return _LINK.sub(keep, text)


def dress(notebook: NotebookNode) -> None:
    """Make a page of an executed notebook, in place.

    Figures get their number, caption and alternative text from what the cell's output says;
    code is folded away unless its cell is tagged ``show-input``, tables of a cell that is tagged
    ``hide-output`` behind «Show the table»; what was printed shows its control characters.

    Raises:
        UserError: a cell with two captioned figures, of which only one could be numbered.
    """
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type != "code":
            continue
        tags = cell.metadata.setdefault("tags", [])
        if not {"show-input", "remove-input", "remove-cell"} & set(tags):
            tags.append("hide-input")
        folded = "hide-output" in tags
        cell.metadata["tags"] = tags = [tag for tag in tags if tag != "hide-output"]
        for output in cell.outputs:
            if output.output_type == "stream":
                output.text = visible(output.text, keep="\n\t")
            if folded and "<table" in (table := output.get("data", {}).get("text/html", "")):
                output.data["text/html"] = _folded(table)
        said = [output for output in cell.outputs if FIGURE_KEY in output.get("metadata", {})]
        figures = [output for output in said if not output.metadata.get("scrapbook")]
        if len(figures) > 1:
            raise UserError(f"cell {index + 1} shows {len(figures)} figures: one a cell, please.")
        for output in figures:
            figure = output.metadata.pop(FIGURE_KEY)
            output.data.pop("text/html", None)
            told = {"name": figure["name"], "caption": markdown(figure["caption"])}
            cell.metadata["mystnb"] = {
                "figure": told | {"align": "center"},
                "image": {"alt": one_line(figure["alt"])},
            }
    notebook.metadata.pop("papermill", None)
    notebook.cells = _joined(notebook.cells)


def _folded(table: str) -> str:
    """A table behind a line that says so, with its caption; it is one already, or becomes one."""
    if table.startswith("<details"):
        return table
    caption = re.search(r"<caption>(.*?)</caption>", table)
    said = f"Show the table: {caption[1]}" if caption else "Show the table"
    return f"<details><summary>{said}</summary>{table}</details>"


def _joined(cells: list[NotebookNode]) -> list[NotebookNode]:
    """Folded code that shows nothing goes into the fold of the code cell after it."""
    kept: list[NotebookNode] = []
    for cell in cells:
        if kept and _is_folded(kept[-1]) and _is_folded(cell) and _is_mute(kept[-1]):
            before = kept.pop()
            cell.source = f"{before.source}\n\n{cell.source}"
            cell.outputs = [*before.outputs, *cell.outputs]
        kept.append(cell)
    return kept


def _is_folded(cell: NotebookNode) -> bool:
    return cell.cell_type == "code" and "hide-input" in cell.metadata.get("tags", ())


def _is_mute(cell: NotebookNode) -> bool:
    """Nothing is shown: no outputs, or only values that were glued for sentences."""
    return all(
        mime.startswith(_RECORD)
        for output in cell.outputs
        for mime in output.get("data", {"shown": ""})
    )


def stage(
    book: Path,
    layout: Layout,
    chapters: Iterable[Chapter],
    stamps: Mapping[str, Stamp],
    facts: Mapping[str, str],
) -> Path:
    """Write the folder that Jupyter Book builds and return it.

    ``chapters`` are those of this build, all executed; ``facts`` is Markdown by name for
    ``{{name}}``, to which four tables of chapters are added.
    """
    import nbformat
    import yaml

    # They come in the order in which they ran; the reader's is that of their numbers.
    chapters = sorted(chapters, key=lambda chapter: chapter.name)
    folder = layout.out / "stage"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(book, folder, ignore=shutil.ignore_patterns("evidence", ".*", "__pycache__"))
    notebooks = {c.name: nbformat.read(layout.executed(c.name), as_version=4) for c in chapters}
    values = {name: glued_values(notebook) for name, notebook in notebooks.items()}
    values |= table_values(book / "evidence")
    facts = {
        **facts,
        "execution": execution_table(chapters, stamps),
        "chapters": chapter_list(chapters, notebooks),
        "parameters": parameter_tables(chapters),
        "downloads": download_list(book, layout, chapters),
    }
    if "reference/" in (folder / "_toc.yml").read_text(encoding="utf-8"):
        write_reference(folder / "reference")
    texts = {PurePosixPath(p.relative_to(folder).as_posix()): p for p in folder.rglob("*.md")}
    executed = {PurePosixPath(f"notebooks/{name}.ipynb"): n for name, n in notebooks.items()}

    def finish(text: str, page: PurePosixPath) -> str:
        # Links first: what is put in is never read again.
        return fill(drop_dead_links(text, page, [*texts, *executed]), page, values, facts)

    for page, path in texts.items():
        path.write_text(finish(path.read_text(encoding="utf-8"), page), encoding="utf-8")
    (folder / "notebooks").mkdir(exist_ok=True)
    for page, notebook in executed.items():
        dress(notebook)
        # Its number, by which the commands know it.
        first = next(cell for cell in notebook.cells if cell.cell_type == "markdown")
        first.source = re.sub("^# ", f"# {page.stem[:2]} · ", first.source, count=1, flags=re.M)
        if links := table_links(layout.results(page.stem), page.stem):
            text = f"<details>\n<summary>Tables of this chapter</summary>\n{links}\n</details>"
            notebook.cells.append(nbformat.v4.new_markdown_cell(text, id="tables"))
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = finish(cell.source, page)
        nbformat.write(notebook, folder / page)
    # A part of the contents whose patterns find nothing would be an error.
    toc = folder / "_toc.yml"
    contents = yaml.safe_load(toc.read_text(encoding="utf-8"))
    contents["parts"] = [
        part
        for part in contents.get("parts", [])
        if any("glob" not in item or any(folder.glob(item["glob"])) for item in part["chapters"])
    ]
    toc.write_text(yaml.safe_dump(contents, sort_keys=False), encoding="utf-8")
    return folder


def execution_table(chapters: Iterable[Chapter], stamps: Mapping[str, Stamp]) -> str:
    """Seconds and peak memory of each chapter as a Markdown table."""
    rows = [
        f"| [{c.title}](notebooks/{c.name}.ipynb) | {stamps[c.name].cells} "
        f"| {stamps[c.name].seconds:.1f} | {stamps[c.name].peak_mb:.0f} |"
        for c in chapters
    ]
    if not rows:
        return _NO_CHAPTER
    total = sum(stamps[c.name].seconds for c in chapters)
    head = ["| Chapter | Code cells | Time, s | Peak memory, MB |", "|:--|--:|--:|--:|"]
    foot = f"| **All, one after another** | | **{total:.1f}** | |"
    return "\n".join([*head, *rows, foot])


def chapter_list(chapters: Iterable[Chapter], notebooks: Mapping[str, NotebookNode]) -> str:
    """Links to the chapters, each with its question, or the first paragraph under its title."""
    items = []
    for chapter in chapters:
        first = next(c.source for c in notebooks[chapter.name].cells if c.cell_type == "markdown")
        # A question stands first in the answer box.
        plain = re.sub(r"^(#|:::|:class:).*$|\*\*(Question\.)?", "", first, flags=re.MULTILINE)
        lead = " ".join(re.split(r"\n\s*\n", plain.strip())[0].split())
        lead = re.sub(r"\?.*", "?", lead)
        name = f"{chapter.name[:2]} · {chapter.title}"
        items.append(f"- [**{name}**](notebooks/{chapter.name}.ipynb). {lead}".rstrip())
    return "\n".join(items) or _NO_CHAPTER


def parameter_tables(chapters: Iterable[Chapter]) -> str:
    """One table a chapter: parameter, type, default, meaning."""
    blocks = []
    for chapter in chapters:
        rows = []
        for p in chapter.parameters:
            cells = f"`{p.name}`", f"`{p.kind}`", f"`{p.default}`", p.help
            # A bar inside a cell ends it even within code, unless it is escaped.
            rows.append("| {} |".format(" | ".join(c.replace("|", "\\|") for c in cells)))
        head = [f"**{chapter.title}** (`{chapter.path.name}`)", ""]
        head += ["| Parameter | Type | Default | Meaning |", "|:--|:--|:--|:--|"]
        blocks.append("\n".join([*head, *rows]) if rows else f"{head[0]} takes no parameters.")
    return "\n\n".join(blocks) or _NO_CHAPTER


def download_list(book: Path, layout: Layout, chapters: Iterable[Chapter]) -> str:
    """Links to every table that the chapters wrote and to the evidence, as an HTML list."""
    folders = {c.name: (f"This report: {c.title}", layout.results(c.name)) for c in chapters}
    folders["evidence"] = "Evidence on the evaluation clips", book / "evidence"
    lists = {title: table_links(folder, name) for name, (title, folder) in folders.items()}
    said = [f"<p><strong>{markup(title)}</strong></p>\n{x}" for title, x in lists.items() if x]
    return "\n".join(said) or "*No table was written in this build.*"


def table_links(folder: Path, name: str) -> str:
    """Links to the tables of a folder that lies in the book as ``results/name``: an HTML list."""
    lines = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix in {".csv", ".parquet"}):
        address = f"../results/{name}/{path.relative_to(folder).as_posix()}"
        size = path.stat().st_size
        shown = f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{max(1, round(size / 1e3))} kB"
        link = f'<a href="{markup(address)}" download>{markup(path.name)}</a>'
        lines.append(f"<li>{link} ({shown})</li>")
    return "\n".join(["<ul>", *lines, "</ul>"]) if lines else ""
