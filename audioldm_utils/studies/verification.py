"""Study ``07_correlation``: does DDCM's output follow its own input, and nothing else?

Beside each clip's own codes (``ddcm``) run nulls that share all but one thing: random indices from
the same x_T (``ddcm-random``), a prompt of another class (``ddcm-prompt``), codes that another
network chose (``ddcm-wrong``: this one with noise on its weights), and the outputs of other clips.
"""

from __future__ import annotations

import copy
import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, fields
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from audioldm_utils.audio.clips import Clip, fit_length, to_model_rate
from audioldm_utils.audio.signals import Gain
from audioldm_utils.ddcm import bitstream
from audioldm_utils.ddcm.codec import coder_for, latent_frames
from audioldm_utils.ddcm.settings import Settings, header_for
from audioldm_utils.metrics.correlations import band_envelope, correlate, correlation_matrix
from audioldm_utils.metrics.statistics import holm
from audioldm_utils.model.conditioning import stack
from audioldm_utils.model.denoiser import GuidedUNet
from audioldm_utils.model.networks import normalise
from audioldm_utils.results.summaries import per_clip, select, summarise
from audioldm_utils.studies import correlation_tests
from audioldm_utils.studies.codebook_theory import (
    expected_cosine_greedy,
    rate_distortion_correlation,
)
from audioldm_utils.studies.prompts import other_prompt
from audioldm_utils.studies.rows import Row

