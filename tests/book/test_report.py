"""The report from audio to pages, and its command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from audioldm_utils.book import report
from audioldm_utils.book.execution import Layout
from audioldm_utils.cli.commands import report as command
from audioldm_utils.errors import UserError
from tests.demo_project import built_demo, sources

__all__ = ["built_demo", "sources"]


@pytest.mark.processes
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


@pytest.mark.processes
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


def test_a_folder_called_mini_is_not_the_shipped_checkpoint(tmp_path):
    shipped = tmp_path / "data" / "checkpoints" / "mini"
    for folder in (shipped, tmp_path / "mini"):
        folder.mkdir(parents=True)
        (folder / "a").write_text(str(folder))
    assert report.checkpoint_hash("mini", tmp_path) == report.hash_tree([shipped])
    assert report.checkpoint_hash("./mini", tmp_path) == report.hash_tree([tmp_path / "mini"])
