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

The other network is the checkpoint's UNet with noise of a share of each weight
tensor's own standard deviation: a checkpoint of the same layout that was trained otherwise.
Another clip's codes need no run of their own: what they decode to is that clip's own output.
"""

from __future__ import annotations

import copy
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from audioldm_utils.audio.clips import Clip, fit_length, to_model_rate
from audioldm_utils.ddcm import bitstream
from audioldm_utils.ddcm.codebook.theory import expected_cosine_greedy, rate_distortion_correlation
from audioldm_utils.ddcm.codec import coder_for, latent_frames
from audioldm_utils.ddcm.settings import Settings, header_for
from audioldm_utils.metrics.correlations import band_envelope, correlate, correlation_matrix
from audioldm_utils.model.conditioning import stack
from audioldm_utils.model.denoiser import GuidedUNet
from audioldm_utils.audio.signals import Gain
from audioldm_utils.model.networks import normalise
from audioldm_utils.studies.prompts import other_prompt
from audioldm_utils.studies.rows import Row

if TYPE_CHECKING:
    from audioldm_utils.ddcm.core import DDCM, Step
    from audioldm_utils.model.networks import Stages
    from audioldm_utils.results.tables import ResultsBuilder

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


def wrong_network(unet: torch.nn.Module, share: float, seed: int = 0) -> torch.nn.Module:
    """A copy of the network with noise of ``share`` times each tensor's spread on its weights."""
    wrong = copy.deepcopy(unet)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in wrong.parameters():
            if parameter.numel() > 1:
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(share * parameter.float().std() * noise.to(parameter))
    return wrong


def measure_correlations(
    clips: Sequence[Clip], stages: Stages, rows: ResultsBuilder, seed: int, seconds: float,
    steps: int, rates: Sequence[float], guidance: float, perturbation: float,
) -> None:  # fmt: skip
    """Correlations of every output with its own input and of the outputs of the nulls.

    Args:
        clips: compared with each other; none's rows depend on which others there are.
        seconds: of each clip's beginning; shorter ones are filled with silence.
        steps: network calls of a run, at most.
        rates: targets in kbit/s, header included.
        guidance: of the other prompt; without, a prompt moves these codes little.
        perturbation: noise on each weight tensor of the wrong network, re its own spread.
    """
    count = round(seconds * stages.mel_config.sample_rate)
    waves = np.stack([fit_length(to_model_rate(clip), count) for clip in clips])
    waves, level = normalise(torch.from_numpy(waves))
    mels = _batched(stages.to_mel, waves)
    latents = _batched(stages.encode, mels)
    writer = _Writer(clips, rows, _representations(latents, mels, waves))
    writer.matched("vae", "", _outputs(stages, latents))
    stages.checkpoint.use_channels_last()
    wrong = wrong_network(stages.checkpoint.unet, perturbation, seed)
    prompts = [stages.embed([other_prompt(clip)]) for clip in clips]
    seeds = [seed * 2**32 + zlib.crc32(clip.name.encode()) for clip in clips]
    for rate in rates:
        stage = f"{rate:g} kbit/s"
        coder, bits = _coder(stages, Settings(kbps=rate, steps=steps, seed=seed), count, level)
        runs: dict[str, list[torch.Tensor]] = {}
        for first in range(0, len(clips), BATCH):
            here = slice(first, first + BATCH)
            towards = stages.denoiser(stack(prompts[here]), guidance)
            made = _runs(
                coder, stages, latents[here], seeds[here], towards, wrong,
                partial(writer.step, stage, here),
            )  # fmt: skip
            for method, found in made.items():
                runs.setdefault(method, []).append(found)
        for method, found in runs.items():
            outputs = _outputs(stages, torch.cat(found)[:, :, : latents.shape[2]])
            writer.matched(method, stage, outputs)
            pairs = {"ddcm": tuple(METRICS), "ddcm-random": CONTROL}.get(method, ())
            writer.pairs(method, stage, outputs, pairs)
        spent = [bits / seconds / 1000] * len(clips)
        writer.each(spent, "ddcm", stage, "rate", unit="kbit/s")
        for method, metric, value, band in theory(coder, latents[0].numel()):
            writer.each([value] * len(clips), method, stage, metric, band)


