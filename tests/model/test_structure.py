"""What the layout alone decides, whatever the weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from audioldm_utils.audio.clips import Clip, to_model_rate
from audioldm_utils.metrics import chroma_correlation, snr
from audioldm_utils.metrics.pitch import comb_share
from audioldm_utils.model.checkpoint import load
from audioldm_utils.model.mel import griffin_lim, griffin_lim_from, log_mel, stft_magnitude
from audioldm_utils.studies.pca import COEFFICIENTS, FRAMES
from tests import tiny

#: Of AudioLDM2's vocoder: rates whose product is the hop of 160 samples.
PUBLISHED = {
    "model_in_dim": 64,
    "sampling_rate": 16000,
    "upsample_initial_channel": 1024,
    "upsample_rates": [5, 4, 2, 2, 2],
    "upsample_kernel_sizes": [16, 16, 8, 4, 4],
    "resblock_kernel_sizes": [3, 7, 11],
    "resblock_dilation_sizes": [[1, 3, 5]] * 3,
    "normalize_before": False,
}
#: Frames at each end that feel the edge: the published receptive field is 22 frames each way.
EDGE = 25


def published() -> torch.nn.Module:
    from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

    torch.manual_seed(0)
    vocoder = SpeechT5HifiGan(SpeechT5HifiGanConfig(**PUBLISHED))
    for weight in vocoder.parameters():  # the initial spread of 0.01 would answer with silence
        if weight.ndim == 3:
            torch.nn.init.normal_(weight, std=1 / (weight.shape[1] * weight.shape[2]) ** 0.5)
    return vocoder


@pytest.mark.parametrize("which", ["published layout, random weights", "mini"])
def test_a_mel_that_stands_still_gives_a_waveform_that_repeats_every_frame(which):
    """So no steady tone can be made but of multiples of 100 Hz: each layer commutes with shifts.

    A shift of the mel by one frame shifts the output by the product of the rates, 160 samples;
    a mel that stands still is its own shift.
    """
    vocoder = load("mini", ("vocoder",)).vocoder if which == "mini" else published()
    mel = torch.randn(64, generator=torch.Generator().manual_seed(1)) - 4
    with torch.no_grad():
        wave = vocoder(mel.expand(1, 2 * EDGE + 12, 64))[0].double().numpy()
    inner = wave[EDGE * 160 : (EDGE + 12) * 160]
    assert np.abs(inner).max() > 1e-3 * np.abs(wave).max() > 0
    spread = np.abs(inner[160:] - inner[:-160]).max()
    assert spread < 1e-4 * np.abs(inner - inner.mean()).max()
    # Long enough for the comb's teeth to be told apart, the rest is by the period.
    assert comb_share(np.tile(inner[:160], 100), 16000) > 0.999


def test_the_published_vae_keeps_half_as_many_numbers_as_the_mel():
    """So a linear one that sees no further than 16 frames is bounded by 512 components of them."""
    from diffusers import AutoencoderKL

    blocks = ("DownEncoderBlock2D",) * 3, ("UpDecoderBlock2D",) * 3
    with torch.device("meta"):  # shapes alone
        vae = AutoencoderKL(
            1, 1, *blocks, block_out_channels=(128, 256, 512), layers_per_block=2, latent_channels=8
        )
        latents = vae.encode(torch.zeros(1, 1, FRAMES, 64)).latent_dist.mean
    assert latents.numel() == COEFFICIENTS == FRAMES * 64 // 2


def test_the_vae_looks_further_than_the_patch():
    """Normalisation and attention see the whole window: the linear bound is none for it."""
    vae = tiny.vae().eval()
    mel = torch.randn(1, 1, 256, 64, generator=torch.Generator().manual_seed(0)) - 5
    other = mel.clone()
    other[:, :, -FRAMES:] += 3
    with torch.no_grad():
        near, far = (vae.encode(x).latent_dist.mean[:, :, 0] for x in (mel, other))
    assert (near - far).abs().max() > 1e-4 * near.abs().max()


def partials(frequency: float, seconds: float = 1.5, rate: int = 16000) -> np.ndarray:
    t = np.arange(round(seconds * rate)) / rate
    tone = sum(np.sin(2 * np.pi * frequency * k * t) / k for k in range(1, 9))
    noise = 0.01 * np.random.default_rng(0).standard_normal(len(t))
    return (0.1 * tone + noise).astype(np.float32)


def test_what_lies_above_8_khz_leaves_no_trace_in_the_mel():
    low, rate = partials(440, rate=48000), 48000
    high = np.sin(2 * np.pi * 9500 * np.arange(len(low)) / rate) * np.hanning(len(low))
    waves = [to_model_rate(Clip("x", x, rate, None)) for x in (low, low + np.float32(0.1 * high))]
    mels = [log_mel(torch.from_numpy(wave)[None]) for wave in waves]
    assert (mels[0] - mels[1]).abs().max() < 0.02


def test_polarity_is_lost_so_no_output_has_a_waveform_snr_above_0_db_on_both():
    """One mel, so one output y for x and -x; |x - y|^2 + |x + y|^2 is at least 2 |x|^2."""
    x = partials(233)
    mels = [log_mel(torch.from_numpy(wave)[None]) for wave in (x, -x)]
    assert torch.equal(*mels)
    for y in (griffin_lim(mels[0], 4)[0].numpy(), 0.9 * x, np.zeros_like(x)):
        assert min(snr(x, y, 16000), snr(-x, y, 16000)) <= 1e-6


def test_lost_phase_keeps_the_pitch_and_lost_magnitudes_do_not():
    """Griffin-Lim from 513 magnitudes bounds what losing the phase has to cost any checkpoint."""
    chord = partials(233) + partials(293.7) + partials(349.2)
    x = torch.from_numpy(chord)[None]
    target = stft_magnitude(x)
    off = {}
    for iterations in (1, 32):
        made = griffin_lim_from(target, iterations)
        off[iterations] = float((stft_magnitude(made) - target).norm() / target.norm())
    assert off[32] < 0.5 * off[1]
    kept = chroma_correlation(chord, made[0].numpy(), 16000)
    coarse = chroma_correlation(chord, griffin_lim(log_mel(x))[0].numpy(), 16000)
    assert kept > 0.95 > coarse
