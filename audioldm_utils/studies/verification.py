"""Study ``07_correlation``: does DDCM's output follow its own input, and nothing else?

Every clip is encoded at each rate and its codes are decoded; beside that run the nulls, which
share everything with it but the one thing that they deny:

==================  ====================================================================
``ddcm``            the clip's own codes: matched
``ddcm-random``     random indices at the same rate, from the same x_T
``ddcm-prompt``     the clip's own codes, decoded under a prompt of another class, with the
                    guidance that text to audio uses
``ddcm-wrong``      codes chosen by another network, decoded by the right one
pair rows           the output of another clip's codes, of the same class or of another
``vae``             no diffusion: what the codec could reach at most
==================  ====================================================================

The other network is the checkpoint's UNet with noise of `PERTURBATION` times each weight
tensor's own standard deviation: a checkpoint of the same layout that was trained otherwise.
Another clip's codes need no run of their own: what they decode to is that clip's own output.
"""

from __future__ import annotations

import copy
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from audioldm_utils.audio.clips import Clip, fit_length, to_model_rate
from audioldm_utils.audio.signals import Gain
from audioldm_utils.ddcm import bitstream
from audioldm_utils.ddcm.codec import coder_for, latent_frames
from audioldm_utils.ddcm.settings import Settings, header_for
from audioldm_utils.metrics.correlations import band_envelope, correlate, correlation_matrix
from audioldm_utils.model.conditioning import stack
from audioldm_utils.model.denoiser import GuidedUNet
from audioldm_utils.model.networks import normalise
from audioldm_utils.studies.codebook_theory import (
    expected_cosine_greedy,
    rate_distortion_correlation,
)
from audioldm_utils.studies.prompts import CONTRASTING

if TYPE_CHECKING:
    from audioldm_utils.ddcm.core import DDCM, Step
    from audioldm_utils.model.conditioning import Conditioning
    from audioldm_utils.model.networks import Stages
    from audioldm_utils.results.tables import ResultsBuilder

#: Targets in kbit/s, header included.
RATES = (0.2, 1.0)
#: The beginning of each clip that is coded; shorter clips are filled with silence.
SECONDS = 2.56
#: Network calls of a run, at most.
STEPS = 14
#: Noise on each weight tensor of the wrong checkpoint, re the tensor's standard deviation.
PERTURBATION = 0.1
#: Classifier-free guidance of the other prompt; without, a prompt moves these codes little.
GUIDANCE = 3.5
#: Clips that go through the network together.
BATCH = 8
#: Metric name to representation and whether each bin's mean over time is removed.
METRICS = {
    "latent_correlation": ("latent", False),
    "latent_correlation_centred": ("latent", True),
    "log_mel_correlation": ("log-mel", False),
    "log_mel_correlation_centred": ("log-mel", True),
    "envelope_correlation": ("envelope", False),
    "envelope_correlation_centred": ("envelope", True),
    "waveform_correlation": ("waveform", False),
}
#: Those on which the random indices are paired with every input: the negative control.
CONTROL = ("latent_correlation_centred", "log_mel_correlation_centred")


def other_prompt(clip: Clip) -> str:
    """A prompt of another class, the same whatever other clips there are."""
    first = zlib.crc32(clip.name.encode()) % len(CONTRASTING)
    others = [CONTRASTING[(first + i) % len(CONTRASTING)] for i in range(2)]
    return next(text for category, text in others if category != clip.category)


def wrong_network(
    unet: torch.nn.Module, share: float = PERTURBATION, seed: int = 0
) -> torch.nn.Module:
    """A copy of the network with noise of ``share`` times each tensor's spread on its weights."""
    wrong = copy.deepcopy(unet)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in wrong.parameters():
            if parameter.numel() > 1:
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(share * parameter.float().std() * noise.to(parameter))
    return wrong


