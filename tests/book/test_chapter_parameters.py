"""Every chapter with each of its parameters changed: it runs, and says what it rests on.

Cells run in this process on a tiny checkpoint. Studies are replayed (:mod:`tests.replay`); what
decides between committed rows and the run's own is real, and so are verdicts, tables, figures
and glue. Players are left out: they have tests of their own.
"""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
import soundfile as sf
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from audioldm_utils.audio.clips import find_clips
from audioldm_utils.book import listening, plotting
from audioldm_utils.book.chapters import defaults, find_chapters
from audioldm_utils.model import checkpoint
from audioldm_utils.model.denoiser import GuidedUNet
from audioldm_utils.results.evidence import provenance
from audioldm_utils.results.tables import write
from audioldm_utils.studies import run as studies
from audioldm_utils.studies.registry import STUDIES, Study
from tests.demo_project import ROOT
from tests.replay import EVIDENCE, replayed
from tests.tiny import barely

CHAPTERS = {chapter.name: chapter for chapter in find_chapters(ROOT / "notebooks")}
DEFAULTS = defaults(CHAPTERS.values())
#: What each chapter takes and its seed, by number: the grid that evidence is made with.
GRIDS = {name[:2]: given for name, given in DEFAULTS.items()}
#: Chapters whose findings rest on studies.
STUDIED = sorted({chapter for chapter in CHAPTERS for name in STUDIES if name[:2] == chapter[:2]})


