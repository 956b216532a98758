"""The report: parameters refused before a run, what is run again, failures, staging, the book."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import nbformat
import pytest

from audioldm_utils import chapters as chapters_module
from audioldm_utils import execution, report, staging
from audioldm_utils.chapters import check_parameters, find_chapters, fits, is_paired, select
from audioldm_utils.commands import report as command
from audioldm_utils.errors import UserError
from audioldm_utils.execution import ChapterError, Layout, hash_tree, run_chapters
from audioldm_utils.locks import folder_lock
from tests.demo_project import built_demo, make_project, write_audio, write_notebook

__all__ = ["built_demo"]


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("sources"))


# --- what a chapter declares -------------------------------------------------------------------


def test_chapter_is_read_without_running(sources):
    first, second = find_chapters(sources / "notebooks")
    assert (first.name, first.title, first.after) == ("01_listen", "Listening", ())
    assert second.after == ("01_listen",)
    assert first.parameter("seed") == chapters_module.Parameter("seed", "int", "0", "of every draw")
    assert first.cells == 7


def test_selection_brings_what_is_read_along(sources):
    everything = find_chapters(sources / "notebooks")
    assert [c.name for c in select(everything, ["02"])] == ["01_listen", "02_read"]
    assert [c.name for c in select(everything, ["01_listen"])] == ["01_listen"]
    with pytest.raises(UserError, match=r"'03' names no chapter.*01_listen, 02_read"):
        select(everything, ["03"])


def test_dependencies_that_cannot_be_met_are_refused(tmp_path):
    write_notebook(tmp_path, "01_a", "# %%\n1\n", after="[02_b]")
    write_notebook(tmp_path, "02_b", "# %%\n1\n", after="[01_a]")
    with pytest.raises(UserError, match="in a circle"):
        select(find_chapters(tmp_path), None)
    write_notebook(tmp_path, "02_b", "# %%\n1\n", after="[03_c]")
    with pytest.raises(UserError, match="'03_c', which is no chapter"):
        select(find_chapters(tmp_path), None)


@pytest.mark.parametrize(
    ("value", "kind", "right"),
    [
        (3, "int", True),
        (True, "int", False),
        (3, "float", True),
        (3.5, "int", False),
        ("a", "str", True),
        (None, "str", False),
        (None, "Optional[int]", True),
        ("a", "Optional[int]", False),
        (["a"], "list[str]", True),
        ([1], "list[str]", False),
        ({"a": 1.5}, "dict[str, float]", True),
        (object(), "None", True),
    ],
)
def test_types(value, kind, right):
    assert fits(value, kind) is right


def test_type_that_is_not_understood_is_named():
    with pytest.raises(UserError, match="'set"):
        fits(1, "set[int]")


def test_parameters_go_to_those_that_declare_them(sources):
    everything = find_chapters(sources / "notebooks")
    taken = check_parameters(everything, {"seed": "7", "limit": 1, "bands": "low,mid"})
    assert taken == {"01_listen": {"seed": 7, "bands": ["low", "mid"]}, "02_read": {"limit": 1}}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sede": 1}, r"no chapter has a parameter 'sede'.*01_listen.ipynb takes .*seed.*02_read"),
        ({"seed": "three"}, r"01_listen.ipynb: parameter seed must be int \(default 0\).*'three'"),
        ({"seed": 1.5}, "must be int"),
        ({"scale": "loud"}, "scale must be float"),
        ({"bands": [1]}, r"bands must be list\[str\]"),
    ],
)
def test_wrong_parameters_are_refused(sources, given, message):
    with pytest.raises(UserError, match=message):
        check_parameters(find_chapters(sources / "notebooks"), given)


def test_refusal_comes_before_anything_runs(sources, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "run_chapters", lambda *_: pytest.fail("something ran"))
    out = tmp_path / "out"
    with pytest.raises(UserError, match="'nonsense'"):
        report.run_report("data/audio", "mini", out, parameters={"nonsense": 1}, root=sources)
    with pytest.raises(UserError, match="use --audio"):
        report.run_report("data/audio", "mini", out, parameters={"audio_dir": "x"}, root=sources)
    with pytest.raises(UserError, match="no such folder of audio"):
        report.run_report("data/nowhere", "mini", out, root=sources)
    with pytest.raises(UserError, match="jobs must be at least 1"):
        report.run_report("data/audio", "mini", out, jobs=0, root=sources)
    assert not out.exists()


def test_pair_out_of_step_is_refused(tmp_path):
    notebook = write_notebook(tmp_path / "notebooks", "01_a", "# %%\n1\n")
    assert is_paired(notebook)
    before = notebook.read_bytes()
    assert write_notebook(tmp_path / "notebooks", "01_a", "# %%\n1\n").read_bytes() == before
    source = notebook.with_suffix(".py")
    source.write_text(source.read_text().replace("\n1\n", "\n2\n"))
    assert not is_paired(notebook)
    (tmp_path / "book").mkdir()
    write_audio(tmp_path / "data" / "audio")
    with pytest.raises(UserError, match=r"01_a\.ipynb and 01_a\.py differ"):
        report.run_report("data/audio", "mini", tmp_path / "out", root=tmp_path)


# --- running -----------------------------------------------------------------------------------


class Log:
    """Collects the events of a run, from any thread."""

    def __init__(self):
        self.lock, self.events = threading.Lock(), []

    def __call__(self, event, chapter, details):
        with self.lock:
            self.events.append((event, chapter))

    def of(self, event):
        return [chapter for name, chapter in self.events if name == event]


def run(folder: Path, out: Path, inputs: str = "x", **parameters):
    chosen = select(find_chapters(folder), None)
    given = {c.name: {"out_dir": str(Layout(out).results(c.name)), **parameters} for c in chosen}
    log = Log()
    stamps = run_chapters(chosen, given, Layout(out), folder, inputs, 2, log)
    return stamps, log


WRITES = """
# %% tags=["parameters"]
out_dir: str = ""  # there

