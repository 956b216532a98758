"""Sweeps before they run: the file, the grid, and the store of finished tasks."""

import os
from dataclasses import fields, replace

import pandas as pd
import pytest

from audioldm_utils.errors import UserError
from audioldm_utils.results import summaries as results
from audioldm_utils.sweep import plan
from audioldm_utils.sweep.file import read_sweep
from audioldm_utils.sweep.run import Store
from tests import sweep_tasks
from tests.demo_sweep import FINGERPRINT, make_clips, make_sweep, make_tasks


def test_sweep_file_is_read(tmp_path):
    (tmp_path / "weights").mkdir()
    sweep = make_sweep(
        tmp_path, "methods: [vae]\ncheckpoints: [mini, weights, cvssp/audioldm2]\nlimit: 2\n"
    )
    assert sweep.audio == tmp_path / "clips"
    assert sweep.checkpoints == ("mini", str(tmp_path / "weights"), "cvssp/audioldm2")
    assert (sweep.limit, sweep.seeds, sweep.metrics) == (2, (0,), None)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("audio: clips\n", "must have either `methods` or `chapters`"),
        ("audio: a\nmethods: [vae]\nchapters: ['01']\n", "either `methods` or `chapters`"),
        ("methods: [vae]\n", "must name a folder of clips under `audio`"),
        ("audio: a\nmethods: [vae]\nsteps: 3\n", "unknown entries steps; known: audio"),
        ("audio: a\nmethods: vae\n", "methods should be a valid list, got 'vae'"),
        ("audio: a\nmethods: []\n", "methods should have at least 1 item"),
        ("audio: a\nmethods: [{vae: 3}]\n", "a method is a name"),
        ("audio: a\nmethods: [vae]\nseeds: [x]\n", "seeds.0 should be a valid integer, got 'x'"),
        (
            "audio: a\nmethods: [vae]\nseeds: [-1]\n",
            "seeds must be a whole number from 0 to 268435455, not -1",
        ),
        (
            "audio: a\nmethods: [vae]\nlimit: 0\n",
            "limit must be a whole number from 1 to 1000000, not 0",
        ),
        ("audio: a\nmethods: [vae]\nlimit: true\n", "limit should be a valid integer, got True"),
        ("- vae\n", "must hold entries"),
        ("audio: [\n", "is no YAML"),
    ],
)
def test_sweep_file_errors_name_the_entry(tmp_path, text, sentence):
    path = tmp_path / "s.yml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"s\.yml") as caught:
        read_sweep(path)
    assert sentence in str(caught.value)


GRID = ", ".join(f"o{i}: [{', '.join(map(str, range(100)))}]" for i in range(6))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("methods: [vae]\nmax_seconds: .nan", "max_seconds must be a number from 0.1 to 86400"),
        ("methods: [vae]\nmax_seconds: .inf", "max_seconds must be a number"),
        ("methods: [vae]\nmax_seconds: 2024-01-01", "max_seconds should be a valid number, got"),
        ("methods: [vae]\nlimit: 1e12", "limit should be a valid integer, got '1e12'"),
        ("methods: [vae]\nlimit: 18446744073709551616", "limit must be a whole number"),
        ("methods: [vae]\nseeds: [0, 18446744073709551616]", "seeds must be a whole number"),
        ("methods: [vae]\nlimit: 2024-13-45", "is no YAML: month must be in 1..12"),
        ("methods: [{sdedit: {strength: 2024-01-01}}]", "strength must be a number, a text"),
        ("methods: [{sdedit: {steps: {a: {b: 1}}}}]", "steps must be a number, a text"),
        ("methods: [{sdedit: {steps: [[[[1]]]]}}]", "not a list of 1; write"),
        ("methods: [{sdedit: {1: 2, a: 3}}]", "options are names with values"),
        ("methods: [{sdedit: {steps: []}}]", "steps is an empty list"),
        ("methods: [{sdedit: {strength: .nan}}]", "strength must be a number from"),
        (f"methods: [{{sdedit: {{{GRID}}}}}]", "asks for 1000000000000 tasks and more than"),
        ("chapters: ['01']\nparameters: {limit: 2024-01-01}", "limit must be a number, a text"),
        ("chapters: ['01']\nparameters: [1]", "options are names with values, not a list of 1"),
        (f"chapters: ['01']\nparameters: {{{GRID}}}", "asks for 1000000000000 tasks"),
        ("chapters: []", "chapters should have at least 1 item"),
        ("methods: [vae]\nnotes: " + "[" * 5000, "is no YAML"),
        ("x: &a [1,1]\ny: &b [*a,*a]\nmethods: [*b]", "unknown entries x, y"),
        ("methods:\n- &a [1, 1]\n- &b [*a, *a]\n- [*b, *b]", "not a list of 2"),
    ],
)
def test_hostile_sweep_files_get_one_short_sentence(tmp_path, text, sentence):
    path = tmp_path / "s.yml"
    path.write_text(f"audio: clips\n{text}\n")
    with pytest.raises(UserError, match=r"s\.yml") as caught:
        read_sweep(path)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300 + len(str(path))


