"""The studies of repair and diffusion on a tiny checkpoint: what they measure and count."""

from __future__ import annotations

import gc
import shutil
import weakref
from pathlib import Path

import numpy as np
import pytest

from audioldm_utils.audio.clips import Clip
from audioldm_utils.methods.enhance import bands
from audioldm_utils.methods.registry import reconstruct
from audioldm_utils.model.networks import Networks
from audioldm_utils.model.schedule import training_alphas_bar
from audioldm_utils.results.tables import ResultsBuilder
from audioldm_utils.studies import diffusion as study_diffusion
from audioldm_utils.studies import repair as study_repair
from audioldm_utils.studies.compensation import fit_if_missing

GRID = {
    "seconds": 2.56, "calls": 10, "more_calls": 15,
    "strengths": (0.2, 0.4, 0.7), "rates": (0.5, 2.0), "probes": (200, 500),
}  # fmt: skip


def sound(seconds: float, rate: int = 44100, seed: int = 0) -> np.ndarray:
    t = np.arange(round(seconds * rate)) / rate
    tone = np.sin(2 * np.pi * 440 * t) * np.exp(-3 * t)
    noise = np.random.default_rng(seed).standard_normal(len(t))
    return (0.2 * tone + 0.02 * noise).astype(np.float32)


@pytest.fixture(scope="module")
def networks(tiny_checkpoint: Path, tmp_path_factory) -> Networks:
    folder = tmp_path_factory.mktemp("study") / "tiny"
    shutil.copytree(tiny_checkpoint, folder)
    found = Networks(folder)
    bands.save_compensation(bands.identity_compensation(found.checkpoint.fingerprint), folder)
    return found


@pytest.fixture(scope="module")
def clip() -> Clip:
    return Clip("tone", sound(1.2), 44100, Path("tone.wav"), "a tone", "flute")


@pytest.fixture(scope="module")
def repaired(networks, clip):
    rows = ResultsBuilder(networks.checkpoint.fingerprint, 0)
    study_repair.measure_repairs(clip, networks, rows, 0, seconds=2.56, steps=3)
    return rows.table()


def test_the_curve_of_refinement_keeps_its_first_steps_and_every_tenth():
    assert study_repair.shown_steps(50) == [0, 1, 2, 5, 10, 20, 30, 40, 50]
    assert study_repair.shown_steps(3) == [0, 1, 2, 3]
    assert study_repair.shown_steps(25) == [0, 1, 2, 5, 10, 20, 25]


def test_every_repair_is_measured(repaired):
    pairs = set(zip(repaired["method"], repaired["stage"], strict=True))
    assert set(study_repair.STUDIED.values()) <= pairs
    assert {("vae", ""), ("envelope-noise", "full band"), ("crossover (oracle)", "full band")} <= (
        pairs
    )
    judged = repaired[(repaired["stage"] == "") & (repaired["band"] == "")]
    for metric in ("log_mel_distance", "multi_resolution_stft", "visqol", "warble"):
        assert set(judged.loc[judged["metric"] == metric, "method"]) == {
            *study_repair.PLAIN, "vae", "vae-denoise", "vae-refined", "vae-restored",
        }  # fmt: skip


def test_the_synthesis_in_use_is_one_of_the_plain_alternatives(repaired, networks):
    judged = repaired[(repaired["stage"] == "") & (repaired["metric"] == "multi_resolution_stft")]
    value = judged.set_index("method")["value"]
    (used,) = (name for name, way in study_repair.PLAIN.items() if way == networks.synthesis)
    assert value["vae"] == value[used]
    assert len({value[name] for name in study_repair.PLAIN}) == 3
    # A «flute» has a pitch to keep, so each is judged by it too.
    pitch = repaired[repaired["metric"] == "chroma_correlation"]
    assert set(study_repair.PLAIN) <= set(pitch["method"])


def test_the_ablation_refines_once_and_charges_the_restored_clip_too(repaired):
    value = repaired.set_index(["method", "stage", "metric", "band"])["value"]
    assert value["vae-refined", "", "decoder_backward", ""] == 3
    assert value["vae-restored", "", "decoder_backward", ""] == 3
    assert value["vae-restored", "", "seconds", ""] > value["vae", "", "seconds", ""]
    assert (
        value["vae-refined", "step 3", "mel_distance", ""]
        < value["vae-refined", "step 0", "mel_distance", ""]
    )
    assert value["vae-refined", "mel", "mel_error", ""] < value["vae", "mel", "mel_error", ""]
    assert 0 < value["vae-highfreq", "side information", "side_rate", ""] <= 0.2
    assert value["vae-highfreq", "full band", "side_rate", ""] <= 1.0
    assert value["original", "", "energy_above_8_khz", ""] > 1


