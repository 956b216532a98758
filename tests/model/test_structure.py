"""What the layout alone decides, whatever the weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from audioldm_utils.metrics.pitch import comb_share
from audioldm_utils.model.checkpoint import load

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
