"""A sweep's own task: a clip through a method, measured; and the command."""

import json
from dataclasses import replace

import numpy as np
import pytest

from audioldm_utils.audio import clips as audio
from audioldm_utils.cli import main as cli
from audioldm_utils.cli.commands import sweep as command
from audioldm_utils.errors import UserError
from audioldm_utils.model.checkpoint_fingerprint import fingerprint
from audioldm_utils.results import summaries as results
from audioldm_utils.sweep.file import read_sweep
from audioldm_utils.sweep.run import Store
from audioldm_utils.sweep.tasks import measure
from tests import sweep_tasks
from tests.demo_sweep import in_process  # noqa: F401


@pytest.fixture
def sweep_file(tmp_path, tiny_checkpoint):
    folder = tmp_path / "clips"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        noise = (0.1 * rng.standard_normal(16000)).astype(np.float32)
        audio.save(folder / f"{name}.wav", noise, 22050)
    (folder / "manifest.csv").write_text("file,caption,class\na.wav,rain,water\nb.wav,wind,air\n")
    entries = {
        "audio": "clips",
        "checkpoints": [str(tiny_checkpoint)],
        "methods": ["vae", {"vae-refined": {"steps": [1, 2]}}],
        "metrics": ["log_mel_nat", "snr"],
        "max_seconds": 0.5,
    }
    path = tmp_path / "sweep.yml"
    path.write_text(json.dumps(entries))
    return path


def test_a_task_measures_a_clip(sweep_file, tiny_checkpoint):
    tasks, broken, function = command.prepare(read_sweep(sweep_file), "out")
    assert function is measure
    assert not broken
    assert len(tasks) == 6
    task = next(t for t in tasks if t.label == "steps=2" and t.clip == "a")
    table = measure(task)
    assert set(table["class"]) == {"water"}
    assert set(table["stage"]) == {"steps=2"}
    assert set(table["checkpoint"]) == {fingerprint(tiny_checkpoint)[:12]}
    values = table.set_index("metric")["value"]
    assert {"log_mel_nat", "snr", "seconds", "unet_calls", "side_bits", "rate"} <= set(values.index)
    assert values["unet_calls"] == 0
    again = measure(task).set_index("metric")["value"]
    assert again["log_mel_nat"] == values["log_mel_nat"]


def test_a_task_refuses_what_was_not_planned(sweep_file):
    tasks, _, _ = command.prepare(read_sweep(sweep_file), "out")
    task = tasks[0]
    with pytest.raises(UserError, match=r"checkpoint .* is another one here"):
        measure(replace(task, fingerprint="0" * 64))
    with pytest.raises(UserError, match=r"a\.wav changed while the sweep ran"):
        measure(replace(task, content="0" * 64))
    with pytest.raises(UserError, match="another version of audioldm_utils"):
        measure(replace(task, code="0" * 64))
    with pytest.raises(UserError, match="the clip is gone"):
        measure(replace(task, path="/nowhere/a.wav"))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"methods": ["vea"]}, "no method 'vea'; there are vae, "),
        ({"methods": [{"vae-refined": {"step": 3}}]}, "has no option 'step'"),
        ({"metrics": ["loudness"]}, "unknown metric 'loudness'"),
        ({"checkpoints": ["nowhere"]}, "nowhere"),
        ({"audio": "none"}, "none"),
    ],
)
def test_command_refuses_before_anything_runs(sweep_file, capsys, change, sentence):
    sweep_file.write_text(json.dumps(json.loads(sweep_file.read_text()) | change))
    assert cli.main(["sweep", str(sweep_file), "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("audioldm-utils: error: ")
    assert sentence in error


@pytest.mark.usefixtures("in_process")
def test_command(sweep_file, tmp_path, capsys, monkeypatch):
    """Two clips, one of which fails: the other is done, and the exit status says so."""
    out = tmp_path / "out"
    assert cli.main(["sweep", str(sweep_file), "--out", str(out), "--dry-run"]) == 0
    assert capsys.readouterr().out == "6 tasks, 0 of them done\n"
    planned = command.prepare

    def light(sweep, folder):
        tasks, _, _ = planned(sweep, folder)
        for task in tasks[1:]:
            if task.clip == "a":
                Store(out / "parts").write(task.key, sweep_tasks.measure(task))
        return tasks, {"c": "c.wav: No such file or directory"}, sweep_tasks.measure

    (tmp_path / "clips" / "b.wav").write_text("broken")
    monkeypatch.setattr(command, "prepare", light)
    arguments = ["sweep", str(sweep_file), "--out", str(out), "--workers", "1", "--quiet"]
    assert cli.main(arguments) == 1
    printed = capsys.readouterr()
    assert "1 tasks computed, 2 known from before, 4 failed" in printed.out
    assert "failed: c: c.wav: No such file or directory" in printed.err
    assert "b.wav is no audio" in printed.err
    assert set(results.read(out / "results.parquet")["clip"]) == {"a"}


@pytest.mark.parametrize(
    ("name", "gpus", "devices"),
    [
        ("cuda", 4, ["cuda:0", "cuda:1", "cuda:2", "cuda:3", "cuda:0"]),
        ("cuda", 1, ["cuda"] * 5),
        ("cuda", 0, ["cuda"] * 5),
        ("cuda:2", 4, ["cuda:2"] * 5),
        ("cpu", 4, ["cpu"] * 5),
    ],
)
def test_each_worker_has_a_gpu_of_its_own(name, gpus, devices, monkeypatch):
    import torch

    from audioldm_utils.model.checkpoint import device_of_worker

    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert [device_of_worker(name, number) for number in range(5)] == devices