def test_silence_has_no_rows(networks):
    silent = Clip("silence", np.zeros(44100, np.float32), 44100, Path("s.wav"), "silence", "none")
    rows = ResultsBuilder(networks.checkpoint.fingerprint, 0)
    study_repair.measure_repairs(silent, networks, rows, 0, seconds=2.56, steps=3)
    study_diffusion.measure_diffusion(silent, networks, rows, 0, **GRID)
    assert not rows.rows


def test_restoration_judges_by_other_metrics_than_it_is_judged_by(networks, clip, monkeypatch):
    from audioldm_utils import metrics

    def refuse(*_):
        raise AssertionError("the rule must not look at this")

    for name in ("log_mel_distance", "multi_resolution_stft", "visqol"):
        monkeypatch.setattr(metrics, name, refuse)
    (result,) = reconstruct(clip, "vae-restored", networks, steps=2, iterations=1)
    assert set(result.details["parts"]) == {
        "refined", "phase", "quiet", "compensation", "envelope",
    }  # fmt: skip


def test_a_silent_clip_is_restored_without_any_part(networks):
    silent = Clip("silence", np.zeros(8000, np.float32), 16000, Path("s.wav"))
    (result,) = reconstruct(silent, "vae-restored", networks, steps=1, iterations=1)
    assert not any(result.details["parts"].values())


def test_share_above_of_two_tones():
    t = np.arange(44100) / 44100
    low, high = np.sin(2 * np.pi * 1000 * t), np.sin(2 * np.pi * 10000 * t)
    assert study_repair.share_above(low + 0.5 * high, 44100) == pytest.approx(20, abs=0.1)


def test_diffusion_runs_get_equal_calls(networks, clip):
    rows = ResultsBuilder(networks.checkpoint.fingerprint, 0)
    study_diffusion.measure_diffusion(clip, networks, rows, 0, **GRID)
    table = rows.table()
    calls = table[table["metric"] == "unet_calls"].set_index(["method", "stage"])["value"]
    for (method, stage), count in calls.items():
        if method == "vae" or stage == "strength 0":
            assert count == 0
        elif study_diffusion.EQUAL_SECONDS in stage:
            assert count <= GRID["more_calls"]
        elif method == "ddcm":
            assert count <= GRID["calls"]
        else:
            assert count == GRID["calls"]
    back = table[table["metric"] == "unet_backward"].set_index(["method", "stage"])["value"]
    assert back["guided", "strength 0.4"] == GRID["calls"] / 2
    value = table.set_index(["method", "stage", "metric", "band"])["value"]
    assert abs(value["original", "", "clap_text", ""]) <= 1


def test_epsilon_error_of_a_known_denoiser(networks, monkeypatch):
    import torch

    latents = torch.zeros(1, 8, 16, 16)
    # Zero latents: what is left of x_t is the noise, known up to its scale.
    monkeypatch.setattr(networks, "denoiser", lambda: lambda x, t: torch.zeros_like(x))
    assert study_diffusion.epsilon_error(networks, latents, GRID["probes"]) == pytest.approx(
        1, abs=0.1
    )
    abar = training_alphas_bar(networks.checkpoint.scheduler_config)
    monkeypatch.setattr(networks, "denoiser", lambda: lambda x, t: x / float(np.sqrt(1 - abar[t])))
    assert study_diffusion.epsilon_error(networks, latents, GRID["probes"]) == pytest.approx(
        0, abs=1e-9
    )


def test_a_missing_compensation_is_fitted_and_said(tiny_codec, tmp_path):
    import soundfile

    shutil.copytree(tiny_codec, tmp_path / "codec")
    soundfile.write(tmp_path / "a.wav", sound(0.4), 44100)
    networks = Networks(tmp_path / "codec")
    assert "this very run" in fit_if_missing(networks, tmp_path / "a.wav")
    assert fit_if_missing(networks, tmp_path / "a.wav") == "fitted before on 1 clips"


def test_memory_does_not_grow_with_the_number_of_clips(networks):
    """Nothing of a clip is held once the clip after the next is there."""
    seen = []

    def several():
        for i in range(6):
            clip = Clip(f"c{i}", sound(0.3, 16000, i), 16000, Path(f"c{i}.wav"))
            seen.append(weakref.ref(clip))
            yield clip
            del clip

    for count, result in enumerate(reconstruct(several(), "vae", networks), 1):
        gc.collect()
        assert len(seen) == count
        assert sum(clip() is not None for clip in seen) <= 2
        del result