# %%
from pathlib import Path
Path(out_dir, "table.csv").write_text("a\\n1\\n")
"""


def test_only_what_changed_is_run_again(tmp_path):
    write_notebook(tmp_path / "n", "01_a", WRITES)
    write_notebook(tmp_path / "n", "02_b", WRITES, after="[01_a]")
    out = tmp_path / "out"
    stamps, log = run(tmp_path / "n", out)
    assert log.of("finished") == ["01_a", "02_b"]
    assert 10 < stamps["01_a"].peak_mb < 2000
    assert stamps["01_a"].seconds > 0
    assert set(stamps["01_a"].files) == {"notebooks/01_a.ipynb", "results/01_a/table.csv"}
    assert sorted(p.name for p in out.iterdir()) == ["logs", "notebooks", "results", "stamps"]

    again, log = run(tmp_path / "n", out)
    assert log.of("reused") == ["01_a", "02_b"]
    assert again["02_b"].key == stamps["02_b"].key

    # A result that is gone is made again; its reader need not run, since nothing that it was
    # made from differs.
    (out / "results" / "02_b" / "table.csv").unlink()
    _, log = run(tmp_path / "n", out)
    assert (log.of("reused"), log.of("finished")) == (["01_a"], ["02_b"])


def test_keys_follow_every_input(tmp_path):
    path = write_notebook(tmp_path, "01_a", WRITES)
    chapter = chapters_module.read_chapter(path)
    keys = {
        execution.chapter_key(chapter, {"seed": 1}, "inputs", {}),
        execution.chapter_key(chapter, {"seed": 2}, "inputs", {}),
        execution.chapter_key(chapter, {"seed": 1}, "others", {}),
        execution.chapter_key(chapter, {"seed": 1}, "inputs", {"00_x": "k"}),
    }
    write_notebook(tmp_path, "01_a", WRITES + "\n# %%\n2\n")
    keys.add(execution.chapter_key(chapter, {"seed": 1}, "inputs", {}))
    assert len(keys) == 5


def test_tree_hash_is_of_contents_and_names(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / "f.txt").write_text("x")
    first = hash_tree([tmp_path / "a"])
    assert hash_tree([tmp_path / "b"]) == first
    (tmp_path / "b" / ".hidden").write_text("y")
    assert hash_tree([tmp_path / "b", tmp_path / "missing"]) == first
    (tmp_path / "b" / "sub" / "f.txt").rename(tmp_path / "b" / "sub" / "g.txt")
    assert hash_tree([tmp_path / "b"]) != first


def test_failed_cell_is_named_and_leaves_the_earlier_results(tmp_path):
    folder, out = tmp_path / "n", tmp_path / "out"
    write_notebook(folder, "01_a", WRITES)
    run(folder, out)
    fails = WRITES + (
        "\n# %%\nPath(out_dir, 'half.csv').write_text('')\nraise ValueError('first\\nthe reason')\n"
    )
    write_notebook(folder, "01_a", fails)
    write_notebook(folder, "02_b", WRITES, after="[01_a]")
    with pytest.raises(ChapterError) as caught:
        run(folder, out)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(
        "01_a.ipynb, cell 4 (`Path(out_dir, 'half.csv').write_text('')`) failed: the reason"
    )
    assert lines[1] == "02_b was not run, since 01_a failed"
    assert [p.name for p in (out / "results" / "01_a").iterdir()] == ["table.csv"]
    kept = nbformat.read(out / "notebooks" / "01_a.ipynb", as_version=4)
    assert not any("reason" in cell.source for cell in kept.cells)
    seen = nbformat.read(out / "logs" / "01_a.ipynb", as_version=4)
    assert any("ValueError" in str(cell.get("outputs", "")) for cell in seen.cells)
    assert not (out / "results" / "02_b").exists()


def test_dead_kernel_is_told(tmp_path):
    write_notebook(tmp_path / "n", "01_a", "# %%\nimport os\nos._exit(3)\n")
    with pytest.raises(ChapterError, match=r"01_a.ipynb: its kernel died.*01_a.log"):
        run(tmp_path / "n", tmp_path / "out")


def test_interrupted_run_is_put_right(tmp_path):
    layout = Layout(tmp_path)
    aside = tmp_path / ".previous" / "01_a"
    aside.mkdir(parents=True)
    (aside / "whole.csv").write_text("1")
    layout.results("01_a").mkdir(parents=True)
    (layout.results("01_a") / "half.csv").write_text("")

    def fail_again():
        with execution._put_back_on_failure(layout.results("01_a"), aside):
            layout.results("01_a").mkdir()
            raise RuntimeError("again")

    with pytest.raises(RuntimeError, match="again"):
        fail_again()
    assert [p.name for p in layout.results("01_a").iterdir()] == ["whole.csv"]


def test_interruption_ends_what_runs_and_starts_nothing_more():
    begun = threading.Event()

    def interrupt():
        with ThreadPoolExecutor(1) as pool, execution._stop_on_failure(pool, {sleeper}):
            running = pool.submit(lambda: (begun.set(), sleeper.wait()))
            waiting.append(pool.submit(pytest.fail, "this must not start"))
            assert begun.wait(10)
            assert running.running()
            raise KeyboardInterrupt

    waiting: list[Future] = []
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert sleeper.returncode != 0
    assert waiting[0].cancelled()


def test_damaged_stamp_means_running_again(tmp_path):
    layout = Layout(tmp_path)
    layout.stamp("01_a").parent.mkdir()
    layout.stamp("01_a").write_text('{"chapter": "01')
    assert execution.read_stamp(layout, "01_a") is None
    layout.stamp("01_a").write_text(json.dumps({"of": "another version"}))
    assert execution.read_stamp(layout, "01_a") is None


def test_two_runs_in_one_folder_are_refused(tmp_path):
    pytest.importorskip("fcntl", reason="no such lock on this system")
    with (
        folder_lock(tmp_path),
        pytest.raises(UserError, match="in use by another run"),
        folder_lock(tmp_path),
    ):
        pass
    with folder_lock(tmp_path):
        pass


# --- staging -----------------------------------------------------------------------------------

VALUES = {"01_listen": {"loss": "2.5 dB", "grid": '<audio src="../results/01_listen/a.flac">'}}


def test_values_are_filled_in_with_addresses_that_fit_the_page():
    page = PurePosixPath("index.md")
    text = "Lost {{01:loss}} of {{audio}}.\n\n{{01_listen:grid}}\n"
    filled = staging.fill(text, page, VALUES, {"audio": "data"})
    assert filled == 'Lost 2.5 dB of data.\n\n<audio src="results/01_listen/a.flac">\n'
    deep = staging.fill("{{01:grid}}", PurePosixPath("guides/a.md"), VALUES, {})
    assert deep == '<audio src="../results/01_listen/a.flac">'


def test_sentences_about_chapters_that_are_not_there_go():
    text = "Kept.\n\nGone {{02:x}},\nall of it.\n\n- one {{01:loss}}\n- two {{02:x}}\n\nEnd."
    filled = staging.fill(text, PurePosixPath("index.md"), VALUES, {})
    assert "Gone" not in filled
    assert "all of it" not in filled
    assert "- one 2.5 dB" in filled
    assert "two" not in filled
    assert filled.startswith("Kept.")
    assert filled.endswith("End.")


def test_facts_stay_and_fences_stay_closed():
    page = PurePosixPath("index.md")
    text = "```{note}\n:class: x\n\nOn {{audio}},\nmany.\n\n{{02:gone}} here.\n```\n\nAfter."
    filled = staging.fill(text, page, VALUES, {"audio": "data"})
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
    values = staging.glued_values(nbformat.v4.new_notebook(cells=[cell]))
    assert values == {"a": "2.1\u202fdB", "b": "<b>x</b>"}


def test_unknown_keys_are_errors():
    page = PurePosixPath("index.md")
    with pytest.raises(UserError, match=r"index.md asks for 01:lost, but 01_listen glues only"):
        staging.fill("{{01:lost}}", page, VALUES, {})
    with pytest.raises(UserError, match=r"index.md asks for \{\{weather\}\}"):
        staging.fill("{{weather}}", page, VALUES, {})


def test_mathematics_is_left_alone():
    text = r"$\bar{{x}}$ and ${{\alpha}}$"
    assert staging.fill(text, PurePosixPath("index.md"), VALUES, {}) == text


def test_dead_links_become_text():
    pages = [PurePosixPath("index.md"), PurePosixPath("guides/a.md")]
    page = PurePosixPath("guides/b.md")
    text = "[home](../index.md), [a](a.md#x), [gone](c.md), [out](https://x.org/y.md), ![i](i.md)"
    assert staging.drop_dead_links(text, page, pages) == (
        "[home](../index.md), [a](a.md#x), gone, [out](https://x.org/y.md), ![i](i.md)"
    )


def test_two_figures_in_a_cell_are_refused():
    output = nbformat.v4.new_output(
        "display_data",
        {"image/png": ""},
        metadata={staging.FIGURE_KEY: {"name": "a", "caption": "b", "alt": "c"}},
    )
    cell = nbformat.v4.new_code_cell("x", outputs=[output, output])
    with pytest.raises(UserError, match="shows 2 figures"):
        staging.dress(nbformat.v4.new_notebook(cells=[cell]))


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
    staging.dress(notebook)
    assert [c.source for c in notebook.cells] == ["a\n\nb\n\nc", "d", "words", "e", "f", "g", "h"]
    assert notebook.cells[0].outputs == [glued, shown]
    assert staging.glued_values(notebook) == {"a": "1"}


def test_a_book_without_chapters_can_be_staged(sources, tmp_path):
    names = ["audio", "clips", "checkpoint", "fingerprint", "version", "cores", "python"]
    names += ["skipped"]
    facts = dict.fromkeys(names, "something")
    pages = tmp_path / "pages"
    shutil.copytree(sources / "book", pages)
    folder = staging.stage(pages, Layout(tmp_path / "out"), [], {}, facts)
    assert "notebooks" not in (folder / "_toc.yml").read_text()
    assert "guides/reading" in (folder / "_toc.yml").read_text()
    index = (folder / "index.md").read_text()
    assert "No chapter was run" in index
    assert "{{" not in index


def test_parameter_tables_escape_bars(tmp_path):
    body = '# %% tags=["parameters"]\nclip: str = "a|b"  # one | all\n'
    chapter = chapters_module.read_chapter(write_notebook(tmp_path, "01_a", body))
    table = staging.parameter_tables([chapter])
    assert r'| `clip` | `str` | `"a\|b"` | one \| all |' in table


# --- the whole line ----------------------------------------------------------------------------


def test_report_from_audio_to_pages(built_demo):
    html, stderr = built_demo / "build" / "html", (built_demo / "said.txt").read_text()
    assert "01_listen: " in stderr
    index = (html / "index.html").read_text()
    assert "The VAE lost 2.50\u202fdB" in index
    assert "A chapter not here" not in index
    assert 'src="results/01_listen/listening/' in index
    page = (html / "notebooks" / "01_listen.html").read_text()
    assert 'src="../results/01_listen/listening/' in page
    assert "Fig. 1" in page
    assert "a page that is not there" in page
    assert "2.50" in (html / "notebooks" / "02_read.html").read_text()
    execution_page = (html / "execution.html").read_text()
    assert 'href="results/01_listen/ladder.parquet"' in execution_page
    for name in ("ladder.csv", "ladder.parquet"):
        assert (html / "results" / "01_listen" / name).is_file()
    assert (built_demo / "build" / "results" / "execution.csv").read_text().count("\n") == 3
    assert "bands" in (html / "guides" / "parameters.html").read_text()


def test_warning_of_the_book_is_an_error_and_keeps_the_earlier_book(built_demo, tmp_path):
    layout = Layout(tmp_path)
    (tmp_path / "html").mkdir()
    (tmp_path / "html" / "index.html").write_text("earlier")
    stage = tmp_path / "stage"
    stage.mkdir()
    (stage / "_config.yml").write_text("title: x\nexecute: {execute_notebooks: 'off'}\n")
    (stage / "_toc.yml").write_text("format: jb-book\nroot: index\n")
    (stage / "index.md").write_text("# X\n\n{numref}`nowhere`\n")
    with pytest.raises(UserError, match=r"did not build.*nowhere"):
        report.build_book(stage, layout, tmp_path / "evidence")
    assert (tmp_path / "html" / "index.html").read_text() == "earlier"


def test_command_line(sources, monkeypatch, capsys):
    import argparse

    monkeypatch.chdir(sources)
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    assert command.run(parser.parse_args(["--list"])) == 0
    assert "seed: int = 0  of every draw" in capsys.readouterr().out
    called = {}

    def fake(audio, checkpoint, out, **options):
        called.update(options, audio=audio, checkpoint=checkpoint)
        return Path(out) / "html" / "index.html"

    monkeypatch.setattr(report, "run_report", fake)
    words = "--audio a --checkpoint c --chapters 01,02 -p seed 3 -p limit 2 --jobs 1"
    assert command.run(parser.parse_args(words.split())) == 0
    assert capsys.readouterr().out == "build/html/index.html\n"
    assert called["chapters"] == ["01", "02"]
    assert called["parameters"] == {"seed": "3", "limit": "2"}
    assert (called["audio"], called["checkpoint"], called["jobs"]) == ("a", "c", 1)
