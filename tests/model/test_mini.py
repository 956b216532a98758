"""The shipped checkpoint: plain diffusers loads it, it is small, and it is really trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

MINI = Path(__file__).resolve().parents[2] / "data" / "checkpoints" / "mini"


@pytest.fixture(scope="module")
def pipe():
    from diffusers import AudioLDM2Pipeline

    pipe = AudioLDM2Pipeline.from_pretrained(MINI)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_size_and_precision_on_disk():
    from safetensors import safe_open

    files = [path for path in MINI.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 40e6
    weights = [path for path in files if path.suffix == ".safetensors"]
    assert not [p.name for p in files if p.suffix in (".bin", ".pt", ".ckpt")]
    for path in weights:
        with safe_open(path, "pt") as handle:
            kinds = {handle.get_tensor(key).dtype for key in handle.keys()}  # noqa: SIM118
        assert torch.float32 not in kinds, path


def test_published_geometry_and_schedule(pipe):
    assert pipe.vae.config.latent_channels == 8
    assert pipe.vocoder.config.upsample_rates == [5, 4, 2, 2, 2]
    # Mean and scale of log-mels stand in the vocoder, where the published ones have none.
    assert pipe.vocoder.config.normalize_before is True
    assert pipe.vocoder.scale.abs().min() > 0.1
    config = pipe.scheduler.config
    assert (config.beta_schedule, config.beta_start, config.beta_end) == (
        "scaled_linear",
        0.0015,
        0.0195,
    )
    assert (config.prediction_type, config.steps_offset) == ("v_prediction", 1)


def test_text_to_audio_by_plain_diffusers(pipe):
    def sound(prompt):
        return pipe(
            prompt,
            num_inference_steps=4,
            audio_length_in_s=0.64,
            generator=torch.Generator().manual_seed(0),
        ).audios[0]

    rain, piano = sound("rain falling"), sound("a grand piano playing a short melody")
    assert rain.dtype == np.float32
    assert np.isfinite(rain).all()
    assert rain.std() > 1e-4
    # The prompt matters: the same noise becomes another sound.
    assert np.abs(np.corrcoef(rain, piano)[0, 1]) < 0.99


def test_latents_have_unit_spread_and_the_mel_comes_back():
    """A model with random weights is far from both."""
    from audioldm_utils.audio.clips import load_clip, to_model_rate
    from audioldm_utils.model.checkpoint import load
    from audioldm_utils.model.networks import Networks, normalise

    networks = Networks(load("mini"))
    errors = []
    for name in ("piano", "rain", "speech_english"):
        clip = load_clip(MINI.parents[1] / "audio" / f"{name}.flac")
        wave, _ = normalise(torch.from_numpy(to_model_rate(clip))[None])
        mel = networks.to_mel(wave)
        latents = networks.encode(mel)
        assert 0.5 < latents.std() < 1.6
        errors.append((networks.decode(latents) - mel).abs().mean().item())
    assert np.mean(errors) < 0.3
