"""Names and captions of strangers: shown as they are, on terminals and on pages."""

from __future__ import annotations

import contextlib
import html.parser
import io
import shutil
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from audioldm_utils import text
from audioldm_utils.book.report import run_report
from audioldm_utils.cli import jobs
from audioldm_utils.cli import main as cli
from audioldm_utils.errors import UserError
from tests.demo_project import ROOT, write_notebook

#: File names without suffix; each would do something to a page or a terminal.
HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)<!script>",
    "{ref}`nowhere`",
    "{ref}`nowhere` and `{ref}`",
    "blank\n\n# line of its own",
    "\n\n```{raw} html",
    "`one` ``two``",
    "**bold** _it_ ~~gone~~",
    "[a](javascript:alert)",
    "![p](x.png)",
    "{{07:gone}} {{audio}}",
    "$\\frac{$ and $$",
    "a|b&amp;c",
    "- item",
    "1. first",
    "# head",
    "% remark",
    "(target)=",
    ": : :::{note}",
    "\\begin{align}",
    "\x1b[2J\x1b]0;title\x07 red",
    "\u202eevil",
    "line\rback",
    "x" * 200,
]


# --- the functions ---


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("plain é ü 雨.wav", "plain é ü 雨.wav"),
        ("2.5\u202fdB\xa0", "2.5\u202fdB\xa0"),
        ("\x1b[31m", "\\x1b[31m"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x9b2J\x7f", "\\x9b2J\\x7f"),
        ("\u202e\u2028\ufeff", "\\u202e\\u2028\\ufeff"),
        ("\udcff", "\\udcff"),  # a byte of a name that is no UTF-8
        ("👩\u200d👧", "👩\u200d👧"),
    ],
)
def test_control_characters_become_visible(given, shown):
    assert text.visible(given) == shown
    assert text.visible(shown) == shown


def test_what_is_escaped_for_a_page():
    assert text.markdown("0.5 kbit/s (n = 3), «rain» — 95 %") == "0.5 kbit/s (n = 3), «rain» — 95 %"
    assert text.markdown("a\n\n<b>*c*</b>") == r"a \<b\>\*c\*\</b\>"
    assert text.markdown("1. one") == "1\\. one"
    assert text.code("a`b``c") == "```a`b``c```"
    assert text.code("`a`") == "`` `a` ``"
    assert text.markup('<"a"\n\nb') == "&lt;&quot;a&quot; b"


# --- terminals ---


@pytest.mark.parametrize("name", HOSTILE)
def test_no_command_lets_a_control_character_through(name, tmp_path, capfd):
    """Missing files, wrong choices, unknown commands: the name is quoted, and does nothing."""
    path = str(tmp_path / name)
    for words in (
        [name],
        ["encode", f"{path}.wav", "x.ddcm"],
        ["reconstruct", f"{path}.wav", "x.wav"],
        ["generate", "x", "y.wav", "--device", name],
        ["generate", name, f"{path}.mp3"],
        ["inspect", path],
        ["sweep", path],
        ["report", "-p", name, "1"],
        ["recordings", "--registry", path],
    ):
        assert cli.main(words) == 2
        out, said = capfd.readouterr()
        assert out == ""
        assert text.visible(said, keep="\n") == said
        assert said.count("\n") == 1


def test_streams_are_guarded_and_put_back(monkeypatch, capsys):
    before = sys.stdout, sys.stderr
    with text.guarded():
        print("a\x1b[2J\nb\tc")
        print("\rover \x1b[A", end="")
        print("\r 5 % \x1b[2J\x1b[A\r", end="", file=sys.stderr)
        print("\n\x1b[A", end="", file=sys.stderr)
        assert sys.stdout.encoding == before[0].encoding
        assert sys.stdout.fileno is not None
    assert (sys.stdout, sys.stderr) == before
    out, said = capsys.readouterr()
    assert out == "a\\x1b[2J\nb\tc\n\\rover \\x1b[A"
    assert said == "\r 5 % \\x1b[2J\\x1b[A\r\n\x1b[A"


def test_bars_over_files_show_names(tmp_path, monkeypatch, capsys):
    def fail(source, target):
        raise UserError(f"{source}: broken")

    with text.guarded():
        jobs.each([(Path("a\x1b[2J\nb"), Path("x")), (Path("c"), Path("y"))], fail, "encode")
    said = capsys.readouterr().err
    assert "a\\x1b[2J\\nb: broken" in said
    assert "\x1b[2J" not in said


# --- pages ---

