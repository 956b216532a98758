"""Chapters as files: pairs in step, no outputs, parameters that explain themselves, all run."""

from __future__ import annotations

import io
import json
import os
import shutil
import tokenize
from pathlib import Path

import nbformat
import numpy as np
import pytest
import soundfile as sf

from audioldm_utils.book.chapters import find_chapters, is_paired, read_chapter, write_pair
from tests.demo_project import LISTEN, ROOT, write_notebook

NOTEBOOKS = ROOT / "notebooks"
CHAPTERS = sorted(p.stem for p in NOTEBOOKS.glob("[0-9][0-9]_*.py"))
each_chapter = pytest.mark.parametrize("name", CHAPTERS)


def test_every_notebook_has_its_pair():
    assert sorted(p.stem for p in NOTEBOOKS.glob("*.ipynb")) == CHAPTERS


@each_chapter
def test_pair_in_step_and_without_outputs(name, tmp_path):
    path = NOTEBOOKS / f"{name}.ipynb"
    assert is_paired(path), f"write it anew: audioldm-utils report --write-pairs ({name})"
    for cell in nbformat.read(path, as_version=4).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    copy = tmp_path / f"{name}.py"
    copy.write_bytes(path.with_suffix(".py").read_bytes())
    assert write_pair(copy).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("newer", [".py", ".ipynb"])
@pytest.mark.parametrize("beside", ["jupytext.toml", None], ids=["with toml", "alone"])
def test_plain_jupytext_sync_leaves_a_pair_as_it_is(newer, beside, tmp_path):
    """Whichever side is newer, with the project's configuration beside it or copied alone."""
    from jupytext.cli import jupytext

    paths = [
        Path(shutil.copy(NOTEBOOKS / f"{name}{suffix}", tmp_path))
        for name in CHAPTERS
        for suffix in (".py", ".ipynb")
    ]
    if beside:
        shutil.copy(ROOT / beside, tmp_path)
    before = {path: path.read_bytes() for path in paths}
    for path in paths:
        os.utime(path, (2e9, 2e9) if path.suffix == newer else (1e9, 1e9))
    jupytext(["--sync", "--quiet", *(str(path) for path in paths if path.suffix == newer)])
    for path in paths:
        assert path.read_bytes() == before[path], path.name


def undocumented(source: str) -> list[str]:
    """Lines of a parameters cell that lack a type, a default or a trailing comment."""
    lines: dict[int, list[tokenize.TokenInfo]] = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        lines.setdefault(token.start[0], []).append(token)
    bad = []
    for number, text in enumerate(source.splitlines(), 1):
        kinds = [token.string for token in lines.get(number, [])]
        if not text.strip() or text.lstrip().startswith("#"):
            continue
        commented = any(token.type == tokenize.COMMENT for token in lines.get(number, []))
        if ":" not in kinds or "=" not in kinds or not commented:
            bad.append(text)
    return bad


@each_chapter
def test_parameters_are_typed_and_explained(name):
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    cells = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    assert len(cells) == 1
    assert not undocumented(cells[0].source)
    chapter = read_chapter(NOTEBOOKS / f"{name}.ipynb")
    assert all(p.help and p.kind != "None" for p in chapter.parameters)
    # Papermill overlooks lines whose type it does not know, such as a union with a bar.
    lines = [x for x in cells[0].source.splitlines() if x.strip() and x.strip()[0] != "#"]
    assert len(chapter.parameters) == len(lines)
    kinds = dict.fromkeys(("audio_dir", "checkpoint", "out_dir", "evidence_dir"), "str")
    kinds |= {"seed": "int", "limit": "int"}
    assert all(p.kind == kinds[p.name] for p in chapter.parameters if p.name in kinds)


@each_chapter
def test_values_kept_for_sentences_are_not_shown_as_output(name):
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code" and cell.source.strip().split("\n")[-1].startswith(
            "glue_value("
        ):
            assert "remove-output" in cell.metadata.get("tags", []), cell.source


@each_chapter
def test_cells_are_short_and_define_nothing(name):
    for cell in nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4).cells:
        if cell.cell_type == "code":
            assert len(cell.source.splitlines()) <= 30, cell.source
            assert "pip install" not in cell.source
            assert "filterwarnings" not in cell.source


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    time = np.arange(int(1.3 * 48000)) / 48000
    for name, sound in (
        ("chirp", 0.3 * np.sin(2 * np.pi * (300 * time + 3000 * time**2))),
        ("noise", 0.1 * rng.standard_normal(time.size)),
    ):
        sf.write(folder / f"{name}.flac", sound, 48000)
    (folder / "manifest.csv").write_text(
        "file,caption,class\nchirp.flac,a rising tone,tone\nnoise.flac,white noise,noise\n"
    )
    return folder


@pytest.mark.processes
@each_chapter
def test_runs_through_plain_papermill(name, clips, tmp_path, request):
    """With tiny settings: two clips and what the notebook's metadata names under ``tiny``."""
    import papermill

    chapter = read_chapter(NOTEBOOKS / f"{name}.ipynb")
    notebook = nbformat.read(chapter.path, as_version=4)
    given = {
        "audio_dir": str(clips),
        "out_dir": str(tmp_path / "results" / name),
        "limit": 2,
        **notebook.metadata.get("audioldm_utils", {}).get("tiny", {}),
    }
    if chapter.parameter("checkpoint"):
        # A chapter stores what it fits in the checkpoint, so this one is its own.
        shared = request.getfixturevalue("tiny_checkpoint")
        given["checkpoint"] = str(shutil.copytree(shared, tmp_path / "checkpoint"))
    if chapter.after:
        pytest.skip(f"reads what {', '.join(chapter.after)} wrote: the report's run covers it")
    papermill.execute_notebook(
        chapter.path,
        tmp_path / f"{name}.ipynb",
        parameters={k: v for k, v in given.items() if chapter.parameter(k)},
        kernel_name="python3",
        progress_bar=False,
        cwd=str(ROOT),
        extra_arguments=["--IPKernelApp.log_level=40"],
    )


# --- the tests' own tools ----------------------------------------------------------------------


def test_undocumented_parameters_are_found():
    good = "# group\nseed: int = 0  # of draws\n\nname: str = 'a # b'  # c\n"
    assert undocumented(good) == []
    bad = "a = 1  # untyped\nb: int = 2\nc: str = 'x # no comment'\n"
    assert undocumented(bad) == bad.splitlines()


def test_chapters_are_found_by_their_names(tmp_path):
    write_notebook(tmp_path, "01_listen", LISTEN)
    write_notebook(tmp_path, "draft", "# %%\n1\n")
    assert [c.name for c in find_chapters(tmp_path)] == ["01_listen"]


def test_outputs_and_ids_do_not_count_as_differences(tmp_path):
    path: Path = write_notebook(tmp_path, "01_a", "# %%\nprint(1)\n")
    content = json.loads(path.read_text())
    content["cells"][0]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["1\n"]}]
    content["cells"][0]["id"] = "another"
    path.write_text(json.dumps(content))
    assert is_paired(path)
