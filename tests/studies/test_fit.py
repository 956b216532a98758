"""``audioldm-utils fit`` on a tiny checkpoint."""

import shutil

import numpy as np
import pytest
import torch

from audioldm_utils.audio import clips as audio
from audioldm_utils.cli.main import main
from audioldm_utils.ddcm.codebook.fitted import load_fitted, load_kmeans, load_quantiser
from audioldm_utils.errors import UserError
from audioldm_utils.model.checkpoint import load
from audioldm_utils.model.schedule import Schedule, training_alphas_bar
from audioldm_utils.studies import codebook_fits as fitting
from tests.oracle import CONFIG, oracle, white


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    draw = np.random.default_rng(0)
    for i in range(3):
        x = 0.1 * draw.standard_normal(16000) * np.sin(np.arange(16000) / 900 + i)
        audio.save(folder / f"clip{i}.wav", x.astype(np.float32), 16000)
    return folder


def test_fit_stores_each_part_for_this_checkpoint_only(tiny_checkpoint, clips, tmp_path, capsys):
    folder = tmp_path / "tiny"
    shutil.copytree(tiny_checkpoint, folder)
    command = ["fit", "--checkpoint", str(folder), "--audio", str(clips), "--max-seconds", "1"]
    command += ["--size", "8", "--stages", "2", "--directions", "4", "--noise-block", "8", "8"]
    assert main([*command, "--parts", "vq", "rvq", "k-means"]) == 0
    shown = capsys.readouterr().out
    assert "held-out latents" in shown
    assert "held-out residuals" in shown
    fingerprint = load(folder).fingerprint
    assert load_quantiser(folder, fingerprint, "vq").centres.shape == (1, 8, 8)
    assert load_quantiser(folder, fingerprint, "rvq").centres.shape == (2, 8, 128)
    book = load_kmeans(folder, fingerprint, (8, 28, 16))
    assert book.centres.shape == (4, 512)
    choice = book.choose(0, white(1, (8, 28, 16)))
    assert choice.shape == (1, 8)
    assert load_quantiser(folder, fingerprint, "rvq-coarse").block == fitting.COARSE[1]
    _, facts = load_fitted(folder, fingerprint, "rvq")
    assert facts["clips"] == ["clip0", "clip1", "clip2"]
    errors = facts["held_out_relative_error"]
    assert errors[1] <= errors[0]
    stored = {p.name: p.read_bytes() for p in (folder / "fitted").rglob("*.safetensors")}
    assert sorted(stored) == [
        f"{name}.safetensors" for name in ("k-means", "rvq-coarse", "rvq", "vq")
    ]
    assert main([*command, "--parts", "vq"]) == 0
    again = next((folder / "fitted").rglob("vq.safetensors")).read_bytes()
    assert again == stored["vq.safetensors"]


def test_fit_stores_the_compensation(tiny_codec, clips, tmp_path, capsys):
    folder = tmp_path / "codec"
    shutil.copytree(tiny_codec, folder)
    command = ["fit", "--checkpoint", str(folder), "--audio", str(clips), "--max-seconds", "1"]
    assert main([*command, "--parts", "compensation"]) == 0
    path = next((folder / "fitted").rglob("compensation.json"))
    assert str(path) in capsys.readouterr().out


def test_fit_refuses_what_it_cannot_use(tiny_codec, clips, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("AUDIOLDM_UTILS_FITS", str(tmp_path))
    assert main(["fit", "--checkpoint", str(tiny_codec), "--audio", str(tmp_path / "none")]) == 2
    command = ["fit", "--checkpoint", str(tiny_codec), "--audio", str(clips)]
    assert main([*command, "--size", "0"]) == 2
    assert "--size must be a whole number from 1" in capsys.readouterr().err
    assert main([*command, "--parts", "vq", "--size", "5000"]) == 2
    assert "cannot fit a codebook of 5000" in capsys.readouterr().err
    assert main([*command, "--parts", "k-means"]) == 0
    assert "no UNet" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_residuals_are_those_of_the_denoiser():
    curve = training_alphas_bar(CONFIG)
    timesteps = fitting.nearest_timesteps(curve, (0.1, 0.9))
    assert timesteps[0] > timesteps[1]
    assert abs(curve[timesteps] - [0.1, 0.9]).max() < 0.01
    schedule = Schedule.from_config(CONFIG, placement=timesteps)
    latents = list(white(2, (4, 32, 8)))
    found = fitting.residuals(latents, schedule, oracle(), seed=3)
    # for N(0, I) and its exact denoiser the residual has variance 1 - alpha-bar
    assert [r.shape for r in found] == [(4, 32, 8)] * 4
    assert float(found[0].var()) == pytest.approx(0.9, abs=0.1)
    assert float(found[1].var()) == pytest.approx(0.1, abs=0.02)
    assert not torch.equal(found[0], found[2])


def test_clips_are_held_out():
    kept, checked = fitting.split(list(range(17)))
    assert checked == [0, 8, 16]
    assert set(kept) | set(checked) == set(range(17))
    assert not set(kept) & set(checked)
    assert fitting.split(["only"]) == (["only"], ["only"])
    with pytest.raises(UserError, match="no latents"):
        fitting.split([])


def test_fit_stores_the_linear_denoiser_and_the_placement(
    tiny_checkpoint, clips, tmp_path, capsys, monkeypatch
):
    from audioldm_utils.ddcm import placement
    from audioldm_utils.studies import placement_tuning

    folder = shutil.copytree(tiny_checkpoint, tmp_path / "tiny")
    monkeypatch.setattr(placement_tuning, "BITS", (0.1, 0.5))
    command = ["fit", "--checkpoint", str(folder), "--audio", str(clips), "--max-seconds", "1"]
    assert main([*command, "--parts", "linear", "placement", "--tuned-on", "2"]) == 0
    assert "placement: below" in capsys.readouterr().out
    fingerprint = load(folder).fingerprint
    tensors, _ = load_fitted(folder, fingerprint, "linear")
    assert tensors["lags"].shape == (9, 128, 128)
    rules = placement.load_rules(folder, fingerprint)
    assert rules[-1][0] == float("inf")
    assert main([*command, "--parts", "placement", "--tuned-on", "0"]) == 2
    assert "--tuned-on must be a whole number from 1" in capsys.readouterr().err