CHAPTER = """
# %% [markdown]
# # Names
#
# What are the clips called?

# %% tags=["parameters"]
audio_dir: str = "data/audio"  # folder of clips
out_dir: str = "build/results/01_names"  # tables and audio

# %%
from pathlib import Path

from audioldm_utils.book import listening

from audioldm_utils.book import plotting

from audioldm_utils.results import summaries as results
from audioldm_utils.audio.clips import load_clip
from audioldm_utils.audio.survey import usable_clips

plotting.style()
clips = [load_clip(info) for info in usable_clips(audio_dir)]
names = " / ".join(clip.name for clip in clips)
rows = results.ResultsBuilder(method="vae")
for clip in clips:
    rows.add(clip.name, "mae", float(abs(clip.samples).mean()), "1", category=clip.name)
table = rows.table()
plotting.glue_value("names", names);

# %% [markdown]
# Their names are {glue:text}`names`.

# %%
plotting.plain_table(table[["clip", "class", "value"]].set_index("class"), index=True)

# %%
results.tabulate(results.summarise(table, by=("clip", "metric")), rows="clip")

# %%
wide = table.pivot_table(index="class", columns="method", values="value")
shown = plotting.figure_caption(
    plotting.heatmap(wide, "mean", "method", "class").figure,
    "fig-names", f"Clips: {names}.", f"Rows {names}.",
)
plotting.glue_object("figure", shown)
shown

# %%
part = results.summarise(table, by=("clip", "metric"))
plotting.figure_caption(
    plotting.points_with_intervals(part, "mean", category="clip").figure,
    "fig-points", clips[0].name, clips[0].name,
)

# %%
takes = [listening.Take("original", clips[0].samples, clips[0].sample_rate)] * 2
rows = [listening.Row(clip.name, takes, clip.caption or "") for clip in clips]
grid = listening.players(rows, Path(out_dir) / "listening", names)
plotting.glue_object("players", grid)
grid
"""

INDEX = """\
# Start

Checkpoint {{checkpoint}}, audio {{audio}}, names {{01:names}}.

{{skipped}}

| Names | n |
|:--|--:|
| {{01:names}} | {{clips}} |

- {{01:names}}

{{01:players}}

{{01:figure}}

After.
"""


class Page(html.parser.HTMLParser):
    """The tags with their attributes, and the text, of an HTML page."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.words = [], []
        self.feed(path.read_text())
        self.text = " ".join("".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def hostile_book(tmp_path_factory):
    """A book of one chapter about clips, a folder and a checkpoint with hostile names."""
    root = tmp_path_factory.mktemp("hostile")
    write_notebook(root / "notebooks", "01_names", CHAPTER)
    audio = root / "`a` ``` <b>folder\n\n{ref}`b`"
    audio.mkdir()
    for number, name in enumerate(HOSTILE):
        tone = (0.1 + number / 100) * np.sin(np.arange(4000) / 10)
        sf.write(audio / f"{name}.wav", tone, 16000)
    (audio / "{ref}`broken`\n\n<i>.wav").write_bytes(b"")
    (audio / "notes\n\n<u>.doc").write_text("no audio")
    book = root / "book"
    for name in ("assets", "_templates"):
        shutil.copytree(ROOT / "book" / name, book / name)
    for name in ("_config.yml", "references.bib", "execution.md"):
        shutil.copy(ROOT / "book" / name, book / name)
    (book / "index.md").write_text(INDEX)
    (book / "_toc.yml").write_text(
        textwrap.dedent("""\
        format: jb-book
        root: index
        parts:
          - caption: Chapters
            chapters: [{glob: notebooks/*}, {file: execution}]
        """)
    )
    mini = root / "data" / "checkpoints" / "mini"
    mini.mkdir(parents=True)
    (mini / "config.json").write_text("{}")
    said = io.StringIO()
    with contextlib.redirect_stderr(said), text.guarded():
        page = run_report(audio, "<b>`x`", root / "build", root=root, progress=sys.stderr)
    return page.parent, said.getvalue()


@pytest.mark.processes
def test_pages_show_hostile_names_and_nothing_else(hostile_book):
    """The book builds with warnings as errors, and every name stands in it as it is."""
    folder, said = hostile_book
    assert text.visible(said, keep="\n\r") == said
    for name in ("index.html", "execution.html", "notebooks/01_names.html"):
        page = Page(folder / name)
        article = " ".join(page.text.split())
        if name != "execution.html":
            for one in HOSTILE:
                assert " ".join(text.one_line(one).split()) in article, (name, one)
        assert "{ref}`broken` <i>.wav: the file is empty" in article, name
        assert "`a` ``` <b>folder {ref}`b`" in article, name
        for tag, attributes in page.tags:
            assert "onerror" not in attributes, (name, tag, attributes)
            assert tag not in ("b", "i", "u", "s", "del") or attributes, (name, tag)  # no icon
            assert attributes.get("src") not in ("x", "x.png"), (name, tag)
            assert attributes.get("id") not in ("head", "line-of-its-own"), (name, tag)
            assert not (attributes.get("href") or "").startswith("javascript:"), (name, tag)
    page = Page(folder / "notebooks" / "01_names.html")
    assert sum(tag == "audio" for tag, _ in page.tags) == 2 * len(HOSTILE)
    assert sum(tag == "figcaption" for tag, _ in page.tags) >= 3
    assert page.text.count("After.") == 0
    index = Page(folder / "index.html")
    assert "<b>`x`" in index.text
    assert index.text.count("After.") == 1
