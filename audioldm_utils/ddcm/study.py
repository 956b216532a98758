"""Study ``05_rates``: what DDCM keeps of a clip at each rate of the file, header included."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from audioldm_utils.audio import Clip, to_model_rate
from audioldm_utils.codebook.planning import RateTooLowError
from audioldm_utils.ddcm.codec import Codec
from audioldm_utils.ddcm.settings import Settings
from audioldm_utils.stages import normalise

if TYPE_CHECKING:
    from audioldm_utils.stages import Stages
    from audioldm_utils.tables import ResultsBuilder

#: Targets in kbit/s; a file never exceeds its target.
RATES = (0.2, 0.5, 1.0, 2.0, 5.0)
#: Only the beginning of each clip is coded, with few network calls, so that the study runs on
#: many clips without an accelerator.
SECONDS = 2.56
STEPS = 25


def study(clip: Clip, stages: Stages, rows: ResultsBuilder, seed: int) -> None:
    """Log-mel error of the decoded latents' mel at each rate, beside the VAE's own."""
    wave = to_model_rate(clip)[: round(SECONDS * stages.mel_config.sample_rate)]
    normalised, _ = normalise(torch.from_numpy(wave)[None])
    mel = stages.to_mel(normalised)
    latents = stages.encode(mel)
    codec = Codec(stages)

    def add(method: str, stage: str, metric: str, value: float, unit: str) -> None:
        rows.add(clip.name, metric, value, unit, category=clip.category, method=method, stage=stage)

    add("vae", "", "mel_error", (stages.decode(latents) - mel).abs().mean().item(), "nat")
    for rate in RATES:
        try:
            encoded = codec.encode(wave, Settings(kbps=rate, steps=STEPS, seed=seed))
        except RateTooLowError:
            continue  # a clip this short has no row at this rate
        decoded = encoded.codes.latents[:, :, : latents.shape[2]]
        stage = f"{rate:g} kbit/s"
        error = (stages.decode(decoded)[:, : mel.shape[1]] - mel).abs().mean().item()
        add("ddcm", stage, "mel_error", error, "nat")
        add("ddcm", stage, "rate", encoded.sizes.kbps, "kbit/s")
        add("ddcm", stage, "payload_rate", encoded.sizes.payload_kbps, "kbit/s")
        add("ddcm", stage, "network_calls", encoded.calls, "calls")
        both = torch.stack([decoded.flatten(), latents[:, :, : decoded.shape[2]].flatten()])
        add("ddcm", stage, "latent_correlation", torch.corrcoef(both)[0, 1].item(), "1")