def study(clips: Sequence[Clip], stages: Stages, rows: ResultsBuilder, seed: int) -> None:
    """Correlations of every output with its own input and of the outputs of the nulls."""
    count = round(SECONDS * stages.mel_config.sample_rate)
    waves = np.stack([fit_length(to_model_rate(clip), count) for clip in clips])
    waves, level = normalise(torch.from_numpy(waves))
    mels = _batched(stages.to_mel, waves)
    latents = _batched(stages.encode, mels)
    inputs = {"latent": latents, "log-mel": mels, "waveform": waves}
    inputs["envelope"] = band_envelope(waves)
    names = [clip.name for clip in clips]
    classes = dict(zip(names, [clip.category for clip in clips], strict=True))

    def add(clip: str, method: str, stage: str, metric: str, value: float, **more: str) -> None:
        unit = more.pop("unit", "1")
        rows.add(
            clip, metric, value, unit, category=classes[clip], method=method, stage=stage, **more
        )

    def add_matched(method: str, stage: str, outputs: dict[str, torch.Tensor]) -> None:
        for metric, (kind, centred) in METRICS.items():
            found = correlate(inputs[kind], outputs[kind], kind, centred)
            for name, value in zip(names, found.tolist(), strict=True):
                add(name, method, stage, metric, value)

    def add_pairs(method: str, stage: str, outputs: dict, metrics: Sequence[str]) -> None:
        for metric in metrics:
            kind, centred = METRICS[metric]
            found = correlation_matrix(outputs[kind], inputs[kind], kind, centred)
            for i, j in np.argwhere(~np.eye(len(clips), dtype=bool)):
                add(names[i], method, stage, metric, found[i, j], band=f"with {names[j]}")

    add_matched("vae", "", _outputs(stages, latents))
    stages.checkpoint.use_channels_last()
    wrong = wrong_network(stages.checkpoint.unet, seed=seed)
    prompts = [stages.embed([other_prompt(clip)]) for clip in clips]
    seeds = [seed * 2**32 + zlib.crc32(name.encode()) for name in names]
    for rate in RATES:
        stage = f"{rate:g} kbit/s"
        settings = Settings(kbps=rate, steps=STEPS, seed=seed)
        part = latent_frames(count)
        first_level = Gain(level.mean[:1], level.scale[:1])
        header = header_for(
            stages, settings, count, stages.mel_config.sample_rate, first_level, 1, part
        )
        coder = coder_for(stages, header, part)
        runs: dict[str, list[torch.Tensor]] = {}
        for first in range(0, len(clips), BATCH):
            here = slice(first, first + BATCH)
            trace = _Trace(add, names[here], stage, latents[here])
            made = _runs(coder, stages, latents[here], seeds[here], prompts[here], wrong, trace)
            for method, found in made.items():
                runs.setdefault(method, []).append(found)
        outputs = {
            method: _outputs(stages, torch.cat(found)[:, :, : latents.shape[2]])
            for method, found in runs.items()
        }
        for method, found in outputs.items():
            add_matched(method, stage, found)
        add_pairs("ddcm", stage, outputs["ddcm"], list(METRICS))
        add_pairs("ddcm-random", stage, outputs["ddcm-random"], CONTROL)
        bits = coder.bits + 8 * len(bitstream.to_bytes(header, b""))
        for name in names:
            add(name, "ddcm", stage, "rate", bits / SECONDS / 1000, unit="kbit/s")
        for method, metric, value, band in theory(coder, latents[0].numel()):
            for name in names:
                add(name, method, stage, metric, value, band=band)


def theory(coder: DDCM, values: int) -> Iterator[tuple[str, str, float, str]]:
    """Rows (method, metric, value, band) of what each call can gain at best.

    The cosine is that of greedy choices from K independent normal atoms each; the correlation
    that of an ideal code of all bits so far for white latents, sqrt(1 - 2^(-2R)).
    """
    spent = 0.0
    states = float(coder.codebook.states(1))
    # After the last call nothing is chosen any more, but all that was chosen counts.
    for i, atoms in enumerate([*coder.atoms, 0]):
        band = f"call {i + 1:03d}"
        reached = float(rate_distortion_correlation(spent / values))
        yield "bound", "denoised_correlation", reached, band
        if atoms:
            yield "theory", "choice_cosine", expected_cosine_greedy(states, atoms, values), band
            spent += coder.codebook.bits(atoms)


class _Trace:
    """Callbacks that add a row for each step of a run of a batch."""

    def __init__(
        self, add: Callable[..., None], names: Sequence[str], stage: str, latents: torch.Tensor
    ) -> None:
        self.add, self.names, self.stage, self.latents = add, names, stage, latents

    def of(self, method: str, choices: bool = False) -> Callable[[Step], None]:
        def callback(step: Step) -> None:
            band = f"call {step.index + 1:03d}"
            found = {
                "denoised_correlation": correlate(self.latents, step.x0_hat, "latent"),
                "denoised_correlation_centred": correlate(
                    self.latents, step.x0_hat, "latent", True
                ),
            }
            if choices and step.noise is not None:
                found["choice_cosine"] = step.cosine()
            for metric, values in found.items():
                for name, value in zip(self.names, values.tolist(), strict=True):
                    self.add(name, method, self.stage, metric, value, band=band)

        return callback


def _runs(
    coder: DDCM,
    stages: Stages,
    latents: torch.Tensor,
    seeds: Sequence[int],
    prompts: Sequence[Conditioning],
    wrong: torch.nn.Module,
    trace: _Trace,
) -> dict[str, torch.Tensor]:
    """Method to the latents that its decoder ends with, for one batch."""
    right = stages.denoiser()
    device = {"device": stages.device}
    matched = coder.encode(latents, right, callback=trace.of("ddcm", choices=True))
    random = coder.generate(
        latents.shape[2], right, seeds=seeds, callback=trace.of("ddcm-random"), **device
    )
    prompted = coder.decode(matched, stages.denoiser(stack(list(prompts)), GUIDANCE))
    foreign = coder.encode(latents, GuidedUNet(wrong, stages.text.unconditional, 1.0, False))
    return {
        "ddcm": matched.latents,
        "ddcm-random": random.latents,
        "ddcm-prompt": prompted,
        "ddcm-wrong": coder.decode(foreign, right),
    }


def _batched(
    function: Callable[[torch.Tensor], torch.Tensor], values: torch.Tensor
) -> torch.Tensor:
    return torch.cat([function(part) for part in values.split(BATCH)])


def _outputs(stages: Stages, latents: torch.Tensor) -> dict[str, torch.Tensor]:
    """All representations of decoded latents; the waveform at the normalised level."""
    mel = _batched(stages.decode, latents)
    waves = _batched(stages.vocode, mel).cpu()
    return {
        "latent": latents,
        "log-mel": mel,
        "waveform": waves,
        "envelope": band_envelope(waves),
    }