def write_clips(folder: Path, names: str, classes: bool = True) -> Path:
    folder.mkdir()
    for index, name in enumerate(names.split()):
        noise = 0.1 * np.random.default_rng(index).standard_normal(16800)
        sf.write(folder / f"{name}.wav", noise, 16000)
    if classes:
        lines = [f"{name}.wav,a {name},{name}" for name in names.split()]
        (folder / "manifest.csv").write_text("file,caption,class\n" + "\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def replays():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Study, "function", replayed)
        loaded = cache(checkpoint.load)  # the same networks for all
        for module in (checkpoint, studies):
            patch.setattr(module, "load", loaded)
        patch.setattr(GuidedUNet, "_run", barely)
        yield


@pytest.fixture(scope="module")
def places(tmp_path_factory, tiny_checkpoint, replays):
    """Parameters as a chapter has them where committed evidence serves it, and others."""
    from tests import tiny

    base = tmp_path_factory.mktemp("parameters")
    own = shutil.copytree(tiny_checkpoint, base / "checkpoint")  # chapters store fits in it
    bare = shutil.copytree(
        EVIDENCE, base / "bare", ignore=shutil.ignore_patterns(*(f"{name}.*" for name in STUDIES))
    )
    full = shutil.copytree(bare, base / "evidence")
    folder = write_clips(base / "clips", "chirp hiss hum")
    clips = find_clips(folder)
    of = checkpoint.load(own).fingerprint_of
    paths = [clip.path for clip in clips]
    for name, study in STUDIES.items():
        grid = study.parameters(GRIDS[name[:2]])
        table = studies.measure_clips(name, clips, own, grid, progress=False)
        made = {"parameters": grid, "shipped": [], "parts": list(study.parts)}
        record = provenance("x", paths, [0], of(study.parts), **made)
        write(table, full / name, record)
    usual = {"audio_dir": folder, "checkpoint": own, "evidence_dir": full}
    other = {
        "audio_dir": write_clips(base / "own", "boom click", classes=False),
        "checkpoint": tiny.build_checkpoint(base / "other", seed=1),
        "evidence_dir": bare,
    }
    texts = [{name: str(path) for name, path in given.items()} for given in (usual, other)]
    return texts[0], texts[1]


PLACES = ("audio_dir", "checkpoint", "out_dir", "evidence_dir")
#: Of measurements, by chapter.
GRID = (
    *("excerpt_seconds", "refine_steps"),
    *("seconds", "steps", "calls", "more_calls", "strengths", "rates", "probes"),
    *("temperatures", "softness"),
    *(
        "low_rate",
        "low_seconds",
        "rvq_stages",
        "coarse_stages",
        "pursuit_rates",
        "linear_rates",
        "paper_steps",
    ),
    *("bases", "mixture_rate", "heard_rates"),
    *("guidance", "subset", "sizes", "each", "alike"),
    *("edit_steps", "edit_atoms", "changes", "perturbation"),
)
#: Which parameters are changed in one run. Together every chapter's are all changed.
CHANGES = {
    "seed": ("seed",),
    "audio": ("audio_dir",),
    "numbers": ("out_dir", "limit", "new_clips", "samples", "margin"),
    "grid": GRID,
    "all": (*PLACES, "seed", "limit", "new_clips", *GRID),
    "sound": ("synthesis", "device"),
    "card": ("seed", "device", "synthesis", "limit", "sample_steps", "sample_seconds"),
}
#: Why a run with such changes rests on itself; None where committed rows serve it still.
REASONS = {
    "seed": "seed is 1, while the committed table has 0",
    "audio": "the committed table holds none of these clips",
    "numbers": None,
    "sound": "synthesis is griffin-lim, while the committed table has auto",
    "grid": ", while the committed table has ",
    "all": "holds no table of",
}


def blank(figure: Figure, target: Any, **_: Any) -> None:
    texts = [text.get_text() for text in figure.findobj(Text)]
    assert not [text for text in texts if "$" in text]  # the style sets no mathematics
    Image.new("RGB", (1, 1)).save(target, "PNG")


class Page:
    """What a chapter's cells left: the values for sentences, and what they rest on."""

    def __init__(self, chapter: str, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
        self.glued: dict[str, str] = {}
        self.findings: dict[str, studies.Findings] = {}
        #: Studies whose committed rows stand in for this run's.
        self.stand_in: set[str] = set()
        measure, glue = studies.measure, plotting.glue_value

        def measured(name, *args, **options):
            self.findings[name] = measure(name, *args, **options)
            if options.get("recheck") == 0:
                self.stand_in.add(name)
            return self.findings[name]

        def glued(name, *args):
            self.glued[name] = glue(name, *args)
            return self.glued[name]

        for module, name, stub in (
            (studies, "measure", measured),
            (plotting, "glue_value", glued),
            (listening, "players", lambda *_, **__: ""),
            (listening, "abx", lambda *_, **__: ""),
            (Figure, "savefig", blank),  # they are drawn before, for their labels
        ):
            monkeypatch.setattr(module, name, stub)
        monkeypatch.chdir(ROOT)
        notebook = nbformat.read(CHAPTERS[chapter].path, as_version=4)
        names: dict[str, Any] = {}
        for number, cell in enumerate(c for c in notebook.cells if c.cell_type == "code"):
            exec(compile(cell.source, f"{chapter}, cell {number}", "exec"), names)
            if "parameters" in cell.metadata.get("tags", []):
                names.update(given)
        plt.close("all")
        monkeypatch.undo()


def changed(value: Any) -> Any:
    """Another value than a default: a shorter list, a smaller number."""
    if isinstance(value, list):
        return value[1:] if len(value) > 1 else [changed(value[0])]
    return value - 1 if isinstance(value, int) else value / 2 if isinstance(value, float) else value


def run(chapter, change, places, monkeypatch, tmp_path) -> Page:
    """A chapter's page after the changes of that name."""
    usual, other = places
    own = DEFAULTS[chapter]
    values = {
        **{name: changed(value) for name, value in own.items()},
        "seed": 1,
        "synthesis": "griffin-lim",
        "limit": 1,
        "samples": 2,
        "sample_steps": 3,
        "sample_seconds": 0.64,
        "new_clips": 1 if own.get("new_clips") != 1 else 2,
        "out_dir": str(tmp_path / "elsewhere" / chapter),
        **other,
    }
    given = {**usual, "out_dir": str(tmp_path / "results" / chapter)}
    given |= {name: values[name] for name in CHANGES[change] if name in values}
    if change == "grid":  # papermill's -p hands lists over as text
        given = {k: json.dumps(v) if isinstance(v, list) else v for k, v in given.items()}
    return Page(chapter, {k: v for k, v in given.items() if k in own}, monkeypatch)


def test_no_parameter_of_any_chapter_is_left_out():
    for chapter in CHAPTERS.values():
        changes = CHANGES.values() if chapter.name in STUDIED else (CHANGES["all"], CHANGES["card"])
        changed = {name for change in changes for name in change}
        assert {parameter.name for parameter in chapter.parameters} <= changed, chapter.name


def test_every_committed_study_serves_a_run_with_its_own_parameters(places):
    assert sorted(path.stem for path in Path(places[0]["evidence_dir"]).glob("0*.csv")) == sorted(
        STUDIES
    )
    for name in STUDIES:
        record = json.loads((EVIDENCE / f"{name}.json").read_text())
        assert record["parameters"] == STUDIES[name].parameters(GRIDS[name[:2]]), name


@pytest.mark.parametrize("change", REASONS)
@pytest.mark.parametrize("chapter", STUDIED)
def test_a_chapter_runs_with_its_parameters_changed(chapter, change, places, monkeypatch, tmp_path):
    page = run(chapter, change, places, monkeypatch, tmp_path)
    assert set(page.findings) == {name for name in STUDIES if name[:2] == chapter[:2]}
    for name, found in page.findings.items():
        study, reason = STUDIES[name], REASONS[change]
        if change == "audio" and study.clips.reference:
            reason = None  # clips are no more than its reference
        grid = set(study.parameters(GRIDS[chapter[:2]]))
        if change == "grid" and grid <= {"seed", "synthesis"}:
            reason = None  # it has no grid
        if change == "sound" and "synthesis" not in grid:
            reason = None  # it makes no sound
        if change in ("audio", "numbers") and study.clips.together > 1:
            reason = "these clips do not make up the groups"
        if reason is None:
            assert (found.compared > 0) == (name not in page.stand_in)
            assert ("measured again" in found.rests) == (name not in page.stand_in)
            assert found.table is not found.run
            assert "from a stored table" in found.rests
        else:
            assert found.compared == 0
            assert found.table is found.run
            assert set(found.table["seed"]) == {int("seed" in CHANGES[change])}
            assert found.rests.startswith("The findings rest on this run alone")
            assert reason in found.rests
    assert page.glued["rests"] == next(iter(page.findings.values())).rests
    assert "{glue:text}`rests`" in CHAPTERS[chapter].path.with_suffix(".py").read_text()


def test_the_summary_takes_committed_rows_for_such_runs_only_as_the_chapters_did(
    places, monkeypatch, tmp_path
):
    usual, _ = places
    clips = find_clips(usual["audio_dir"])
    for name, seed in (("01_ladder", 0), ("03_diffusion", 1)):
        folder = tmp_path / "results" / f"{name[:2]}_chapter"
        grid = {**STUDIES[name].parameters(GRIDS[name[:2]]), "seed": seed}
        given = (clips, usual["checkpoint"], grid, folder, usual["evidence_dir"])
        studies.measure(name, *given, new_clips=1)
    chapter = "08_summary"
    page = Page(chapter, {**usual, "out_dir": str(tmp_path / "results" / chapter)}, monkeypatch)
    count = len(STUDIES)
    assert page.glued["rests"] == (
        f"{count - 1} of {count} studies rest on tables stored in the repository, "
        "and on this run alone: 03_diffusion."
    )
    page = run(chapter, "all", places, monkeypatch, tmp_path)
    assert page.glued["rests"] == "0 of 0 studies rest on tables stored in the repository."


def test_the_model_card_runs_with_its_parameters_changed(places, monkeypatch, tmp_path):
    for change in ("card", "all"):
        run("09_model_card", change, places, monkeypatch, tmp_path)


def test_plain_papermill_takes_another_seed_than_the_evidence(places, tmp_path):
    """``papermill NN.ipynb out.ipynb -p seed 1``: a kernel of its own, nothing replayed."""
    import papermill

    chapter = "04_codebooks"
    given = {**places[0], "out_dir": str(tmp_path / chapter), "seed": 1, "limit": 1}
    done = papermill.execute_notebook(
        CHAPTERS[chapter].path,
        tmp_path / "out.ipynb",
        parameters=given,
        kernel_name="python3",
        progress_bar=False,
        cwd=str(ROOT),
        extra_arguments=["--IPKernelApp.log_level=40"],
    )
    said = "".join(out.get("text", "") for cell in done.cells for out in cell.get("outputs", ()))
    assert f"04_choices: The findings rest on this run alone (1 clip): {REASONS['seed']}." in said