def _coder(stages: Stages, settings: Settings, count: int, level: Gain) -> tuple[DDCM, int]:
    """A coder for clips of so many samples, and the bits of a file, header included."""
    part = latent_frames(count)
    first = Gain(level.mean[:1], level.scale[:1])
    header = header_for(stages, settings, count, stages.mel_config.sample_rate, first, 1, part)
    coder = coder_for(stages, header, part)
    return coder, coder.bits + 8 * len(bitstream.to_bytes(header, b""))


class _Writer:
    """Adds the rows of a set of clips, each about one of them or two."""

    def __init__(
        self, clips: Sequence[Clip], rows: ResultsBuilder, inputs: dict[str, torch.Tensor]
    ) -> None:
        self.clips, self.rows, self.inputs = clips, rows, inputs

    def each(
        self, values: Iterable[float], method: str, stage: str, metric: str, band: str = "",
        unit: str = "1", here: slice = slice(None),
    ) -> None:  # fmt: skip
        """One number of each clip, or of some of them."""
        for clip, value in zip(self.clips[here], values, strict=True):
            Row(self.rows, clip, method, stage).add(metric, value, unit, band)

    def matched(self, method: str, stage: str, outputs: dict[str, torch.Tensor]) -> None:
        """Correlations of outputs with their own inputs."""
        for metric, (kind, centred) in METRICS.items():
            found = correlate(self.inputs[kind], outputs[kind], kind, centred)
            self.each(found.tolist(), method, stage, metric)

    def pairs(
        self, method: str, stage: str, outputs: dict[str, torch.Tensor], metrics: Iterable[str]
    ) -> None:
        """Correlations of outputs with the inputs of all other clips."""
        for metric in metrics:
            kind, centred = METRICS[metric]
            found = correlation_matrix(outputs[kind], self.inputs[kind], kind, centred)
            for i, j in np.argwhere(~np.eye(len(self.clips), dtype=bool)):
                row = Row(self.rows, self.clips[i], method, stage)
                row.add(metric, found[i, j], "1", f"with {self.clips[j].name}")

    def step(self, stage: str, here: slice, method: str, step: Step) -> None:
        """What one step of a batch's run believes and, of the clips' own codes, gains."""
        latents = self.inputs["latent"][here]
        found = {
            "denoised_correlation": correlate(latents, step.x0_hat, "latent"),
            "denoised_correlation_centred": correlate(latents, step.x0_hat, "latent", True),
        }
        if method == "ddcm" and step.noise is not None:
            found["choice_cosine"] = step.cosine()
        band = f"call {step.index + 1:03d}"
        for metric, values in found.items():
            self.each(values.tolist(), method, stage, metric, band, here=here)


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


def _runs(
    coder: DDCM, stages: Stages, latents: torch.Tensor, seeds: Sequence[int], towards: GuidedUNet,
    wrong: torch.nn.Module, look: Callable[[str, Step], None],
) -> dict[str, torch.Tensor]:  # fmt: skip
    """Method to the latents that its decoder ends with, for one batch."""
    right = stages.denoiser()
    matched = coder.encode(latents, right, callback=partial(look, "ddcm"))
    random = coder.generate(
        latents.shape[2], right, seeds=seeds, callback=partial(look, "ddcm-random"),
        device=stages.device,
    )  # fmt: skip
    prompted = coder.decode(matched, towards)
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


def _representations(
    latents: torch.Tensor, mels: torch.Tensor, waves: torch.Tensor
) -> dict[str, torch.Tensor]:
    return {"latent": latents, "log-mel": mels, "waveform": waves, "envelope": band_envelope(waves)}


def _outputs(stages: Stages, latents: torch.Tensor) -> dict[str, torch.Tensor]:
    """All representations of decoded latents; the waveform at the normalised level."""
    mels = _batched(stages.decode, latents)
    return _representations(latents, mels, _batched(stages.vocode, mels).cpu())
