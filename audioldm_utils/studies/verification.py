"""Study ``07_correlation``: does DDCM's output follow its own input, and nothing else?

Beside each clip's own codes (``ddcm``) run nulls that share all but one thing: random indices from
the same x_T (``ddcm-random``), a prompt of another class (``ddcm-prompt``; with guidance too
``ddcm-prompt-guided``), other clips' outputs, and noise of the clip's own levels
(``envelope-noise``). Codes that this network chose with noise on its weights (``ddcm-wrong``) test
robustness.
``verification_tables`` reads the rows.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import numpy as np
import torch

from audioldm_utils.audio.clips import Clip, fit_length, to_model_rate
from audioldm_utils.audio.signals import Gain
from audioldm_utils.ddcm import bitstream
from audioldm_utils.ddcm.codec import coder_for, latent_frames
from audioldm_utils.ddcm.core import DDCM, Step
from audioldm_utils.ddcm.settings import Settings, header_for
from audioldm_utils.metrics.correlations import band_envelope, correlate, correlation_matrix
from audioldm_utils.model.conditioning import stack
from audioldm_utils.model.denoiser import GuidedUNet
from audioldm_utils.model.networks import Networks, normalise
from audioldm_utils.results.tables import ResultsBuilder
from audioldm_utils.studies.baselines import NOISES, envelope_noise
from audioldm_utils.studies.codebook_theory import (
    expected_cosine_greedy,
    rate_distortion_correlation,
)
from audioldm_utils.studies.prompts import other_prompt
from audioldm_utils.studies.rows import Row, clip_seed

#: Clips that go through the network together.
BATCH = 8
#: Draws of noise whose mean mel stands for it: one draw's fluctuations would count against it.
DRAWS = 8
#: Metric name to representation and the means that are taken away.
METRICS = {
    "latent_correlation": ("latent", ""),
    "latent_correlation_centred": ("latent", "bins"),
    "log_mel_correlation": ("log-mel", ""),
    "log_mel_correlation_centred": ("log-mel", "bins"),
    "log_mel_correlation_frame_centred": ("log-mel", "bins and frames"),
    "envelope_correlation": ("envelope", ""),
    "envelope_correlation_centred": ("envelope", "bins"),
    "waveform_correlation": ("waveform", ""),
}
#: Those that the claims rest on, and on which outputs are paired with the inputs of others.
JUDGED = (
    "latent_correlation_centred",
    "log_mel_correlation_centred",
    "log_mel_correlation_frame_centred",
)


def wrong_network(unet: torch.nn.Module, share: float, seed: int = 0) -> torch.nn.Module:
    """The perturbed network: a copy with noise of ``share`` times each weight tensor's spread."""
    wrong = copy.deepcopy(unet)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in wrong.parameters():
            if parameter.numel() > 1:
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(share * parameter.float().std() * noise.to(parameter))
    return wrong


def measure_correlations(
    clips: Sequence[Clip], networks: Networks, rows: ResultsBuilder, seed: int, seconds: float,
    steps: int, rates: Sequence[float], guidance: float, perturbation: float,
) -> None:  # fmt: skip
    """Correlations of every output with its own input and of the outputs of the nulls.

    Args:
        clips: compared with each other; none's rows depend on which others there are.
        seconds: of each clip's beginning; shorter ones are filled with silence.
        steps, rates: network calls of a run, at most; kbit/s, header included.
        guidance: of the other prompt, beside the same without guidance, as the codes have it.
        perturbation: noise on each weight tensor of the perturbed network, re its own spread.
    """
    count = round(seconds * networks.mel_config.sample_rate)
    waves = np.stack([fit_length(to_model_rate(clip), count) for clip in clips])
    waves, level = normalise(torch.from_numpy(waves))
    mels = _batched(networks.to_mel, waves)
    latents = _batched(networks.encode, mels)
    writer = _Writer(clips, rows, _representations(latents, mels, waves))
    writer.matched("vae", "", _outputs(networks, latents))
    seeds = [clip_seed(clip, seed) for clip in clips]
    _measure_noises(writer, networks, waves, seeds)
    networks.checkpoint.use_channels_last()
    wrong = wrong_network(networks.checkpoint.unet, perturbation, seed)
    prompts = [networks.embed([other_prompt(clip)]) for clip in clips]
    for rate in rates:
        stage = f"{rate:g} kbit/s"
        coder, bits = _coder(networks, Settings(kbps=rate, steps=steps, seed=seed), count, level)
        runs: dict[str, list[torch.Tensor]] = {}
        for first in range(0, len(clips), BATCH):
            here = slice(first, first + BATCH)
            other = stack(prompts[here])
            towards = {"ddcm-prompt": networks.denoiser(other)}
            towards["ddcm-prompt-guided"] = networks.denoiser(other, guidance)
            look = partial(writer.step, stage, here)
            made = _runs(coder, networks, latents[here], seeds[here], towards, wrong, look)
            for method, found in made.items():
                runs.setdefault(method, []).append(found)
        for method, found in runs.items():
            outputs = _outputs(networks, torch.cat(found)[:, :, : latents.shape[2]])
            writer.matched(method, stage, outputs)
            writer.pairs(method, stage, outputs, method in ("ddcm", "ddcm-random"))
        spent = [bits / seconds / 1000] * len(clips)
        writer.each(spent, "ddcm", stage, "rate", unit="kbit/s")
        for method, metric, value, band in theory(coder, latents[0].numel()):
            writer.each([value] * len(clips), method, stage, metric, band)