if TYPE_CHECKING:
    import pandas as pd

    from audioldm_utils.ddcm.core import DDCM, Step
    from audioldm_utils.model.networks import Networks
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
#: Those that the claim rests on, and on which the random indices are paired with every input:
#: the negative control.
JUDGED = ("latent_correlation_centred", "log_mel_correlation_centred")
#: Method to the name of its null.
NULLS = {
    "ddcm-random": "random indices",
    "ddcm-prompt": "another prompt",
    "ddcm-wrong": "wrong checkpoint's codes",
}
#: What a comparison has to show.
ALPHA, EFFECT = 0.01, 0.8
#: Permutations: so many that the smallest p-value, times all comparisons, stays below ``ALPHA``.
DRAWS = 29999


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
    clips: Sequence[Clip], networks: Networks, rows: ResultsBuilder, seed: int, seconds: float,
    steps: int, rates: Sequence[float], guidance: float, perturbation: float,
) -> None:  # fmt: skip
    """Correlations of every output with its own input and of the outputs of the nulls.

    Args:
        clips: compared with each other; none's rows depend on which others there are.
        seconds: of each clip's beginning; shorter ones are filled with silence.
        steps, rates: network calls of a run, at most; kbit/s, header included.
        guidance: of the other prompt; without, a prompt moves these codes little.
        perturbation: noise on each weight tensor of the wrong network, re its own spread.
    """
    count = round(seconds * networks.mel_config.sample_rate)
    waves = np.stack([fit_length(to_model_rate(clip), count) for clip in clips])
    waves, level = normalise(torch.from_numpy(waves))
    mels = _batched(networks.to_mel, waves)
    latents = _batched(networks.encode, mels)
    writer = _Writer(clips, rows, _representations(latents, mels, waves))
    writer.matched("vae", "", _outputs(networks, latents))
    networks.checkpoint.use_channels_last()
    wrong = wrong_network(networks.checkpoint.unet, perturbation, seed)
    prompts = [networks.embed([other_prompt(clip)]) for clip in clips]
    seeds = [seed * 2**32 + zlib.crc32(clip.name.encode()) for clip in clips]
    for rate in rates:
        stage = f"{rate:g} kbit/s"
        coder, bits = _coder(networks, Settings(kbps=rate, steps=steps, seed=seed), count, level)
        runs: dict[str, list[torch.Tensor]] = {}
        for first in range(0, len(clips), BATCH):
            here = slice(first, first + BATCH)
            towards = networks.denoiser(stack(prompts[here]), guidance)
            look = partial(writer.step, stage, here)
            made = _runs(coder, networks, latents[here], seeds[here], towards, wrong, look)
            for method, found in made.items():
                runs.setdefault(method, []).append(found)
        for method, found in runs.items():
            outputs = _outputs(networks, torch.cat(found)[:, :, : latents.shape[2]])
            writer.matched(method, stage, outputs)
            pairs = {"ddcm": tuple(METRICS), "ddcm-random": JUDGED}.get(method, ())
            writer.pairs(method, stage, outputs, pairs)
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
    coder: DDCM, networks: Networks, latents: torch.Tensor, seeds: Sequence[int],
    towards: GuidedUNet, wrong: torch.nn.Module, look: Callable[[str, Step], None],
) -> dict[str, torch.Tensor]:  # fmt: skip
    """Method to the latents that its decoder ends with, for one batch."""
    right = networks.denoiser()
    matched = coder.encode(latents, right, callback=partial(look, "ddcm"))
    random = coder.generate(
        latents.shape[2], right, seeds=seeds, callback=partial(look, "ddcm-random"),
        device=networks.device,
    )  # fmt: skip
    prompted = coder.decode(matched, towards)
    foreign = coder.encode(latents, GuidedUNet(wrong, networks.text.unconditional, 1.0, False))
    return {
        "ddcm": matched.latents,
        "ddcm-random": random.latents,
        "ddcm-prompt": prompted,
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


def name_of(metric: str) -> str:
    """A correlation as tables and figures call it: ``log-mel, means removed``."""
    name, removed = metric.removesuffix("_centred"), metric.endswith("_centred")
    name = name.removesuffix("_correlation").replace("_", "-")
    return f"{name}, means removed" if removed else name


def rates_of(table: pd.DataFrame) -> list[str]:
    """The stages of the study, from the lowest rate up."""
    stages = set(select(table, method="ddcm")["stage"])
    return sorted(stages, key=lambda stage: float(stage.split()[0]))


def matrix(table: pd.DataFrame, method: str, stage: str, metric: str) -> pd.DataFrame:
    """Correlation of each output (row) with each input (column); the diagonal is matched."""
    rows = select(table, method=method, stage=stage, metric=metric)
    rows = rows[(rows["band"] == "") | rows["band"].str.startswith("with ")]
    other = rows["band"].str.removeprefix("with ").where(rows["band"] != "", rows["clip"])
    return rows.assign(other=other).pivot(index="clip", columns="other", values="value")


def comparisons(
    table: pd.DataFrame, matched: str = "ddcm", metrics: Sequence[str] = tuple(METRICS)
) -> pd.DataFrame:
    """Matched correlations of ``matched`` against every null, at every rate.

    Args:
        table: rows of the study, of at least two clips.
        matched: ``ddcm``; or ``ddcm-random``, which is compared with other clips only.

    Returns:
        One row a comparison: ``rate`` and the fields of ``correlation_tests.Comparison``, p-values
        corrected by Holm over all rows, and ``follows``.
    """
    import pandas as pd

    found = []
    for stage in rates_of(table):
        matrices = {metric: matrix(table, matched, stage, metric) for metric in metrics}
        clips = list(next(iter(matrices.values())).index)
        by_clip = table.drop_duplicates("clip").set_index("clip")["class"]
        # A clip without a class shares it with none.
        classes = [by_clip[clip] or clip for clip in clips]
        own = table[(table["stage"] == stage) & (table["band"] == "")]
        nulls = {
            label: {
                metric: per_clip(select(own, method=null, metric=metric))[clips].to_numpy()
                for metric in metrics
            }
            for null, label in (NULLS.items() if matched == "ddcm" else ())
        }
        values = {metric: frame.to_numpy() for metric, frame in matrices.items()}
        diagonals = {metric: np.diag(value) for metric, value in values.items()}
        verified = correlation_tests.verify(diagonals, nulls, values, classes, draws=DRAWS)
        found += [{"rate": stage, **asdict(one)} for one in verified]
    out = pd.DataFrame(
        found, columns=["rate", *(field.name for field in fields(correlation_tests.Comparison))]
    )
    out["p_corrected"] = holm(out["p"])
    out["follows"] = (out["p_corrected"] < ALPHA) & (out["d_z"] >= EFFECT)
    return out


def fewest_clips(tests: int) -> int:
    """Clips without which nothing can be shown: no sign-flip p-value of n is below 2^-n.

    Holm multiplies the smallest one by the number of tests.
    """
    return math.floor(math.log2(tests / ALPHA)) + 1


def verdict(tests: pd.DataFrame) -> str:
    """How the clip's own codes stand to the nulls, from :func:`comparisons`, for a sentence."""
    claim = tests[tests["representation"].isin(JUDGED)]
    if claim["follows"].all():
        return "above every null"
    n, needed = int(claim["n"].min()), fewest_clips(len(tests))
    if n >= needed:
        return "not above every null as asked"
    above = "above every null" if (claim["difference"] > 0).all() else "not above every null"
    clips = "1 clip" if n == 1 else f"{n} clips"
    return f"{above} on average ({clips}, too few to test: that takes {needed})"


def control(table: pd.DataFrame) -> pd.DataFrame:
    """The negative control: random indices must not follow the inputs that they are paired with."""
    return comparisons(table, "ddcm-random", JUDGED)


def by_call(table: pd.DataFrame, stage: str, metric: str) -> pd.DataFrame:
    """Means over clips after each network call of a run, with column ``call`` from 1."""
    rows = select(table, stage=stage, metric=metric)
    summary = summarise(rows[rows["band"].str.startswith("call ")])
    return summary.assign(call=summary["band"].str.removeprefix("call ").astype(int))
