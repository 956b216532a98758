"""Chapters: what they declare, which are chosen, and parameters that are refused."""

from __future__ import annotations

import pytest

from audioldm_utils.book import chapters as chapters_module
from audioldm_utils.book import report
from audioldm_utils.book.chapters import check_parameters, find_chapters, fits, is_paired, select
from audioldm_utils.errors import UserError
from tests.demo_project import sources, write_audio, write_notebook

__all__ = ["sources"]


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
    with pytest.raises(UserError, match="jobs must be a whole number from 1"):
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