def _coder(networks: Networks, settings: Settings, count: int, level: Gain) -> tuple[DDCM, int]:
    """A coder for clips of so many samples, and the bits of a file, header included."""
    part = latent_frames(count)
    first = Gain(level.mean[:1], level.scale[:1])
    header = header_for(networks, settings, count, networks.mel_config.sample_rate, first, 1, part)
    coder = coder_for(networks, header, part)
    return coder, coder.bits + 8 * len(bitstream.to_bytes(header, b""))


def _measure_noises(
    writer: _Writer, networks: Networks, waves: torch.Tensor, seeds: Sequence[int]
) -> None:
    """Correlations of noise in each clip's own envelope, and its rate, header left out."""
    rate = networks.mel_config.sample_rate
    for kind in NOISES:
        made = [
            [envelope_noise(wave, rate, kind, seed + draw) for draw in range(DRAWS)]
            for wave, seed in zip(waves.numpy(), seeds, strict=True)
        ]
        sounds = torch.from_numpy(np.array([[one.samples for one in draws] for draws in made]))
        mels = torch.stack([networks.to_mel(draws).mean(dim=0) for draws in sounds])
        outputs = {
            "latent": _batched(networks.encode, mels),
            "log-mel": mels,
            "waveform": sounds[:, 0],
            "envelope": torch.stack([band_envelope(draws).mean(dim=0) for draws in sounds]),
        }
        writer.matched("envelope-noise", kind, outputs)
        writer.pairs("envelope-noise", kind, outputs)
        spent = [draws[0].payload_bits / waves.shape[1] * rate / 1000 for draws in made]
        writer.each(spent, "envelope-noise", kind, "rate", unit="kbit/s")


def strangers(clips: Sequence[Clip]) -> list[int]:
    """The next clip of another class for each, from the first on again; itself if there is none.

    A clip without a class shares it with none.
    """
    found = []
    for i, clip in enumerate(clips):
        later = [(i + step) % len(clips) for step in range(1, len(clips))]
        other = (j for j in later if not clip.category or clips[j].category != clip.category)
        found.append(next(other, i))
    return found


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
        for metric, (kind, remove) in METRICS.items():
            found = correlate(self.inputs[kind], outputs[kind], kind, remove)
            self.each(found.tolist(), method, stage, metric)

    def pairs(
        self, method: str, stage: str, outputs: dict[str, torch.Tensor], every: bool = False
    ) -> None:
        """Correlations of outputs with the inputs of a stranger, or of every other clip."""
        size = len(self.clips)
        wanted = {(i, j) for i, j in enumerate(strangers(self.clips)) if i != j}
        if every:
            wanted = {(i, j) for i in range(size) for j in range(size) if i != j}
        for metric in JUDGED:
            kind, remove = METRICS[metric]
            found = correlation_matrix(outputs[kind], self.inputs[kind], kind, remove)
            for i, j in sorted(wanted):
                row = Row(self.rows, self.clips[i], method, stage)
                row.add(metric, found[i, j], "1", f"with {self.clips[j].name}")

    def step(self, stage: str, here: slice, method: str, step: Step) -> None:
        """What one step of a batch's run believes and, of the clips' own codes, gains."""
        latents = self.inputs["latent"][here]
        believed = correlate(latents, step.x0_hat, "latent", "bins")
        found = {"denoised_correlation_centred": believed}
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
        yield "bound", "denoised_correlation_centred", reached, band
        if atoms:
            yield "theory", "choice_cosine", expected_cosine_greedy(states, atoms, values), band
            spent += coder.codebook.bits(atoms)


def _runs(
    coder: DDCM, networks: Networks, latents: torch.Tensor, seeds: Sequence[int],
    towards: dict[str, GuidedUNet], wrong: torch.nn.Module, look: Callable[[str, Step], None],
) -> dict[str, torch.Tensor]:  # fmt: skip
    """Method to the latents that its decoder ends with, for one batch."""
    right = networks.denoiser()
    matched = coder.encode(latents, right, callback=partial(look, "ddcm"))
    random = coder.generate(
        latents.shape[2], right, seeds=seeds, callback=partial(look, "ddcm-random"),
        device=networks.device,
    )  # fmt: skip
    foreign = coder.encode(latents, GuidedUNet(wrong, networks.text.unconditional, 1.0, False))
    return {
        "ddcm": matched.latents,
        "ddcm-random": random.latents,
        **{name: coder.decode(matched, network) for name, network in towards.items()},
        "ddcm-wrong": coder.decode(foreign, right),
    }


def _batched(function: Callable[..., torch.Tensor], values: torch.Tensor) -> torch.Tensor:
    return torch.cat([function(part) for part in values.split(BATCH)])


def _representations(
    latents: torch.Tensor, mels: torch.Tensor, waves: torch.Tensor
) -> dict[str, torch.Tensor]:
    return {"latent": latents, "log-mel": mels, "waveform": waves, "envelope": band_envelope(waves)}


def _outputs(networks: Networks, latents: torch.Tensor) -> dict[str, torch.Tensor]:
    """All representations of decoded latents; the waveform at the normalised level."""
    mels = _batched(networks.decode, latents)
    return _representations(latents, mels, _batched(networks.synthesise, mels).cpu())
