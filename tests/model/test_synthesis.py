"""Synthesis as a choice: every way that sound is made takes it, and ``auto`` is measured."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import soundfile as sf
import torch

from audioldm_utils.cli.main import main
from audioldm_utils.errors import UserError
from audioldm_utils.model.checkpoint import load
from audioldm_utils.model.fits import fits_digest
from audioldm_utils.model.generation import generate
from audioldm_utils.model.networks import Networks
from audioldm_utils.model.synthesis import SYNTHESES, synthesis_path, synthesise
from audioldm_utils.studies.synthesis_choice import choose
from tests.mixed_folder import sound


@pytest.fixture(scope="module")
def place(tiny_checkpoint, tmp_path_factory):
    """A checkpoint of its own and a clip."""
    folder = tmp_path_factory.mktemp("synthesis")
    shutil.copytree(tiny_checkpoint, folder / "tiny")
    (folder / "clips").mkdir()
    for i in range(3):
        sf.write(folder / "clips" / f"{i}.wav", sound(i, 1, 16000, 1), 16000)
    return folder


def read(path):
    return sf.read(path)[0]


def test_griffin_lim_and_inverse_are_what_their_methods_give(place, tmp_path):
    common = ["--checkpoint", str(place / "tiny"), "--seed", "5"]
    clip = str(place / "clips" / "0.wav")
    for synthesis, method in (("griffin-lim", "vae-griffinlim"), ("inverse", "vae-inverse")):
        a, b = tmp_path / "a.wav", tmp_path / "b.wav"
        assert main(["reconstruct", clip, str(a), "--synthesis", synthesis, *common]) == 0
        assert main(["reconstruct", clip, str(b), "--method", method, *common]) == 0
        assert a.read_bytes() == b.read_bytes()


def test_where_something_else_makes_sound_no_vocoder_is_needed(place, tmp_path):
    bare = shutil.copytree(place / "tiny", tmp_path / "bare")
    shutil.rmtree(bare / "vocoder")
    words = ["reconstruct", str(place / "clips" / "0.wav"), str(tmp_path / "a.wav")]
    words += ["--checkpoint", str(bare), "--synthesis"]
    assert main([*words, "vocoder"]) == 2
    assert main([*words, "griffin-lim"]) == 0


def test_what_is_fitted_is_part_of_what_a_sweep_knows_a_task_by(place, tmp_path):
    folder = shutil.copytree(place / "tiny", tmp_path / "tiny")
    fingerprint = load(folder, ()).fingerprint
    before = fits_digest(folder, fingerprint)
    path = synthesis_path(folder, fingerprint)
    path.parent.mkdir(parents=True)
    path.write_text("1")
    assert fits_digest(folder, fingerprint) != before == fits_digest(folder, "ab" * 32)


def test_decode_and_generate_take_it(place, tmp_path):
    common = ["--checkpoint", str(place / "tiny")]
    clip, file = str(place / "clips" / "0.wav"), str(tmp_path / "x.ddcm")
    assert main(["encode", clip, file, "--steps", "2", *common]) == 0
    made = {}
    for name in SYNTHESES:
        out = tmp_path / f"{name}.wav"
        assert main(["decode", file, str(out), "--synthesis", name, *common]) == 0
        made["decode", name] = read(out)
        words = [
            "generate",
            "rain",
            str(out),
            "--steps",
            "2",
            "--seconds",
            "0.5",
            "--guidance",
            "1",
        ]
        assert main([*words, "--synthesis", name, *common]) == 0
        made["generate", name] = read(out)
    for command in ("decode", "generate"):
        sounds = [made[command, name] for name in SYNTHESES]
        assert len({len(wave) for wave in sounds}) == 1
        assert not any(np.allclose(sounds[i], sounds[i - 1]) for i in range(3))


def test_generation_by_another_synthesis_changes_the_sound_and_nothing_before_it(place):
    checkpoint = load(place / "tiny")
    given = {"steps": 2, "seconds": 0.64, "guidance": 1.0}
    own, other = (
        generate("rain", Networks(checkpoint, synthesis=name), **given)
        for name in ("vocoder", "griffin-lim")
    )
    assert torch.equal(own.latents, other.latents)
    mel = Networks(checkpoint).decode(other.latents)
    assert torch.equal(other.audio[0], synthesise(mel, "griffin-lim")[0, : other.audio.shape[1]])


def test_what_iterates_over_the_whole_sound_is_not_streamed_in_blocks(place, capsys):
    source, out = place / "a.wav", place / "b.wav"
    sf.write(source, sound(0, 1, 16000, 1), 16000)
    words = ["stream", str(source), str(out), "--synthesis", "inverse"]
    assert main(words) == 2
    assert "cannot be streamed in blocks" in capsys.readouterr().err
    assert not out.exists()
    assert main([*words, "--ahead", "0.16", "--checkpoint", str(place / "tiny")]) == 0
    assert sf.info(out).frames == 16000
    coded = str(place / "b.ddcs")
    assert main(["stream", str(source), coded, "--ahead", "0.16"]) == 2
    assert "not for .ddcs" in capsys.readouterr().err


def test_auto_is_the_vocoder_until_something_was_measured(place, tmp_path):
    folder = shutil.copytree(place / "tiny", tmp_path / "tiny")
    checkpoint = load(folder, ())
    assert Networks(checkpoint).synthesis == "vocoder"
    path = synthesis_path(folder, checkpoint.fingerprint)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"synthesis": "inverse", "fingerprint": checkpoint.fingerprint}))
    assert Networks(checkpoint).synthesis == "inverse"
    assert Networks(checkpoint, synthesis="griffin-lim").synthesis == "griffin-lim"
    for text in ("{", "[]", '{"synthesis": "x"}', '{"synthesis": "inverse", "fingerprint": "0"}'):
        path.write_text(text)
        with pytest.raises(UserError, match="does not tell this checkpoint's synthesis"):
            _ = Networks(checkpoint).synthesis
    with pytest.raises(UserError, match="must be one of auto, vocoder"):
        Networks(checkpoint, synthesis="wavenet")


def test_the_rule_keeps_the_vocoder_unless_another_is_nearer_beyond_chance():
    rng = np.random.default_rng(0)
    base = rng.uniform(1, 2, 12)
    away = {"griffin-lim": base + 0.5, "inverse": base + 0.4}
    assert choose({"vocoder": base, **away}) == ("vocoder", 1.0)
    name, p = choose({"vocoder": base + 1, **away})
    assert (name, p < 0.01) == ("inverse", True)
    noisy = base + np.where(np.arange(12) % 2, 1.0, -0.9)  # nearer on average, half the clips not
    assert choose({"vocoder": noisy, "griffin-lim": base, "inverse": base + 9})[0] == "vocoder"
    assert choose({"vocoder": base[:1] + 1, "inverse": base[:1]})[0] == "vocoder"


def test_fit_measures_it_and_what_follows_is_fitted_to_it(place, tmp_path, capsys):
    folder = shutil.copytree(place / "tiny", tmp_path / "tiny")
    words = ["fit", "--checkpoint", str(folder), "--audio", str(place / "clips")]
    assert main([*words, "--parts", "synthesis", "compensation", "--max-seconds", "1"]) == 0
    said = capsys.readouterr().out
    checkpoint = load(folder, ())
    record = json.loads(synthesis_path(folder, checkpoint.fingerprint).read_text())
    assert record["clips"] == ["0", "1", "2"]
    assert set(record["mean_distance"]) == set(SYNTHESES)
    assert "p < 0.05" in record["rule"]
    assert Networks(checkpoint).synthesis == record["synthesis"]
    name = "compensation" + ("" if record["synthesis"] == "vocoder" else f"-{record['synthesis']}")
    assert f"{name}.json" in said
