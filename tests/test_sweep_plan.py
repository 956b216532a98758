"""Sweeps before they run: the file, the grid, and the store of finished tasks."""

import os
from dataclasses import fields, replace

import pandas as pd
import pytest

from audioldm_utils import results
from audioldm_utils.errors import UserError
from audioldm_utils.sweep import plan
from audioldm_utils.sweep.store import Store
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
        ("audio: a\nmethods: vae\n", "methods must be list, got 'vae'"),
        ("audio: a\nmethods: []\n", "methods must be a list"),
        ("audio: a\nmethods: [{vae: 3}]\n", "a method is a name"),
        ("audio: a\nmethods: [vae]\nseeds: [x]\n", "seeds must be a list of int"),
        ("audio: a\nmethods: [vae]\nseeds: [-1]\n", "seeds must not be negative"),
        ("audio: a\nmethods: [vae]\nlimit: 0\n", "limit must be positive"),
        ("audio: a\nmethods: [vae]\nlimit: true\n", "limit must be int, got True"),
        ("- vae\n", "must hold entries"),
        ("audio: [\n", "is no YAML"),
    ],
)
def test_sweep_file_errors_name_the_entry(tmp_path, text, sentence):
    path = tmp_path / "s.yml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"s\.yml") as caught:
        plan.read_sweep(path)
    assert sentence in str(caught.value)


def test_missing_sweep_file(tmp_path):
    with pytest.raises(UserError, match="no such sweep file"):
        plan.read_sweep(tmp_path / "none.yml")


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
    tasks, broken = plan.plan_methods(sweep, clips, lambda name: FINGERPRINT)
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
