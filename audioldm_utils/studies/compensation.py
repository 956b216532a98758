"""Fitting a checkpoint's compensation on a folder of clips."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from audioldm_utils.audio import clips as audio
from audioldm_utils.audio.survey import loaded, spread_clips
from audioldm_utils.errors import UserError
from audioldm_utils.methods.enhance.bands import (
    BLOCK,
    Compensation,
    apply_gain,
    compensation_path,
    energy_of,
    high_bands,
    load_compensation,
    mel_of,
    read_table,
    relevant_difference,
    save_compensation,
    tonality,
)
from audioldm_utils.methods.enhance.coding import FieldCoder
from audioldm_utils.methods.enhance.stft import Stft, log_energy_of, log_mel_of
from audioldm_utils.model.mel import MelConfig
from audioldm_utils.model.networks import Networks

#: Only what lies less than this below a band's loudest value says what energy it holds, nat.
LOUD = 4.0
#: Knots of tonality, and the last of them, which one frame in a thousand exceeds, nat.
TONALITIES, MOST_TONAL = 9, 1.6
_STFT = Stft()


def fit(
    networks: Networks,
    folder: str | Path,
    limit: int | None = None,
    max_seconds: float = 5.0,
    progress: Callable[[int, int], None] | None = None,
    say: Callable[[str], None] = print,
) -> Compensation:
    """Fit the blind compensation of a checkpoint on clips that it will not be judged on.

    Args:
        folder: clips, as :func:`audioldm_utils.audio.clips.find_clips` takes them.
        limit: number of clips, spread evenly over the folder; None is all.
        max_seconds: of each clip.
        progress: gets the number of clips done and the number of all.
        say: takes a sentence for each clip that is left out.

    Raises:
        UserError: the folder holds no clips that can be used.
    """
    chosen = spread_clips(folder, limit)

    def waveforms() -> Iterator[tuple[str, np.ndarray]]:
        for done, clip in enumerate(loaded(chosen, max_seconds, say)):
            yield clip.name, audio.normalise(audio.to_model_rate(clip))[0].astype(np.float32)
            if progress:
                progress(done + 1, len(chosen))

    def reconstruct(waveform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mel = networks.decode(networks.encode(networks.to_mel(torch.from_numpy(waveform)[None])))
        vocoded = networks.synthesise(mel)[0, : len(waveform)]
        return mel[0].cpu().numpy(), vocoded.cpu().numpy()

    return fit_compensation(waveforms(), reconstruct, networks.checkpoint.fingerprint)


def fit_if_missing(networks: Networks, folder: str | Path, limit: int = 4) -> str:
    """Fit and store a checkpoint's compensation where there is none, so that a chapter can run.

    Returns:
        How the compensation that is now there came about, for a sentence.
    """
    checkpoint = networks.checkpoint
    place = checkpoint.path, checkpoint.fingerprint, networks.synthesis
    if compensation_path(*place).exists():
        found = load_compensation(*place)
        return f"fitted before on {len(found.clips)} clips"
    found = fit(networks, folder, limit)
    save_compensation(found, checkpoint.path, networks.synthesis)
    return f"fitted on {len(found.clips)} clips of this very run, for want of another"


def fit_compensation(
    clips: Iterable[tuple[str, np.ndarray]],
    reconstruct: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    fingerprint: str,
    knots: int = 14,
    shrink: float = 100.0,
    rounds: int = 2,
) -> Compensation:
    """Fit the mean log gain that each band and level of a reconstruction lacks.

    Args:
        clips: pairs of a name and a 16 kHz waveform ``(samples,)`` in the model's own scaling;
            read once, one clip at a time.
        reconstruct: what the checkpoint makes of such a waveform: the decoded log-mel
            ``(frames, n_mels)`` and the vocoded waveform ``(samples,)``.
        knots: levels of the table.
        shrink: frames' worth of evidence for no gain, so that rare levels stay put.
        rounds: passes; the second corrects what overlapping windows left of the first.

    Raises:
        UserError: no clip was given.
    """
    high = high_bands()
    levels = np.linspace(MelConfig().silence, 2.0, knots)
    shape = (knots, MelConfig().n_mels)
    table, mel_total, mel_weight = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    tonalities = np.linspace(0.0, MOST_TONAL, TONALITIES)
    held_total, held_weight = np.zeros((2, TONALITIES, MelConfig().n_mels))
    pairs: list[tuple[str, np.ndarray, np.ndarray, np.ndarray]] = []
    for name, waveform in clips:
        spectrum = _STFT.core(_STFT.analyse(waveform))
        reference = log_mel_of(spectrum).astype(np.float32)
        energy = log_energy_of(spectrum)
        decoded, estimate = reconstruct(waveform)
        pairs.append((name, reference, energy[:, high], estimate))
        decoded = decoded[: len(reference)]
        _accumulate(mel_total, mel_weight, levels, decoded, reference - decoded)
        # Energies average as energies: their logarithms' mean would be too low.
        held = np.exp(2 * (energy - reference))
        tonal = np.broadcast_to(tonality(decoded)[:, None], held.shape)
        counts = np.maximum(reference - (reference.max(0) - LOUD), 0.0)
        _accumulate(held_total, held_weight, tonalities, tonal, held, counts)
    if not pairs:
        raise UserError("no clips to fit the compensation on; name a folder that holds some")

    def compensated(estimate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        before = mel_of(estimate)
        return before, apply_gain(estimate, read_table(levels, table, before))

    for _ in range(rounds):
        total, weight = np.zeros(shape), np.zeros(shape)
        for _, reference, _, estimate in pairs:
            before, after = compensated(estimate)
            _accumulate(total, weight, levels, before, reference - mel_of(after))
        table = table + total / (weight + shrink)
    scale = np.zeros((BLOCK, len(high)))
    blocks = 0
    for _, _, energy, estimate in pairs:
        _, after = compensated(estimate)
        missing = relevant_difference(energy, energy_of(after)[:, high])
        coefficients = FieldCoder(scale).transform(missing)
        scale += np.abs(coefficients).sum(0)
        blocks += len(coefficients)
    # Mean absolute values of single coefficients are noisy: smooth them along time.
    scale /= blocks
    padded = np.pad(scale[1:], ((1, 1), (0, 0)), mode="edge")
    scale[1:] = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    mel_table = mel_total / (mel_weight + shrink)
    # Knots that nothing reached hold what the band holds on average.
    average = held_total.sum(0) / np.maximum(held_weight.sum(0), 1e-9)
    concentration = 0.5 * np.log((held_total + shrink * average) / (held_weight + shrink))
    names = tuple(sorted(pair[0] for pair in pairs))
    return Compensation(
        fingerprint, levels, table, mel_table, tonalities, concentration, scale, names
    )


def _accumulate(
    total: np.ndarray,
    weight: np.ndarray,
    levels: np.ndarray,
    at: np.ndarray,
    value: np.ndarray,
    counts: np.ndarray | None = None,
) -> None:
    """Spread ``value`` over the two knots around ``at``, band by band (linear splines).

    ``counts`` weighs the values; None weighs all alike.
    """
    counts = np.ones_like(value) if counts is None else counts
    position = np.clip((at - levels[0]) / (levels[1] - levels[0]), 0, len(levels) - 1.001)
    lower = position.astype(int)
    upper_share = position - lower
    for band in range(at.shape[1]):
        for knots, share in ((lower, 1 - upper_share), (lower + 1, upper_share)):
            knot, weights = knots[:, band], share[:, band] * counts[:, band]
            total[:, band] += np.bincount(knot, weights * value[:, band], len(levels))
            weight[:, band] += np.bincount(knot, weights, len(levels))