def test_a_grid_times_its_clips_is_bounded_too(tmp_path):
    seeds = ", ".join(map(str, range(1000)))
    sweep = make_sweep(tmp_path, f"methods: [vae]\nseeds: [{seeds}]\n")
    with pytest.raises(UserError, match="asks for 101000 tasks"):
        plan.plan_methods(sweep, [None] * 101, lambda name: FINGERPRINT, ["vae"])


def test_missing_sweep_file(tmp_path):
    with pytest.raises(UserError, match="no such sweep file"):
        read_sweep(tmp_path / "none.yml")


def test_grid_and_label():
    assert plan.grid({"b": [1, 2], "a": "x"}) == [{"a": "x", "b": 1}, {"a": "x", "b": 2}]
    assert plan.grid({}) == [{}]
    assert plan.label({"steps": 30, "atoms": 8}) == "atoms=8, steps=30"


def test_plan_covers_the_grid_and_refuses_unknown_methods(tmp_path):
    sweep, tasks, broken = make_tasks(tmp_path)
    assert len(tasks) == 3 * (1 + 2) * 2
    assert not broken
    assert len({task.key for task in tasks}) == len(tasks)
    assert {task.label for task in tasks} == {"", "atoms=8, steps=30", "atoms=8, steps=50"}
    with pytest.raises(UserError, match="no method 'ddcm'; there are vae"):
        plan.plan_methods(sweep, [], lambda name: FINGERPRINT, ["vae"])


def test_key_follows_content_not_place(tmp_path):
    _, tasks, _ = make_tasks(tmp_path)
    task = tasks[0]
    places = {"path": "/elsewhere/x.wav", "checkpoint": "/c", "notebooks": "/n", "out": "/o"}
    assert replace(task, **places).key == task.key
    for field in fields(task):
        if field.name not in places:
            assert replace(task, **{field.name: "another"}).key != task.key, field.name


def test_a_clip_that_is_gone_is_named_and_the_rest_planned(tmp_path):
    sweep = make_sweep(tmp_path)
    clips = make_clips(tmp_path / "clips")
    clips[1].path.unlink()
    tasks, broken = plan.plan_methods(sweep, clips, lambda name: FINGERPRINT, ["vae", "ddcm"])
    assert len(tasks) == 12
    assert list(broken) == ["clip1"]
    assert "No such file" in broken["clip1"]


# --- finished tasks ---


def part(tmp_path):
    _, tasks, _ = make_tasks(tmp_path, 1)
    table = sweep_tasks.measure(tasks[0])
    store = Store(tmp_path / "parts")
    store.write(tasks[0].key, table)
    return store, tasks[0].key, table


def test_store_gives_back_what_it_got(tmp_path):
    store, key, table = part(tmp_path)
    pd.testing.assert_frame_equal(results.validate(store.read(key)), table)
    assert store.read("0" * 64) is None


def test_a_damaged_part_is_not_done(tmp_path):
    store, key, _ = part(tmp_path)
    path = store.path(key)
    good = path.read_bytes()
    for position in range(0, len(good), 37):
        path.write_bytes(good[:position])
        assert store.read(key) is None
    other = "f" * 64
    store.path(other).write_bytes(good)
    assert store.read(other) is None
    for position in range(0, len(good), 7):
        path.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
        assert store.read(key) is None


def test_store_says_when_it_cannot_keep(tmp_path, monkeypatch):
    store, key, table = part(tmp_path)

    def full(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(UserError, match=r"cannot be kept \(No space left on device\).*again"):
        store.write("e" * 64, table)
    assert [p.name for p in store.folder.iterdir()] == [store.path(key).name]
